"""One run of route tests: what was loaded, what came out of each test, and what they reach."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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


def run_suite(folders: Sequence[Path], files: frozenset[Path], wanted: str | None, *, lenient: bool = False) -> Suite:
    """Load and run.

    Args:
        folders: what is loaded.
        files: the test files to run, resolved; none for all.
        wanted: a part of the names of the tests to run; None for all.
        lenient: no tests at all is no error.

    Raises:
        BusError: there are no tests.
    """
    from bus import bootstrap

    began = time.perf_counter()
    coverage = Coverage()
    loaded = bootstrap.load(folders, tests=True, coverage=coverage)
    chosen = _chosen(loaded, files, wanted)
    if loaded.catalog is None:
        return Suite(loaded.findings, (), coverage, loaded.named, True, time.perf_counter() - began)
    if not chosen and not lenient:
        which = f" with `{wanted}` in their name" if wanted else ""
        where = ", ".join(map(str, folders))
        raise BusError(f"there are no tests{which} in {where}; write one into a file NAME{TESTS} there")
    facts = bootstrap.facts()
    outcomes = tuple(rehearse(each, loaded.catalog, facts, coverage.where) for each in chosen)
    whole = len(chosen) == len(loaded.tests)
    return Suite(loaded.findings, outcomes, coverage, loaded.named, whole, time.perf_counter() - began)


def _chosen(loaded: Loaded, files: frozenset[Path], wanted: str | None) -> tuple[RouteTest, ...]:
    return tuple(
        each
        for each in loaded.tests
        if (not files or Path(each.path).resolve() in files) and (wanted is None or wanted in each.name)
    )
