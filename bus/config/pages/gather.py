"""What there is to document: each integration with its types, agents, capabilities and routes, in file order.

The catalog knows what everything means, the documents what their authors say about it: both are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bus.config.contracts import LoadedContract
from bus.config.drawing.sketch import RouteSketch, sketches
from bus.config.nodes import MAX_BYTES, parse, to_json
from bus.core.expression import Contract
from bus.core.message import Json
from bus.core.route import Agent, Capability, Catalog, MessageType
from bus.core.spec import Spec


@dataclass(slots=True)
class Chapter:
    """An integration. Entries go with what their author says about them, or "".

    Args:
        folder: as the user named it.
    """

    name: str
    folder: Path
    description: str = ""
    types: list[tuple[MessageType, str]] = field(default_factory=list)
    agents: list[tuple[Agent, str]] = field(default_factory=list)
    capabilities: list[tuple[Capability, str]] = field(default_factory=list)
    routes: list[RouteSketch] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Book:
    """Args:
    version: of the configuration.
    """

    version: str
    chapters: tuple[Chapter, ...]
    catalog: Catalog


def gather(catalog: Catalog, files: Iterable[Path], steps: Mapping[str, Spec]) -> Book:
    """Gather what there is to document in a configuration that has been loaded without errors.

    Args:
        files: its files; those that are no YAML are passed over.
    """
    chapters: dict[Path, Chapter] = {}
    paths = [path for path in files if path.suffix == ".yaml"]
    for path in paths:
        folder = path.resolve().parent
        chapter = chapters.setdefault(folder, Chapter(folder.name, path.parent))
        with path.open("rb") as file:
            documents = parse(str(path), file.read(MAX_BYTES + 1)).documents
        for node in documents:
            _read(catalog, chapter, _mapping(to_json(node)))
    by_name = {chapter.name: chapter for chapter in chapters.values()}
    for route in sketches(paths, steps):
        by_name[route.name.partition("/")[0]].routes.append(route)
    return Book(catalog.version, tuple(chapters.values()), catalog)


def _read(catalog: Catalog, chapter: Chapter, document: dict[str, Json]) -> None:
    if "integration" in document:
        chapter.description = str(document.get("description", ""))
        for name, body in _mapping(document.get("types")).items():
            chapter.types.append((catalog.types[name], _description(body)))
    if "agents" in document or "capabilities" in document:
        for name, body in _mapping(document.get("agents")).items():
            chapter.agents.append((catalog.agents[name], _description(body)))
        for name, body in _mapping(document.get("capabilities")).items():
            chapter.capabilities.append((catalog.capabilities[name], _description(body)))


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _description(body: Json) -> str:
    return " ".join(str(_mapping(body).get("description", "")).split())


def file_of(contract: Contract | None) -> Path | None:
    """The schema file of a contract."""
    return contract.path if isinstance(contract, LoadedContract) else None
