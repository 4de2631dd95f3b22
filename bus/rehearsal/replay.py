"""Recorded conversations decided anew by other routes, and which decisions differ.

Decisions are put side by side by what they are about: the first `x.replied` of agent `a` with the first, the second
with the second. Ids, times and return addresses are not compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bus.audit.record import Record
from bus.core.actions import Decision, Output
from bus.core.facts import Facts
from bus.core.message import FLOW_TOLD, Json
from bus.core.route import Catalog
from bus.core.table import RouteTable
from bus.rehearsal.matching import Line, Mark, changes, clipped, compare, exactly, shown
from bus.rehearsal.recording import Entry, Recording
from bus.rehearsal.stage import MOST_DECISIONS, NOT_SENT, Hop, NoRest, Stage, decoded
from bus.rehearsal.stand_ins import StandIns, spoken_in


@dataclass(frozen=True, slots=True)
class Decided:
    """What is compared of a decision.

    Args:
        number: the how manieth about such a message.
        failure: class and code, or "".
        sent: target, type and payload of each output; None as payload for what is set aside as it came.
    """

    type: str
    source: str
    number: int
    end: str
    route: str
    failure: str
    reason: str
    sent: tuple[tuple[str, str, Json], ...]

    @property
    def key(self) -> tuple[str, str, int]:
        return self.type, self.source, self.number

    @property
    def outcome(self) -> str:
        """What became of it, without what was sent."""
        by = f" by {self.route}" if self.route else ""
        return f"{self.end}{by}" + (f" ({self.failure}: {clipped(self.reason)})" if self.failure else "")


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that is not the same; one side is None when only the other one was made."""

    before: Decided | None
    after: Decided | None
    lines: tuple[Line, ...]

    @property
    def what(self) -> Decided:
        """Either, to say which message it is about."""
        found = self.before or self.after
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class Replayed:
    """Args:
    unanswered: capabilities that were asked and of which the log has no answer.
    problem: why deciding did not end, or "".
    """

    conversation: str
    differences: tuple[Difference, ...]
    decisions: int
    unanswered: tuple[str, ...]
    problem: str = ""

    @property
    def same(self) -> bool:
        return not (self.differences or self.problem)


@dataclass(slots=True)
class _Numbers:
    counted: Counter[tuple[str, str]] = field(default_factory=Counter)

    def next(self, type_: str, source: str) -> int:
        self.counted[type_, source] += 1
        return self.counted[type_, source]


def replay(recordings: Sequence[Recording], catalog: Catalog, facts: Facts) -> list[Replayed]:
    """Decide conversations anew, all on one stage, as one may hold up another; nothing is sent anywhere.

    Args:
        recordings: different conversations.
        catalog: the changed routes.
        facts: limits and identity.
    """
    if not recordings:
        return []
    start_s = min(each.start_s for each in recordings)
    answers = {spoken_in(one.conversation, name): each for one in recordings for name, each in one.answers.items()}
    stand_ins = StandIns(catalog.agents, answers, recorded=True)
    stage = Stage(RouteTable(catalog), facts, stand_ins, start_s, most_decisions=MOST_DECISIONS * len(recordings))
    arrivals = [(one.start_s + each.at_s, each.message) for one in recordings for each in one.arrived]
    problem = ""
    try:
        for at_s, message in sorted(arrivals, key=lambda each: each[0]):
            stage.advance(max(0.0, at_s - stage.now_s))
            stage.bring(message)
        stage.rest()
    except NoRest as error:
        problem = str(error)
    hops: dict[str, list[Hop]] = {}
    for hop in stage.hops:
        hops.setdefault("" if hop.message is None else hop.message.conversation, []).append(hop)
    return [_replayed(each, hops.get(each.conversation, []), stand_ins, problem) for each in recordings]


