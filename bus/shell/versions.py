"""Configurations that something still needs: kept in the store, compiled again, and forgotten in the end.

A run stays with the configuration that it began under (bus.core.instance), whatever process takes it up. So what makes
a configuration is in the store before anything is decided under it; who claims partitions compiles those that runs
need. A process that changes its configuration keeps the last few in memory besides: agents that are not declared any
more may still owe answers. Used on the store's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bus.core.errors import BusError, StoreDown
from bus.core.route import Catalog
from bus.core.table import RouteTable
from bus.ports import Store

_log = logging.getLogger(__name__)

IN_STORE = 16
"""Configurations that the store keeps at least, for workers that are a few edits behind; they are small."""
IN_MEMORY = 4
"""Configurations before the one in force that a process remembers, whether a run needs them or not."""

Compiler: TypeAlias = Callable[[str, bytes], Catalog]
"""Compiles a configuration of this version from its bundle; raises BusError."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Args:
    table: the compiled configuration.
    bundle: what it can be compiled from again: see bus.config.bundle.
    """

    table: RouteTable
    bundle: bytes = b""

    @property
    def version(self) -> str:
        """First digits of its hash."""
        return self.table.catalog.version


def cannot(version: str, bundle: bytes) -> Catalog:
    """The compiler of a process that keeps to the configuration that it began with."""
    raise BusError("this process compiles nothing")


class Versions:
    """Args:
    store: where they are kept.
    first: the configuration that the process begins with.
    compiler: compiles what the store has kept.
    """

    def __init__(self, store: Store, first: Configuration, compiler: Compiler = cannot) -> None:
        self._store = store
        self._compiler = compiler
        self._current = first
        self._bundles: dict[str, bytes] = {first.version: first.bundle}
        self._hopeless: set[str] = set()

    def begin(self) -> None:
        """Keep the one in force before anything is decided under it, and compile those that runs need.

        Raises:
            StoreDown: the store cannot be reached or written.
        """
        self._keep(self._current)
        self._succeed(self._current.table, self._current.table.elders)
        self._store.drop_configurations(IN_STORE)

    def change(self, after: Configuration) -> None:
        """Another one is in force from now on; what came before is known to it.

        Raises:
            StoreDown: the store cannot be reached or written, and nothing has changed.
        """
        self._keep(after)
        self._store.drop_configurations(IN_STORE)  # all that may fail comes before anything changes
        before = self._current.table
        self._succeed(after.table, {**before.elders, before.catalog.version: before})
        self._current = after
        self._bundles[after.version] = after.bundle

    def learn(self, version: str | None) -> None:
        """Something that needs this one has come."""
        table = self._current.table
        if version is not None and table.of(version) is None:
            self._succeed(table, table.elders, version)

    def bundle(self, version: str) -> bytes:
        """What one can be compiled from that is in force or known as an elder; b"" when that is not kept."""
        return self._bundles.get(version, b"")

    def _keep(self, configuration: Configuration) -> None:
        if configuration.bundle:
            self._store.keep_configuration(configuration.version, configuration.bundle)

    def _succeed(self, table: RouteTable, elders: Mapping[str, RouteTable], more: str = "") -> None:
        needed = {*self._store.versions(), more} - {"", table.catalog.version}
        kept = {version: each for version, each in elders.items() if version in needed}
        kept |= dict(list(elders.items())[-IN_MEMORY:])
        for version in sorted(needed - kept.keys() - self._hopeless):
            made = self._compile(version)
            if made is not None:
                kept = {version: made, **kept}
        table.succeed({version: each for version, each in kept.items() if version != table.catalog.version})
        self._bundles = {version: each for version, each in self._bundles.items() if table.of(version) is not None}

    def _compile(self, version: str) -> RouteTable | None:
        try:
            bundle = self._store.configuration(version)
            if bundle is None:
                raise BusError("it is not in the store")
            made = RouteTable(self._compiler(version, bundle))
        except StoreDown:
            raise
        except BusError as error:
            self._hopeless.add(version)
            _log.error("configuration %s, which runs need, cannot be compiled: %s", version, error)
            return None
        self._bundles[version] = bundle
        return made
