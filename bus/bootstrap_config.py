"""The composition root's part for configurations: reading them, compiling them again, and changing a running one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bus.core.table import RouteTable
from bus.settings import Settings
from bus.settings import environment as current_environment

if TYPE_CHECKING:
    from bus.config.loading import Loaded
    from bus.core.route import Catalog
    from bus.shell.reload import Candidate, Outcome, Reloader
    from bus.shell.tenancy import Layout
    from bus.shell.trial.apart import Apart
    from bus.shell.versions import Compiler
    from bus.shell.worker import Worker

Check = Callable[[Sequence[Path]], Sequence[str]]
"""Runs the route tests of integrations; returns a line for each that fails, with its position."""


def no_tests(folders: Sequence[Path]) -> Sequence[str]:
    """Checks nothing."""
    return ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where a running bus has its configuration from.

    Args:
        folders: integrations, or folders of integrations.
        loaded: what they said at the start.
        watch: take up changes by itself, not only when told.
        check: what a changed configuration must pass besides lint.
        tell: told of every change that was asked for.
    """

    folders: tuple[Path, ...]
    loaded: Loaded
    watch: bool = False
    check: Check = no_tests
    tell: Callable[[Outcome], None] = lambda outcome: None

    def reloader(self, settings: Settings, worker: Worker, layout: Layout, counted: Callable[[str], None]) -> Reloader:
        """What changes the configuration of a worker.

        Args:
            settings: with the broker's URL.
            layout: the partitions that the worker knows of.
            counted: told what came of each change, for a metric.
        """
        from bus.shell.reload import Reloader
        from bus.shell.versions import Configuration
        from bus.shell.watching import Watched

        read = _Reading(self)

        def tell(outcome: Outcome) -> None:
            counted(outcome.result)
            self.tell(outcome)

        first = Configuration(worker.table, self.loaded.bundle.pack())
        watched = Watched(lambda: read.watched) if self.watch else None
        return Reloader(first, read, partial(_declare, settings, layout), worker, tell, watched)


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

        loaded = loading.load(self._source.folders, current_environment(), STEPS)
        self.watched = _folders(self._source.folders, loaded)
        errors = tuple([str(each) for each in loaded.findings if each.severity == "error"])
        for finding in loaded.findings:
            if finding.severity != "error":
                logging.getLogger("bus.config").warning("%s", finding)
        if loaded.catalog is None or errors:
            return Candidate(None, errors)
        configuration = Configuration(RouteTable(loaded.catalog), loaded.bundle.pack())
        return Candidate(configuration, tuple(self._source.check(self._source.folders)))


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
