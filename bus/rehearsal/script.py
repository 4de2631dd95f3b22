"""A test as a value: what the stand-ins answer, what is done, and what is expected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from bus.core.errors import FailureClass
from bus.core.message import Json
from bus.rehearsal.matching import Matcher

CHANNELS = ("dead", "invalid", "filtered", "consumed")
"""Where a message may end: the Dead Letter Channel, the Invalid Message Channel, on purpose nowhere, or in a group."""

SeenKind: TypeAlias = Literal["capability", "agent", "event", "reply", "channel"]


@dataclass(frozen=True, slots=True)
class Stub:
    """One answer of a stand-in.

    Args:
        how: `reply` with `data`, `fail` with `failure`, or `never`.
        data: payload of the reply, or of the failure where it is more than a class.
        after_s: seconds that the agent takes.
        agent: who answers; None for an agent that has the capability.
    """

    how: Literal["reply", "fail", "never"]
    data: Json = None
    failure: FailureClass = "tool_error"
    after_s: float = 0.0
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """A message that comes in.

    Args:
        source: the agent that sends it, or `cli`.
        conversation: None starts one.
        wait: somebody waits for the answer.
    """

    type: str
    data: Json
    source: str = "cli"
    conversation: str | None = None
    labels: tuple[str, ...] = ()
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Advance:
    """The clock goes on by so many seconds."""

    seconds: float


Do: TypeAlias = Send | Advance


@dataclass(frozen=True, slots=True)
class Expected:
    """One expectation.

    Args:
        line: where it stands.
        kind, name: what is expected to be seen: `capability` C, `agent` A, `event` TYPE, `reply` ok or error, or one of
            CHANNELS.
        never: it must not be seen.
        data, error, reason: what it must match, or None.
        at_s: seconds since the start at which it is seen, or None for any time.
    """

    line: int
    kind: SeenKind
    name: str
    never: bool = False
    data: Matcher | None = None
    error: Matcher | None = None
    reason: Matcher | None = None
    at_s: float | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class Calls:
    """How often agents or capabilities are asked, by name."""

    line: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RouteTest:
    """One test.

    Args:
        path, line: where it stands.
        config: values of the integration's `config` that it changes.
        controls: switches of the running bus that are on, or off, by name.
        schedules: those that send while time passes, `integration/schedule`.
        start_s: epoch seconds at which it starts.
        stubs: answers of each agent or capability, call by call; the last one repeats.
        exact: nothing but what is expected is seen, in this order.
    """

    name: str
    integration: str
    path: str
    line: int
    do: tuple[Do, ...]
    expect: tuple[Expected | Calls, ...]
    stubs: Mapping[str, tuple[Stub, ...]] = field(default_factory=dict)
    config: Mapping[str, Json] = field(default_factory=dict)
    controls: Mapping[str, bool] = field(default_factory=dict)
    schedules: tuple[str, ...] = ()
    start_s: float = 1_767_225_600.0  # 2026-01-01T00:00:00Z: any fixed instant
    exact: bool = False

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"
