"""One run of route tests: what was loaded, what came out of each test, and what they reach."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus.config.finding import ConfigFinding
from bus.config.loading import Loaded
from bus.core.errors import BusError
from bus.rehearsal.coverage import UNITS, Coverage, percent
from bus.rehearsal.script import RouteTest
from bus.rehearsal.verdict import Outcome, rehearse

TESTS = ".test.yaml"


@dataclass(frozen=True, slots=True)
class Suite:
    """One run of tests.

    Args:
        findings: of the configuration; with an error among them nothing ran.
        named: the integrations that were named, with the coverage that each wants.
        whole: all their tests ran, so that coverage says something.
        took_s: seconds of real time.
    """

    findings: tuple[ConfigFinding, ...]
    outcomes: tuple[Outcome, ...]
    coverage: Coverage
    named: Mapping[str, Mapping[str, int]]
    whole: bool
    took_s: float

    @property
    def refused(self) -> bool:
        return any(each.severity == "error" for each in self.findings)

    def shortfalls(self, least: float | None) -> tuple[str, ...]:
        """Where less was reached than `least` percent, or than an integration wants."""
        found: list[str] = []
        for name, wants in self.named.items() if self.whole and not self.refused else ():
            counts = self.coverage.counts([name])
            for unit in UNITS:
                wanted = wants.get(unit, 0) if least is None else least
                reached = percent(*counts[unit])
                if reached < wanted:
                    what = f"{name}: {reached:.0f} % of {unit} covered, {wanted:g} % wanted"
                    found.append(what)
        return tuple(found)


def run_suite(
    folders: Sequence[Path], named: frozenset[Path], wanted: str | None, *, lenient: bool = False, watched: bool = False
) -> Suite:
    """Load and run.

    Args:
        folders: what is loaded.
        named: test files, and folders whose tests are to run, resolved.
        wanted: a part of the names of the tests to run; None for all.
        lenient: no tests at all is no error.
        watched: note down what expressions do in all tests; else only in those that fail.

    Raises:
        BusError: there are no tests.
    """
    from bus import bootstrap

    began = time.perf_counter()
    coverage = Coverage()
    loaded = bootstrap.load(folders, tests=True, coverage=coverage, secrets=False)
    chosen = _chosen(loaded, named, wanted)
    if loaded.catalog is None:
        return Suite(loaded.findings, (), coverage, loaded.named, True, time.perf_counter() - began)
    if not chosen and not lenient:
        which = f" with `{wanted}` in their name" if wanted else ""
        where = ", ".join(map(str, folders))
        raise BusError(f"there are no tests{which} in {where}; write one into a file NAME{TESTS} there")
    facts = bootstrap.facts()
    outcomes = [rehearse(each, loaded.catalog, facts, coverage.where) for each in chosen]
    if watched or not all(each.passed for each in outcomes):
        again = _Watched(folders)
        outcomes = [again.run(each) if watched or not each.passed else each for each in outcomes]
    whole = len(chosen) == len(loaded.tests)
    return Suite(loaded.findings, tuple(outcomes), coverage, loaded.named, whole, time.perf_counter() - began)


class _Watched:
    """Runs tests again with every expression noted down: they go as before, and what did not pass can be explained.

    Args:
        folders: what is loaded, once more: expressions are watched from when they are compiled.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        from bus import bootstrap
        from bus.config.watch import Watch

        self._watch, self._coverage = Watch(), Coverage()
        self._loaded = bootstrap.load(folders, watch=self._watch, tests=True, coverage=self._coverage, secrets=False)
        self._facts = bootstrap.facts()

    def run(self, outcome: Outcome) -> Outcome:
        """The same test; where the files have changed since, what there was."""
        wanted = (outcome.test.where, outcome.test.name)
        test = next((each for each in self._loaded.tests if (each.where, each.name) == wanted), None)
        if test is None or self._loaded.catalog is None:
            return outcome
        self._watch.seen.clear()
        return rehearse(test, self._loaded.catalog, self._facts, self._coverage.where, self._noted)

    def _noted(self) -> tuple[Any, ...]:
        noted = tuple(self._watch.seen)
        self._watch.seen.clear()
        return noted


def _chosen(loaded: Loaded, named: frozenset[Path], wanted: str | None) -> tuple[RouteTest, ...]:
    return tuple(
        each
        for each in loaded.tests
        if any(Path(each.path).resolve().is_relative_to(path) for path in named)
        and (wanted is None or wanted in each.name)
    )
