"""Coverage: which routes, steps and branches ran.

The loader hands over what it compiles, with the place it stands at, and puts what it gets back into the catalog: the
same thing, which also notes that it ran. So a catalog that a bus works from has none of this in it. Branches are the
flows nested in steps and error rules, both values of conditions, a `choose` that falls through, and what joins come to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from bus.core.errors import StepFailed
from bus.core.expression import Expression, Names
from bus.core.joins import Join
from bus.core.message import Json
from bus.core.work import Ended, Flow, OnError, Placed, Step, Target, Work

Unit: TypeAlias = Literal["routes", "steps", "branches"]
UNITS: tuple[Unit, ...] = ("routes", "steps", "branches")


@dataclass(frozen=True, slots=True)
class Place:
    """Args:
    route: `integration/route`, or the integration alone for its defaults.
    text: the line of the file.
    """

    route: str
    path: str
    line: int
    col: int
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that a test should reach.

    Args:
        what: in words, for those that are not reached.
    """

    unit: Unit
    place: Place
    what: str


@dataclass(slots=True)
class Coverage:
    """What there is, and what of it ran."""

    points: list[Point] = field(default_factory=list)
    reached: set[int] = field(default_factory=set)
    _taken: int = 0
    _known: dict[tuple[str, str, int, int, str], int] = field(default_factory=dict)
    _steps: dict[tuple[str, str], Place | None] = field(default_factory=dict)

    def _point(self, unit: Unit, place: Place, what: str) -> Callable[[], None]:
        # What several routes share by a fragment stands in one place, and is one thing to test.
        number = self._known.setdefault((unit, place.path, place.line, place.col, what), len(self.points))
        if number == len(self.points):
            self.points.append(Point(unit, place, what))
        reach = self.reached.add
        return lambda: reach(number)

    def route(self, place: Place, flow: Flow) -> Flow:
        """A route's own flow."""
        return _noting(flow, self._point("routes", place, "never ran"))

    def branch(self, place: Place, flow: Flow) -> Flow:
        """A flow within a step or an error rule."""
        reach = self._point("branches", place, "never taken")

        def take() -> None:
            self._taken += 1
            reach()

        return _noting(flow, take)

    def step(self, place: Place, placed: Placed, *, falls_through: bool = False, join: Join | None = None) -> Placed:
        """A step.

        Args:
            falls_through: none of its flows may fit, which is a branch as well; those were handed over before it.
            join: its join, whose outcomes are branches.
        """
        key = (place.route, placed.id)
        self._steps[key] = place if self._steps.get(key, place) == place else None  # a fragment counts its own steps
        run = self._ran(placed.run, self._point("steps", place, f"{placed.id} never ran"))
        if falls_through:
            what = f"{placed.id} never falls through, with no case that fits"
            run = self._fallen(run, self._point("branches", place, what))
        if join is not None:
            run = self._joined(run, place, placed.id, join)
        return replace(placed, run=run)

    def _ran(self, run: Step, note: Callable[[], None]) -> Step:
        def step(work: Work) -> Ended | None:
            note()
            return run(work)

        return step

    def _fallen(self, run: Step, note: Callable[[], None]) -> Step:
        def step(work: Work) -> Ended | None:
            before = self._taken
            ended = run(work)
            if self._taken == before:
                note()
            return ended

        return step

    def _joined(self, run: Step, place: Place, name: str, join: Join) -> Step:
        """All that a join can come to: everybody, some, or a failure."""
        some = join.policy == "best_effort" or join.partial
        whole = self._point("branches", place, f"{name} never joins {'all of them' if some else 'them'}")
        lacking = self._point("branches", place, f"{name} never goes on without one of them") if some else whole
        fails = join.policy != "best_effort" or join.require
        failed = self._point("branches", place, f"{name} never fails to join") if fails else lacking

        def step(work: Work) -> Ended | None:
            at = work.at
            try:
                ended = run(work)
            except StepFailed:
                failed()
                raise
            outcome = work.remembering.known(f"{at}#joined")
            if isinstance(outcome, dict):
                (lacking if outcome.get("degraded") else whole)()
            return ended

        return step

    def condition(self, place: Place, condition: Expression, what: str) -> Expression:
        """A condition, which should come out both ways."""
        true = self._point("branches", place, f"{what} is never true")
        false = self._point("branches", place, f"{what} is never false")
        return _Noted(condition, lambda value: true() if value is True else false())

    def rule(self, place: Place, rule: OnError) -> OnError:
        """An error rule; its flow, if it has one, is handed over by itself."""
        if isinstance(rule.then, Flow):
            return rule
        taken = self._point("branches", place, "never handles an error")
        return replace(rule, when=_Noted(rule.when or _True(), lambda value: taken() if value is True else None))

    def target(self, target: Target) -> Target:
        """A target; an event that nobody wants is made all the same, or no test could see it."""
        unwanted = target.kind == "event" and not (target.to_route or target.to_subscribers)
        return replace(target, to_subscribers=True) if unwanted else target

    def where(self, route: str, step: str) -> str | None:
        """`file:line` of a step, or None when there is none of this id, or more than one."""
        place = self._steps.get((route, step))
        return None if place is None else f"{place.path}:{place.line}"

    # --- what it comes to -----------------------------------------------------------------------------------------

    def counts(self, integrations: Iterable[str]) -> Mapping[Unit, tuple[int, int]]:
        """Reached and all, by unit, in these integrations."""
        names = set(integrations)
        found: dict[Unit, tuple[int, int]] = {}
        for unit in UNITS:
            numbers = [n for n, each in enumerate(self.points) if each.unit == unit and _of(each) in names]
            found[unit] = (sum(n in self.reached for n in numbers), len(numbers))
        return found

    def missed(self, integrations: Iterable[str]) -> Sequence[Point]:
        """What was not reached, in file order; what is inside of a route that never ran is not named again."""
        names = set(integrations)
        points = [each for n, each in enumerate(self.points) if n not in self.reached and _of(each) in names]
        idle = {each.place.route for each in points if each.unit == "routes"}
        named = [each for each in points if each.unit == "routes" or each.place.route not in idle]
        return sorted(named, key=lambda each: (each.place.path, each.place.line, each.place.col))


def percent(reached: int, of: int) -> float:
    """100 where there is nothing to reach."""
    return 100.0 if of == 0 else 100.0 * reached / of


def _of(point: Point) -> str:
    return point.place.route.partition("/")[0]


def _noting(flow: Flow, note: Callable[[], None]) -> Flow:
    def step(work: Work) -> None:
        note()

    return replace(flow, steps=(Placed("coverage", "coverage", step), *flow.steps))


@dataclass(frozen=True, slots=True)
class _Noted:
    """An expression whose values are noted."""

    inner: Expression
    note: Callable[[Json], None]

    @property
    def text(self) -> str:
        return self.inner.text

    def __call__(self, names: Names) -> Json:
        value = self.inner(names)
        self.note(value)
        return value


@dataclass(frozen=True, slots=True)
class _True:
    text: str = "true"

    def __call__(self, names: Names) -> Json:
        return True
