"""The composition root's part for configurations: reading them, compiling them again, and changing a running one."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bus.core.table import RouteTable
from bus.settings import Settings
from bus.settings import environment as current_environment

if TYPE_CHECKING:
    from bus.config.loading import Loaded
    from bus.core.route import Catalog
    from bus.shell.reload import Candidate, Outcome, Reconfigurable, Reloader
    from bus.shell.tenancy import Layout
    from bus.shell.trial.apart import Apart
    from bus.shell.versions import Compiler
    from bus.shell.worker import Worker


@dataclass(frozen=True, slots=True)
class Source:
    """Where a running bus has its configuration from.

    Args:
        folders: integrations, or folders of integrations.
        loaded: what they said at the start.
        watch: take up changes by itself, not only when told.
        tests: a changed configuration must pass its route tests, too.
        tell: told of every change that was asked for.
        followers: told of the catalog of every configuration that was taken up.
    """

    folders: tuple[Path, ...]
    loaded: Loaded
    watch: bool = False
    tests: bool = True
    tell: Callable[[Outcome], None] = lambda outcome: None
    followers: list[Callable[[Catalog], None]] = field(default_factory=list)

    @property
    def options(self) -> list[str]:
        """What tells another process of `bus run` the same."""
        return [*(["--watch"] if self.watch else []), *([] if self.tests else ["--no-tests"])]

    def reloader(self, settings: Settings, worker: Worker, counted: Callable[[str], None]) -> Reloader:
        """What changes the configuration of a worker.

        Args:
            settings: with the broker's URL.
            counted: told what came of each change, for a metric.
        """
        return self.changing(worker, partial(_declare, settings, worker.layout), counted)

    def changing(
        self,
        worker: Reconfigurable,
        declare: Callable[[Catalog], None],
        counted: Callable[[str], None] = lambda result: None,
    ) -> Reloader:
        """What changes the configuration of whatever works by one; see `bus.shell.reload.Reloader`."""
        from bus.shell.reload import Reloader
        from bus.shell.versions import Configuration
        from bus.shell.watching import Watched

        read = _Reading(self)

        def tell(outcome: Outcome) -> None:
            counted(outcome.result)
            if outcome.result == "applied":
                for follow in self.followers:
                    follow(reloader.catalog)
            self.tell(outcome)

        assert self.loaded.catalog is not None
        first = Configuration(RouteTable(self.loaded.catalog), self.loaded.bundle.pack())
        watched = Watched(lambda: read.watched) if self.watch else None
        reloader = Reloader(first, read, declare, worker, tell, watched)
        return reloader


class _Reading:
    """Reads the files; remembers which folders they lay in."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.watched = _folders(source.folders, source.loaded)

    def __call__(self) -> Candidate:
        from bus.config import loading
        from bus.core.registry import STEPS
        from bus.shell.reload import Candidate
        from bus.shell.versions import Configuration

        loaded = loading.load(self._source.folders, current_environment(), STEPS, tests=self._source.tests)
        self.watched = _folders(self._source.folders, loaded)
        errors = tuple([str(each) for each in loaded.findings if each.severity == "error"])
        for finding in loaded.findings:
            if finding.severity != "error":
                logging.getLogger("bus.config").warning("%s", finding)
        if loaded.catalog is None or errors:
            return Candidate(None, errors)
        configuration = Configuration(RouteTable(loaded.catalog), loaded.bundle.pack())
        return Candidate(configuration, tuple(_failing(loaded)))


def _failing(loaded: Loaded) -> Iterator[str]:
    """A line for everything that the route tests expect and do not see."""
    from bus.core.facts import Facts
    from bus.core.times import rfc3339
    from bus.rehearsal.verdict import rehearse

    assert loaded.catalog is not None
    facts = Facts(now_s=0.0, now=rfc3339(0.0), seal=secrets.token_bytes(32))
    for test in loaded.tests:
        for miss in rehearse(test, loaded.catalog, facts).misses:
            yield f"{test.path}:{miss.line}:1: error[test]: {test.name}: expected {miss.expected}, got {miss.got}"


def _folders(folders: Sequence[Path], loaded: Loaded) -> tuple[Path, ...]:
    """What is watched: the folders that were named, and those of integrations that they use."""
    used = {each.parent for each in loaded.files if each.suffix == ".yaml"}
    beside = [each for each in sorted(used) if not any(each.is_relative_to(folder) for folder in folders)]
    return (*folders, *beside)


def _declare(settings: Settings, layout: Layout, catalog: Catalog) -> None:
    from bus.shell.probe import connection
    from bus.shell.topology import declare, plan

    assert settings.amqp_url is not None
    with connection(settings.amqp_url) as opened:
        declare(opened.channel(), plan(settings.namespace, layout.known, catalog))


def compiler() -> Compiler:
    """Compiles configurations that the store has kept; secrets are as this process has them."""
    from bus.config.again import compile_again
    from bus.core.registry import STEPS

    return partial(compile_again, environment=current_environment(), steps=STEPS)


def apart(routes: RouteTable) -> Apart:
    """Where suspects are decided: forks, so it comes before any thread."""
    from bus.shell.trial.apart import Apart, fork_server
    from bus.shell.trial.child import Bounds

    bounds = Bounds()
    return Apart(fork_server(routes, bounds, compiler()), routes, bounds)
