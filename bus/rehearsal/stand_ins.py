"""Stand-ins for agents: they answer call by call, as an agent with the SDK would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from bus.core.answering import FAILED_SUFFIX, REPLIED, reply
from bus.core.message import REQUESTED, Json, Message
from bus.core.route import Agent
from bus.rehearsal.script import Stub


@dataclass(frozen=True, slots=True)
class Call:
    """One request that an agent was given.

    Args:
        capability: what was asked.
        agent: who stands in, or "" when nobody does.
        stub: how it answers; None when nothing says so, which fails the test.
    """

    capability: str
    agent: str
    request: Message
    at_s: float
    stub: Stub | None


@dataclass(slots=True)
class StandIns:
    """Args:
    agents: as declared.
    stubs: answers by agent or capability; the last one of a list repeats.
    recorded: the stubs are answers out of the log, by `spoken_in`: each is given once, in its own conversation.
    """

    agents: Mapping[str, Agent]
    stubs: Mapping[str, tuple[Stub, ...]]
    recorded: bool = False
    calls: list[Call] = field(default_factory=list)
    _given: Counter[str] = field(default_factory=Counter)

    def ask(self, request: Message, pinned: str | None, at_s: float) -> tuple[Call, Message | None]:
        """Give a request to whoever stands in for it.

        Args:
            pinned: the one agent that is asked, or None for any with the capability.
            at_s: seconds since the start.

        Returns:
            The call, and the answer, which leaves after the stub's `after_s`; None when there is none.
        """
        capability = request.type.removesuffix(REQUESTED)
        offering = [pinned] if pinned else [name for name, a in self.agents.items() if capability in a.capabilities]
        names = (spoken_in(request.conversation, capability),) if self.recorded else (*offering, capability)
        key = next((name for name in names if name in self.stubs), None)
        stub = None if key is None else self._next(key)
        agent = (stub.agent if stub is not None else None) or (key if key in offering else None)
        call = Call(capability, agent or next(iter(offering), ""), request, at_s, stub)
        self.calls.append(call)
        if stub is None or stub.how == "never":
            return call, None
        suffix = REPLIED if stub.how == "reply" else FAILED_SUFFIX
        return call, reply(call.agent, request, capability + suffix, _data(stub))

    def _next(self, key: str) -> Stub | None:
        answers, turn = self.stubs[key], self._given[key]
        self._given[key] += 1
        if turn < len(answers):
            return answers[turn]
        return answers[-1] if answers and not self.recorded else None

    def count(self, name: str) -> int:
        """How often an agent or capability was asked."""
        return sum(name in (each.capability, each.agent) for each in self.calls)


def spoken_in(conversation: str, capability: str) -> str:
    """The key of a capability's recorded answers."""
    return f"{conversation}\0{capability}"


def _data(stub: Stub) -> Json:
    if stub.how == "fail" and stub.data is None:
        return {"class": stub.failure, "reason": f"the test has it fail with {stub.failure}"}
    return stub.data
