"""What `history` reads a log from: one small port, a file or a database behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from bus.audit.record import Record, decode
from bus.audit.segment import records
from bus.core.ingress import Ingress
from bus.ports import Excepted

Mark: TypeAlias = tuple[int, ...]
"""How far a reader has come. Only the log that made it knows what it says; the empty one is the beginning. Of two
marks of one log the earlier one is nowhere greater, number by number, and not longer."""


@dataclass(frozen=True, slots=True)
class LogRow:
    """A segment of the log.

    Args:
        position: its place in the order of commits: rises, with gaps.
    """

    position: int
    partition: int
    first_seq: int
    count: int
    blob: bytes


class Log(Protocol):
    """The log of one store, for reading beside the bus that writes it, or after it has stopped.

    Guarantees:
    - nothing is ever written to the store, and no look keeps its writer waiting;
    - `after` gives every segment exactly once to who passes on its marks, a partition's own in order. Over partitions
      they come in the order of commits, but for those that were under way at the same time.
    A log is used by the thread that opened it. Every method raises StoreFailed when the store cannot be read.
    """

    @property
    def name(self) -> str:
        """What the log is called in messages to people; no password in it."""

    @property
    def store_id(self) -> str:
        """Identity of the store."""

    @property
    def index(self) -> Path:
        """The file for the side index of this store."""

    def last(self) -> int:
        """Position of the newest segment; 0 when there is none."""

    def mark(self, position: int) -> Mark:
        """The mark that has everything up to `position` behind it."""

    def after(self, mark: Mark, limit: int) -> tuple[Mark, Sequence[LogRow]]:
        """Read at most `limit` segments that follow a mark; returns the mark behind them."""

    def at(self, position: int) -> LogRow:
        """Read the segment at a position that this log gave."""

    def before(self, position: int) -> tuple[int, int]:
        """Return how many entries the segment at `position` has, and the next lower position, or 0."""

    def holding(self, partition: int, seq: int) -> LogRow | None:
        """Read the segment that has an entry."""

    def done(self) -> Mapping[int, int]:
        """The watermark of each partition."""

    def ingress(self) -> Ingress:
        """What partitions there are."""

    def backlog(self) -> Mapping[int, tuple[int, int]]:
        """By partition, how many inputs are recorded and unfinished, and how many outputs are held, without leases."""

    def fates(self, partition: int, seq: int) -> Sequence[tuple[int, str, str, float]]:
        """What became of an entry's outputs otherwise than delivered: (index, how, reason, time)."""

    def exceptions(self, how: str | None, limit: int) -> Sequence[Excepted]:
        """List outputs that did not end as delivered, newest first."""

    def close(self) -> None:
        """Let go."""


def records_of(row: LogRow) -> list[Record]:
    """Read the audit records of a segment."""
    return [decode(each) for each in records(row.partition, row.first_seq, row.blob)]
