"""Compiling a configuration that was in force before, from what the store has kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bus.config.bundle import scratch, unpack
from bus.config.loading import load
from bus.core.errors import ConfigurationRefused
from bus.core.route import Catalog
from bus.core.spec import Spec


def compile_again(version: str, blob: bytes, environment: Mapping[str, str], steps: Mapping[str, Spec]) -> Catalog:
    """Compile a bundle.

    Args:
        version: that it must come out as.
        blob: what `Bundle.pack` wrote.
        environment: of this process; what configuration values took is as it was, secrets are as they are now.
        steps: the table of steps.

    Raises:
        ConfigurationRefused: this agentbus finds errors in it, or makes something else of it.
        StoreFailed: it is damaged.
    """
    bundle = unpack(blob)
    with scratch() as folder:
        loaded = load(bundle.lay_out(Path(folder)), bundle.environment(environment), steps, secrets=False)
        place = f"{Path(folder).resolve()}/"
    errors = [str(each).replace(place, "") for each in loaded.findings if each.severity == "error"]
    if loaded.catalog is None:
        raise ConfigurationRefused("it has errors now: " + "; ".join(errors))
    if loaded.catalog.version != version:
        raise ConfigurationRefused(f"it comes out as {loaded.catalog.version}")
    routes = tuple(replace(each, where=each.where.replace(place, "")) for each in loaded.catalog.routes)
    return replace(loaded.catalog, routes=routes)
