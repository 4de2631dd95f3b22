"""The express lane, where its engine is installed: usual messages of a batch decided without the interpreter's lock.

The engine is optional (`bus/express`); without it everything is decided by `bus.core.pipeline`, to the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import orjson

from bus.audit.record import FORMAT
from bus.core.actions import Decision, Delivery, Output
from bus.core.express import plan_of
from bus.core.facts import Facts
from bus.core.message import Attribute, Message
from bus.core.outputs import NO_HEADERS
from bus.core.table import RouteTable
from bus.ports import Entry, InboxKey, Received
from bus.shell.engine import ENGINE
from bus.shell.judged import Case

_log = logging.getLogger(__name__)

LEARNED_AT = 16
"""How often a message came when it is learned: that takes 130 us and more, which some ten messages win back."""

_MOST_PLANS = 2048
_MOST_COUNTED = 16_384
_SMALL = 4096  # bytes of a body
_LONGEST_SEAL = 64  # bytes

Row: TypeAlias = "tuple[Quick, Delivery, int, int, float]"
"""What came, what was decided on it, the partition, its number there, and epoch seconds when it came."""


class Quick(NamedTuple):
    """One usual message, decided. `record` is its audit record but for place and times."""

    decision: Decision
    key: InboxKey
    record: bytes


def _attributes(body: bytes) -> dict[str, Attribute]:
    found: dict[str, Attribute] = orjson.loads(body)
    found.pop("data", None)
    return found


class Attributes(Mapping[str, Attribute]):
    """Attributes of a usual message. Hardly anybody asks for them once it is decided: it is read again then.

    Of a large one they are read at once: a decision is kept until its outputs are confirmed, and must not keep a body.
    """

    __slots__ = ("_body", "_read")

    def __init__(self, body: bytes) -> None:
        small = len(body) <= _SMALL
        self._body = body if small else b""
        self._read = None if small else _attributes(body)

    @property
    def read(self) -> dict[str, Attribute]:
        """All of them."""
        if self._read is None:
            self._read = _attributes(self._body)
        return self._read

    def __getitem__(self, name: str) -> Attribute:
        return self.read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.read)

    def __len__(self) -> int:
        return len(self.read)


class Express:
    """Args:
    table: the compiled configuration.
    facts: seal, identity and limits.
    """

    def __init__(self, table: RouteTable, facts: Facts, module: Any) -> None:
        limits = facts.limits
        self._table = table
        self._came: dict[tuple[str, str], int] = {}  # how often, until it is learned
        self._known: set[tuple[str, str]] = set()  # what has a plan, or cannot have one
        self._plans = 0
        self._lane = module.Lane(
            (Output, Decision, Message, Attributes, InboxKey, Quick, Entry), NO_HEADERS, FORMAT,
            facts.seal, table.catalog.version, facts.identity == "shared", limits.body_bytes, limits.depth, limits.hops,
        )  # fmt: skip

    def learn(self, message: Message) -> None:
        """A message came that was not decided here: when it has come often, others like it may be."""
        pair = message.type, message.source
        if pair in self._known or self._plans >= _MOST_PLANS:
            return
        came = self._came[pair] = self._came.get(pair, 0) + 1
        if came < LEARNED_AT:
            if len(self._came) > _MOST_COUNTED:  # an agent may publish under any number of names
                self._came.clear()
            return
        del self._came[pair]
        if len(self._known) > _MOST_COUNTED:
            self._known.clear()
        self._known.add(pair)
        plan = plan_of(self._table, *pair)
        if plan is None:
            return
        try:
            self._lane.learn(*pair, orjson.dumps(plan))
            self._plans += 1
        except (ValueError, TypeError) as error:  # a contract, or a literal, that only Python can read
            _log.warning("`%s` from `%s` is left to Python: %s", *pair, error)

    def judge(self, batch: Sequence[Received], queues: set[str], now: str) -> list[Quick | None]:
        """Decide what is usual and came for the first time, from one of these queues; None for all else."""
        made: list[Quick | None] = self._lane.judge([each.delivery for each in batch], queues, now)
        return made

    def entries(
        self,
        batch: Sequence[Received],
        cases: Sequence[Case],
        quick: Sequence[Quick | None],
        now_s: float,
        decided_s: float,
    ) -> list[Entry]:
        """What is recorded of what was decided here of a batch; what has no time of arrival came at `now_s`."""
        rows = [
            (made, received.delivery, case.partition, case.seq, received.arrived_s or now_s)
            for received, case, made in zip(batch, cases, quick, strict=True)
            if made is not None
        ]
        return self.record(rows, decided_s)

    def record(self, rows: Sequence[Row], decided_s: float) -> list[Entry]:
        """Complete the records, as `bus.audit.record.encode` writes them but for the order of their fields."""
        entries: list[Entry] = self._lane.record(rows, decided_s)
        return entries


class NoLane:
    """Where there is no engine: everything is left to Python."""

    def learn(self, message: Message) -> None: ...

    def judge(self, batch: Sequence[Received], queues: set[str], now: str) -> list[Quick | None]:
        return [None] * len(batch)

    def entries(self, *_batch: object) -> list[Entry]:
        return []


def express_lane(table: RouteTable, facts: Facts) -> Express | NoLane:
    """The lane, or none where its engine is not installed, or the seal is not of a length that it takes."""
    return Express(table, facts, ENGINE) if ENGINE is not None and 0 < len(facts.seal) <= _LONGEST_SEAL else NoLane()