def _replayed(found: Recording, hops: Sequence[Hop], stand_ins: StandIns, problem: str) -> Replayed:
    before, after = _recorded(found.entries), _rehearsed(hops)
    lacking = [each for each in stand_ins.calls if each.stub is None]
    unanswered = dict.fromkeys(each.capability for each in lacking if each.request.conversation == found.conversation)
    return Replayed(found.conversation, tuple(_differences(before, after)), len(after), tuple(unanswered), problem)


def _recorded(entries: Iterable[Entry]) -> list[Decided]:
    numbers, found = _Numbers(), list[Decided]()
    for entry in entries:
        record = entry.record
        found.append(_decided(numbers, record.type, record.source, record, entry.outputs))
    return found


def _rehearsed(hops: Iterable[Hop]) -> list[Decided]:
    numbers, found = _Numbers(), list[Decided]()
    for hop in hops:
        decision, message = hop.decision, hop.message
        if decision.end != "superseded":
            type_, source = ("", "") if message is None else (message.type, message.source)
            found.append(_decided(numbers, type_, source, decision, decision.outputs))
    return found


def _decided(numbers: _Numbers, type_: str, source: str, said: Record | Decision, outputs: Iterable[Output]) -> Decided:
    failure = said.failure
    failed = "" if failure is None else f"{failure.failure}, {failure.code}"
    number = numbers.next(type_, source)
    return Decided(type_, source, number, said.end, said.route or "", failed, said.reason, _sent(outputs))


def _sent(outputs: Iterable[Output]) -> tuple[tuple[str, str, Json], ...]:
    return tuple(
        (
            # Whoever asked by the command line had an inbox with a name of its own.
            "client" if each.kind == "client" else each.target,
            each.type,
            # What runs tell each other has times in it, and what it leads to is a decision of its own.
            None if each.kind in ("dead", "invalid") or each.type == FLOW_TOLD else _payload(each),
        )
        for each in outputs
        if each.kind not in NOT_SENT
    )


def _payload(output: Output) -> Json:
    data = decoded(output).data
    if isinstance(data, dict) and "message" in data and output.type == "bus.failed":
        return {name: value for name, value in data.items() if name not in ("message", "reason")}
    return data


def _differences(before: Sequence[Decided], after: Sequence[Decided]) -> Iterable[Difference]:
    now = {each.key: each for each in after}
    then = {each.key: each for each in before}
    for each in before:
        other = now.get(each.key)
        if other is None:
            yield Difference(each, None, tuple(_lines(each, "-")))
        elif lines := _compared(each, other):
            yield Difference(each, other, tuple(lines))
    for each in after:
        if each.key not in then:
            yield Difference(None, each, tuple(_lines(each, "+")))


def _lines(decided: Decided, side: Mark) -> Iterable[Line]:
    yield Line(side, 0, decided.outcome)
    for target, type_, data in decided.sent:
        yield Line(side, 1, f"-> {target}  {type_}  {clipped(shown(data))}")


def _compared(before: Decided, after: Decided) -> list[Line]:
    """The diff, or [] when they are the same."""
    lines: list[Line] = []
    wrong = 0
    if (before.end, before.route, before.failure) != (after.end, after.route, after.failure):
        lines += [Line("-", 0, before.outcome), Line("+", 0, after.outcome)]
        wrong += 1
    left = list(after.sent)
    for target, type_, data in before.sent:
        other = next((each for each in left if each[:2] == (target, type_)), None)
        if other is None:
            lines.append(Line("-", 0, f"-> {target}  {type_}  {clipped(shown(data))}"))
            wrong += 1
            continue
        left.remove(other)
        found = compare(exactly(data), other[2])
        if found.wrong:
            lines.append(Line(" ", 0, f"-> {target}  {type_}"))
            lines += [Line(each.mark, each.depth + 1, each.text) for each in changes(found.lines)]
            wrong += found.wrong
    lines += [Line("+", 0, f"-> {target}  {type_}  {clipped(shown(data))}") for target, type_, data in left]
    return lines if wrong or left else []
