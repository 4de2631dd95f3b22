"""What was seen against what was expected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

from bus.core.facts import Facts
from bus.core.message import Json
from bus.core.route import Catalog
from bus.core.table import RouteTable
from bus.rehearsal.causes import Causes, Where, causes
from bus.rehearsal.matching import Comparison, Line, clipped, compare, shown
from bus.rehearsal.script import Calls, Expected, RouteTest
from bus.rehearsal.stage import Hop, NoRest, Seen, Stage
from bus.rehearsal.stand_ins import Call, StandIns

_SOON_S = 0.0005  # times are compared to the millisecond


@dataclass(frozen=True, slots=True)
class Miss:
    """An expectation that was not met, or another reason why a test fails.

    Args:
        line: of the expectation; of the test when there is none.
        expected, got: one line each.
        because: the failure that explains it, one line, or "".
        lines: the diff against what comes nearest, or ().
        hop: number of the decision that shows it, or None.
    """

    line: int
    expected: str
    got: str
    because: str = ""
    lines: tuple[Line, ...] = ()
    hop: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one test.

    Args:
        misses: () when it has passed.
        hops, seen, calls: all that happened, in order.
        took_s: seconds on the virtual clock.
        waiting: what runs of routes still wait for at the end, one sentence each.
    """

    test: RouteTest
    misses: tuple[Miss, ...]
    hops: tuple[Hop, ...]
    seen: tuple[Seen, ...]
    calls: tuple[Call, ...]
    took_s: float
    waiting: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.misses


def rehearse(
    test: RouteTest,
    catalog: Catalog,
    facts: Facts,
    where: Where = lambda route, step: None,
    aside: Callable[[], tuple[Any, ...]] = tuple,
) -> Outcome:
    """Run one test.

    Args:
        catalog: the compiled configuration.
        facts: limits and identity.
        where: finds the steps that fail, for people.
        aside: see `Stage`.
    """
    stand_ins = StandIns(catalog.agents, test.stubs)
    schedules = tuple(each for each in catalog.schedules if each.name in test.schedules)
    stage = Stage(
        RouteTable(catalog),
        replace(facts, controls=test.controls),
        stand_ins,
        test.start_s,
        schedules=schedules,
        aside=aside,
    )
    misses: list[Miss] = []
    try:
        with _configured(test, catalog):
            stage.play(test.do)
    except NoRest as error:
        misses.append(Miss(test.line, "the messages come to rest", str(error)))
    misses += _unstubbed(test, stand_ins)
    found = causes(stage, where)
    misses += judge(test, stage, found)
    took_s = stage.now_s - stage.start_s
    calls = tuple(stand_ins.calls)
    return Outcome(test, tuple(misses), tuple(stage.hops), tuple(stage.seen), calls, took_s, found.waiting)


@contextmanager
def _configured(test: RouteTest, catalog: Catalog) -> Iterator[None]:
    """Have the integration configured as the test wants it.

    Its routes and the fragments that they use share one dictionary of values; so it is changed and changed back, rather
    than everything compiled anew for each test.
    """
    own = (each.config for each in catalog.routes if each.name.partition("/")[0] == test.integration)
    values = cast("dict[str, Json]", next(own, {}))
    before = dict(values)
    values.update(test.config)
    try:
        yield
    finally:
        values.update(before)


def _unstubbed(test: RouteTest, stand_ins: StandIns) -> list[Miss]:
    names = dict.fromkeys(call.capability for call in stand_ins.calls if call.stub is None)
    return [
        Miss(
            test.line,
            f"a stub for every agent that is asked, and `{name}` has none",
            f"write `agents: {{{name}: {{reply: ...}}}}`, or `{name}: {{never: true}}` for one that is silent",
        )
        for name in names
    ]


def judge(test: RouteTest, stage: Stage, why: Causes) -> list[Miss]:
    """Compare; every expectation that is not met is a miss."""
    seen = stage.seen
    wanted = [each for each in test.expect if isinstance(each, Expected) and not each.never]
    taken = _assigned(wanted, seen)
    misses: list[Miss] = []
    for each in test.expect:
        if isinstance(each, Calls):
            misses += _calls(each, stage.stand_ins)
        elif each.never:
            misses += _never(each, seen)
        elif id(each) not in taken:
            used = {id(one) for one in taken.values()}
            free = [one for one in seen if id(one) not in used]
            misses.append(_missing(each, free, seen, why))
    if test.exact and not misses:
        misses += _order(test, wanted, seen)
    return misses


# --- which expectation is met by what -----------------------------------------------------------------------------


def _met(expected: Expected, seen: Seen) -> bool:
    return seen.is_(expected.kind, expected.name) and not _differences(expected, seen)[0]


def _assigned(wanted: Sequence[Expected], seen: Sequence[Seen]) -> dict[int, Seen]:
    """Give each expectation a message of its own, for as many as possible (augmenting paths)."""
    holder: dict[int, int] = {}
    fitting = [[number for number, each in enumerate(seen) if _met(one, each)] for one in wanted]

    def place(one: int, tried: set[int]) -> bool:
        for number in fitting[one]:
            if number not in tried:
                tried.add(number)
                if number not in holder or place(holder[number], tried):
                    holder[number] = one
                    return True
        return False

    for one in range(len(wanted)):
        place(one, set())
    return {id(wanted[one]): seen[number] for number, one in holder.items()}


