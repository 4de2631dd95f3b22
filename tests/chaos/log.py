"""The bus's log as the checks need it: every record, and for each output its place and what it says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import orjson

from bus.audit.record import CONTENT_BYTES, OutputNote, Record
from bus.core.message import TASK_CLAIM
from bus.core.outputs import BUS
from bus.core.parking import WHY as PARKED
from bus.core.pipeline import REKEYED
from bus.ports import Entry
from bus.shell import history_log
from bus.shell.store_rules import entries_of
from tests.chaos.agent import CONCURRENCY
from tests.chaos.effects import digest_of

SUBSCRIBERS = {
    "chaos.happened": ("ear_one", "ear_two"),
    "chaos.ended": ("ear_one",),
    "chaos.began": ("stepper",),
    "work.replied": ("auditor",),
    "single.replied": ("auditor",),
    "chaos.gathered": ("ear_one",),
    "chaos.called": ("ear_one",),
    "chaos.served": ("ear_two",),
    "chaos.waited": ("ear_two",),
    "chaos.paired": ("ear_two",),
}
"""Places that an event reaches, as routes/chaos/agents.yaml says."""

SERVE = "chaos/serve"  # the route that serves one message of a key at a time
ACCEPTED = ("routed", "waiting")
"""How answers end that were taken."""


class Published(NamedTuple):
    """One output that the log holds. `where` is (partition, seq, index)."""

    where: tuple[int, int, int]
    id: str
    places: tuple[str, ...]
    digest: str


def content_of(body: bytes) -> str:
    """A body as records name it."""
    return blake2b(body, digest_size=CONTENT_BYTES).hexdigest()


class Turn(NamedTuple):
    """What a key's run has sent: its request, or what it ends with."""

    where: tuple[int, int, int]
    token: str
    ends: bool


@dataclass(slots=True)
class Log:
    """Args:
    decided: the records of each body that decided it: no duplicate, not the hop to its own partition, nor that it waits
        for what is on its way there.
    inputs: ids of all inputs.
    published: every output.
    elsewhere: outputs that the store says did not end as delivered, and those still held.
    bounced: ids of messages that the broker gave back.
    decided_s: when the inputs of each partition were decided, epoch seconds, in order.
    ends: how many records ended how.
    go: (id, agent) of requests that the bus let an agent work on when it asked; `late_go`: after they were answered.
    answered: ids of requests that have an answer.
    turns: by the key that serves one at a time: number in the log, token and whether it ends, of each begin and end.
    """

    decided: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    inputs: set[str] = field(default_factory=set)
    published: list[Published] = field(default_factory=list)
    elsewhere: set[tuple[int, int, int]] = field(default_factory=set)
    bounced: set[str] = field(default_factory=set)
    decided_s: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    go: set[tuple[str, str]] = field(default_factory=set)
    late_go: set[str] = field(default_factory=set)
    turns: dict[str, list[Turn]] = field(default_factory=lambda: defaultdict(list))
    answered: set[str] = field(default_factory=set)


def read_log(store: history_log.Log) -> Log:
    """Read all of it."""
    log = Log()
    mark, rows = store.after((), 64)
    while rows:
        for row in rows:
            entries = entries_of(row.partition, row.first_seq, row.blob)
            for record, entry in zip(history_log.records_of(row), entries, strict=True):
                _note(record, entry, log)
        mark, rows = store.after(mark, 64)
    log.elsewhere |= {(each.partition, each.seq, each.index) for each in store.exceptions(None, 1_000_000)}
    return log


def _note(record: Record, entry: Entry, log: Log) -> None:
    log.ends[record.end] += 1
    log.inputs.add(record.id)
    log.decided_s[record.partition].append(record.decided_s)
    if record.queue.endswith(".bounced"):
        log.bounced.add(record.id)
    _about_tasks(record, log)
    if record.end != "duplicate" and record.why not in (REKEYED, PARKED):
        log.decided[record.content].append(record)
    for index, (note, output) in enumerate(zip(record.outputs, entry.outputs, strict=True)):
        where = record.partition, record.seq, index
        log.published.append(Published(where, note.id, _places(note), digest_of(output.body)))
        if record.route == SERVE and note.kind in ("capability", "event"):
            data = orjson.loads(output.body)["data"]
            log.turns[data["key"]].append(Turn(where, data["token"], note.kind == "event"))


def _about_tasks(record: Record, log: Log) -> None:
    task = record.correlation or ""
    if record.type == TASK_CLAIM and record.why.startswith("claim: go"):
        log.go.add((task, record.source))
        if task in log.answered:
            log.late_go.add(task)
    elif record.type.endswith((".replied", ".failed")) and record.end in ACCEPTED and record.source != BUS:
        log.answered.add(task)


def _places(note: OutputNote) -> tuple[str, ...]:
    if note.kind == "event":
        return SUBSCRIBERS.get(note.name, ())
    if note.kind in ("dead", "invalid", "ingress"):
        return (note.kind,)
    if note.kind == "client" or (note.kind == "agent" and note.name in CONCURRENCY):
        return ()  # what the bus tells the SDK, which no sink sees
    return (note.name,)
