"""Files that documents name: schemas, templates, agents' code. Each must be there, inside its folder, and sound."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from bus.config.contracts import LoadedContract, load_contract
from bus.config.documents import LoadedDocument, load_document
from bus.config.files import Files, Folder, inside, is_file, shown
from bus.config.nodes import Node
from bus.config.problem import Problem
from bus.config.reader import Reader
from bus.config.source import Source
from bus.config.suggest import instead_of
from bus.config.tables import MAX_TABLE_BYTES, LoadedTable, load_table
from bus.config.yamlfaults import clip

_INCLUDED = re.compile(rb"""["']([^"']+\.j2)["']""")
_REFERENCE = re.compile(rb'"\$(?:dynamicRef|ref)"\s*:\s*"([^"\\]*)"')


@dataclass(slots=True)
class Assets:
    """Loads each file once; its own findings are reported once, where they are in that file."""

    reader: Reader
    files: Files
    _contracts: dict[Path, LoadedContract | None] = field(default_factory=dict)
    _tables: dict[Path, LoadedTable | None] = field(default_factory=dict)
    _documents: dict[Path, LoadedDocument | None] = field(default_factory=dict)

    def contract(self, node: Node, slot: str, folder: Folder) -> LoadedContract | None:
        """The JSON Schema that a node names."""
        path = self.file(node, slot, folder, ".json")
        if path is None:
            return None
        if path not in self._contracts:
            self._contracts[path] = self._load_contract(path, folder)
        return self._contracts[path]

    def _load_contract(self, path: Path, folder: Folder) -> LoadedContract | None:
        self._remember_schemas(path, folder)
        loaded = load_contract(path.resolve(), folder.root)
        if isinstance(loaded, tuple):
            self._problems(path, folder, loaded)
            return None
        return loaded

    def document(self, node: Node, slot: str, folder: Folder) -> LoadedDocument | None:
        """The template that a node names."""
        path = self.file(node, slot, folder, ".j2")
        if path is None:
            return None
        if path not in self._documents:
            self._remember_templates(path, folder)
            loaded = load_document(path.resolve(), folder.root)
            if isinstance(loaded, tuple):
                self._problems(path, folder, loaded)
            self._documents[path] = None if isinstance(loaded, tuple) else loaded
        return self._documents[path]

    def table(self, node: Node, slot: str, folder: Folder) -> LoadedTable | None:
        """The JSON or CSV file that a node names."""
        text = self.reader.text(node, slot)
        if text is None:
            return None
        if not text.endswith((".json", ".csv")):
            self.reader.report(node, "wrong-type", f"`{clip(text)}` is no table", "a `*.json` or `*.csv` file")
            return None
        path = self.file(node, slot, folder, Path(text).suffix, text)
        if path is None:
            return None
        if path not in self._tables:
            name = path.relative_to(folder.path).as_posix()
            loaded = load_table(name, self._remember(path, folder, MAX_TABLE_BYTES + 1))
            if isinstance(loaded, tuple):
                self._problems(path, folder, loaded)
            self._tables[path] = None if isinstance(loaded, tuple) else loaded
        return self._tables[path]

    def file(self, node: Node, slot: str, folder: Folder, suffix: str, text: str | None = None) -> Path | None:
        """The file that a node (or `text`, a part of it) names; reports one that is missing or outside the folder."""
        name = text if text is not None else self.reader.text(node, slot)
        if name is None:
            return None
        path = inside(folder, name)
        if path is None:
            what = f"`{clip(name)}` leads out of the folder {folder.root.name}"
            self.reader.report(node, "path-outside", what, "a path inside it")
            return None
        if not is_file(path):
            instead = instead_of(name, _named(folder, suffix), f"{name} into that folder")
            what = f"there is no file `{clip(name)}` in {folder.root.name}"
            self.reader.report(node, "missing-file", what, clip(instead))
            return None
        self.files.named(path, folder)
        return path

    def _remember(self, path: Path, folder: Folder, limit: int = -1) -> bytes:
        try:
            return self.files.read(path, folder, limit)
        except OSError:
            return b""  # the loader of the file reports what it could not read

    def _remember_templates(self, path: Path, folder: Folder) -> None:
        """Remember a template and those that it includes, which are named from the folder."""
        waiting, seen = [path], {path}
        while waiting:
            for name in _INCLUDED.findall(self._remember(waiting.pop(), folder)):
                target = inside(folder, name.decode("utf-8", "replace"))
                if target is not None and target not in seen and is_file(target):
                    seen.add(target)
                    waiting.append(target)

    def _remember_schemas(self, path: Path, folder: Folder) -> None:
        """Remember a schema and the files that it refers to: a change in them changes the contract."""
        waiting, seen = [path], {path}
        while waiting:
            file = waiting.pop()
            for reference in _REFERENCE.findall(self._remember(file, folder)):
                name = reference.decode("utf-8", "replace").partition("#")[0]
                beside = file.parent.relative_to(folder.path) / name
                target = inside(folder, beside.as_posix()) if name and ":" not in name else None
                target = None if target is None else folder.path / target.resolve().relative_to(folder.root)
                if target is not None and target not in seen and is_file(target):
                    seen.add(target)
                    waiting.append(target)

    def _problems(self, path: Path, folder: Folder, problems: tuple[Problem, ...]) -> None:
        for problem in problems:
            file = problem.file or path
            if file.is_relative_to(folder.root):
                file = folder.path / file.relative_to(folder.root)
            source = Source(shown(file), _text(file))
            found = source.finding(problem.offset, problem.code, problem.what, problem.instead, problem.severity)
            self.reader.findings.add(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return ""


def _named(folder: Folder, suffix: str) -> list[str]:
    """Files of the folder with a suffix, for suggestions."""
    found = (each for each in folder.path.rglob(f"*{suffix}") if is_file(each))
    return sorted(each.relative_to(folder.path).as_posix() for each in found)