def _order(test: RouteTest, wanted: Sequence[Expected], seen: Sequence[Seen]) -> list[Miss]:
    """With `order: exact`, what comes at its place; said once, as the two lists."""
    if len(wanted) == len(seen) and all(map(_met, wanted, seen)):
        return []
    lines: list[Line] = []
    for number in range(max(len(wanted), len(seen))):
        one = str(wanted[number]) if number < len(wanted) else None
        other = seen[number].target if number < len(seen) else None
        if one == other and one is not None:
            lines.append(Line(" ", 0, f"{number + 1}. {one}"))
            continue
        lines += [Line("-", 0, f"{number + 1}. {one}")] if one is not None else []
        lines += [Line("+", 0, f"{number + 1}. {other}")] if other is not None else []
    return [Miss(test.line, "just these messages, in this order", "others, or another order", lines=tuple(lines))]


# --- what to say --------------------------------------------------------------------------------------------------


def _differences(expected: Expected, seen: Seen) -> tuple[int, tuple[Line, ...]]:
    """How many places differ, and the diff."""
    lines: list[Line] = []
    wrong = 0
    if expected.at_s is not None and abs(expected.at_s - seen.at_s) > _SOON_S:
        lines += [Line("-", 0, f"at: {seconds(expected.at_s)}"), Line("+", 0, f"at: {seconds(seen.at_s)}")]
        wrong += 1
    for label, matcher, value in (
        ("data", expected.data, seen.data),
        ("error", expected.error, seen.error),
        ("reason", expected.reason, seen.reason),
    ):
        if matcher is not None:
            found: Comparison = compare(matcher, value)
            wrong += found.wrong
            lines += _under(label, found)
    return wrong, tuple(lines)


def _under(label: str, found: Comparison) -> list[Line]:
    if all(each.depth == 0 and ": " not in each.text for each in found.lines) and len(found.lines) <= 3:
        pad = " " * (len(label) + 2)
        return [Line(each.mark, 0, (pad if each.mark == "?" else f"{label}: ") + each.text) for each in found.lines]
    return [Line(" ", 0, f"{label}:"), *(Line(each.mark, each.depth + 1, each.text) for each in found.lines)]


def _such(expected: Expected, seen: Sequence[Seen]) -> list[Seen]:
    return [each for each in seen if each.is_(expected.kind, expected.name)]


def _missing(expected: Expected, free: Sequence[Seen], seen: Sequence[Seen], why: Causes) -> Miss:
    here = _such(expected, free) or _such(expected, seen)
    if not here:
        targets = ", ".join(dict.fromkeys(each.target for each in seen))
        got = f"no {expected}; seen: {targets}" if targets else f"no {expected}, nor anything else"
        return Miss(expected.line, said(expected), got, why.first())
    nearest = min(here, key=lambda each: _differences(expected, each)[0])
    lines = _differences(expected, nearest)[1]
    which = f"; the nearest of {len(here)}" if len(here) > 1 else ""
    got = f"{verb(nearest.kind)} {nearest.target} at {seconds(nearest.at_s)}, with differences{which}"
    if not lines:
        got = f"there is none left: another expectation takes {nearest.target} at {seconds(nearest.at_s)}"
    return Miss(expected.line, said(expected), got, why.of(why.hops[nearest.hop]), lines, nearest.hop)


def _never(expected: Expected, seen: Sequence[Seen]) -> list[Miss]:
    found = [each for each in seen if _met(expected, each)]
    if not found:
        return []
    times = f", {len(found)} times" if len(found) > 1 else ""
    got = f"{verb(found[0].kind)} {found[0].target} at {seconds(found[0].at_s)}{times}: {clipped(shown(found[0].data))}"
    return [Miss(expected.line, said(expected), got, hop=found[0].hop)]


def _calls(expected: Calls, stand_ins: StandIns) -> list[Miss]:
    found = {name: stand_ins.count(name) for name in expected.counts}
    if found == dict(expected.counts):
        return []
    wanted = ", ".join(f"{name} {number}" for name, number in expected.counts.items())
    wrong = [f"{name} was asked {_times(found[name])}" for name, n in expected.counts.items() if n != found[name]]
    return [Miss(expected.line, f"calls: {wanted}", ", ".join(wrong))]


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def said(expected: Expected) -> str:
    """An expectation in words."""
    never = "never " if expected.never else ""
    at = f" at {seconds(expected.at_s)}" if expected.at_s is not None else ""
    return f"{never}{verb(expected.kind)} {expected}{at}"


def verb(kind: str) -> str:
    """How one says that it happened: `sent capability:x`, `answered reply:ok`, `ended in channel:dead`."""
    return {"reply": "answered", "channel": "ended in"}.get(kind, "sent")


def seconds(value: float) -> str:
    """A time of the virtual clock."""
    return f"{value * 1000:.0f}ms" if 0 < value < 1 else f"{value:.3f}".rstrip("0").rstrip(".") + "s"
