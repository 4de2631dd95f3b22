"""What `bus.shell.judge` makes of a batch."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from bus.core.actions import Decision
from bus.ports import Entry, InboxKey
from bus.shell.ledger import Open


@dataclass(slots=True)
class Judged:
    """One batch, decided and numbered, ready to be committed."""

    entries: dict[int, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    opens: list[Open] = field(default_factory=list)
    keys: dict[int, list[tuple[bytes, int]]] = field(default_factory=lambda: defaultdict(list))
    decisions: list[Decision] = field(default_factory=list)
    next_due_s: float | None = None


class Case(NamedTuple):
    """One input, decided and numbered. `behind` is the number of the input that it repeats."""

    partition: int
    seq: int
    decision: Decision
    key: InboxKey | None
    behind: int | None
