"""An instance: one run of a route that has memory, as data.

Theory of operation. A route with memory is a reducer: events in, state and commands out. Its state is not a place in
the flow but what the flow has learned: the message that it began with, the results of what it has asked and waited for
(`memo`), and what it still waits for (`open`), both by path. Each time something happens the flow runs again from its
start; what is in `memo` is not done again, and where it needs what is not there yet it stops (`Suspended`). So a step
stays one plain function that reads top to bottom, and whatever a step can express in Python, it can wait in the middle
of. That is right only if a flow does the same each time with the same results: steps read no clock and no chance, an
instance stays with the configuration that it began under, and what may change is asked for once (`Memory.once`).

    path      where in the flow: ids of steps with the branch, item, round and attempt they are in
              `call#1`, `call#1@2` (second attempt), `scatter_gather#1.sentiment`, `split#1[7]/call#1`, `choose#1/to`

The state is committed with the inbox key and the outputs of what made it change, in the partition of its home key,
whose owner is its only writer. Beside instances there are cells, which those of one partition share (bus.core.memory).
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson

from bus.core import findings
from bus.core.actions import Failure
from bus.core.address import ReturnAddress
from bus.core.message import CONVERSATION, ID, REDRIVE, SOURCE, Json, Message

FORMAT = 1
MOST_BYTES = 4 * 1024 * 1024
"""Of one instance's state: a message of the largest size, and a dozen such answers. Larger data is a claim check's."""


def instance_id(message: Message, route: str) -> str:
    """Id of the run of a route on a message, 32 hex digits: a repeat of the message has the same, a redrive another."""
    given = message.attributes
    text = f"{given[SOURCE]!s}\0{given.get(CONVERSATION) or given[ID]!s}\0{given[ID]!s}\0{route}"
    if REDRIVE in given:
        text += f"\0{given[REDRIVE]!s}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def memory_key(instance: str) -> str:
    """The key under which an instance is remembered."""
    return f"flow:{instance}"


@dataclass(slots=True)
class Instance:
    """A run as it stands.

    Args:
        id: see `instance_id`.
        route: `integration/route`.
        config: version of the configuration that it runs under.
        home: key of the partition that it lives in, "" for that of its conversation.
        event: the message as it was matched, as a structured CloudEvent.
        back: who asked, or None.
        began_s: epoch seconds of its start.
        deadline_s: epoch seconds by which all of it must be done, or None.
        owner: False for a run of an observing route, whose failure touches nobody.
        user: the broker user that the message came from, as the broker verified it.
        memo: results by path, JSON; see bus.core.memory.
        open: what it waits for by path: `{"due": epoch seconds or null, ...}`.
        notes: what its steps have told the trace so far.
        wake_s: epoch seconds when it goes on without any of `open` being due, or None.
    """

    id: str
    route: str
    config: str
    home: str
    event: dict[str, Any]
    back: ReturnAddress | None
    began_s: float
    deadline_s: float | None
    owner: bool = True
    user: str | None = None
    memo: dict[str, Json] = field(default_factory=dict)
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    wake_s: float | None = None

    @property
    def message(self) -> Message:
        """The message that it began with."""
        event = dict(self.event)
        data = event.pop("data", None)
        return Message(event, data)

    @property
    def due_s(self) -> float | None:
        """When something happens by itself, or None."""
        times = [each["due"] for each in self.open.values() if each.get("due") is not None]
        if self.wake_s is not None:
            times.append(self.wake_s)
        return min(times, default=None)

    def settle(self, path: str, result: Json) -> bool:
        """Note the result of something that it waits for; returns whether it still does."""
        if self.open.pop(path, None) is None:
            return False
        self.memo[path] = result
        return True

    def write(self) -> bytes:
        """Write it as JSON."""
        back = None if self.back is None else list(self.back)
        fields = {
            "v": FORMAT,
            "id": self.id,
            "route": self.route,
            "config": self.config,
            "home": self.home,
            "event": self.event,
            "back": back,
            "began": self.began_s,
            "deadline": self.deadline_s,
            "owner": self.owner,
            "user": self.user,
            "memo": self.memo,
            "open": self.open,
            "notes": self.notes,
            "wake": self.wake_s,
        }
        return orjson.dumps(fields)


def read(body: bytes) -> Instance:
    """Read what `Instance.write` wrote."""
    f = orjson.loads(body)
    back = None if f["back"] is None else ReturnAddress(*f["back"])
    return Instance(
        f["id"], f["route"], f["config"], f["home"], f["event"], back, f["began"], f["deadline"], f["owner"],
        f["user"], f["memo"], f["open"], f["notes"], f["wake"],
    )  # fmt: skip


def event_of(message: Message) -> dict[str, Any]:
    """The message as a structured CloudEvent that JSON can carry."""
    event: dict[str, Any] = {
        name: b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in message.attributes.items()
    }
    if message.data is not None:
        event["data"] = message.data
    return event


def failed(failure: Failure, at_s: float) -> dict[str, Json]:
    """A failure as the result of what was awaited."""
    found: list[Json] = [findings.row(each) for each in failure.findings]
    said: dict[str, Json] = {"class": failure.failure, "code": failure.code, "reason": failure.reason}
    return {"no": {**said, "agent": failure.agent, "findings": found}, "at": at_s}


def failure_of(said: dict[str, Any]) -> Failure:
    """Read the failure that `failed` wrote."""
    found = tuple([findings.read(each) for each in said["findings"]])
    return Failure(said["class"], said["code"], said["reason"], None, said["agent"], found)
