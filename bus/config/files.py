"""Files of a configuration: which ones there are, their bytes, their hash, and how findings name them.

Every byte that decides what the configuration means passes through here, so the version is a hash over exactly that:
the texts before any secret is filled in, and what configuration values take from the environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

TESTS = ".test.yaml"
_VERSION_DIGITS = 12  # of 64; enough to tell configurations apart, short enough to read out


@dataclass(frozen=True, slots=True)
class Folder:
    """One integration's folder.

    Args:
        path: as the user named it.
        root: the same, resolved; files may not lie outside it.
        files: its YAML documents, sorted by name.
        tests: its `*.test.yaml`, which decide nothing, so that they are no part of the version.
    """

    path: Path
    root: Path
    files: tuple[Path, ...]
    tests: tuple[Path, ...] = ()


def _documents(path: Path) -> tuple[list[Path], list[Path]]:
    """The documents of an integration, and its tests, sorted by name."""
    found = sorted(each for each in path.iterdir() if each.suffix == ".yaml" and not each.name.startswith("."))
    files = [each for each in found if each.is_file()]
    tests = [each for each in files if each.name.endswith(TESTS)]
    return [each for each in files if not each.name.endswith(TESTS)], tests


def _folder(path: Path) -> Folder | None:
    try:
        files, tests = _documents(path)
        return Folder(path, path.resolve(), tuple(files), tuple(tests)) if files else None
    except (OSError, RuntimeError):  # not readable, or a loop of links
        return None


def _below(path: Path) -> list[Path]:
    try:
        return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError:
        return []


def discover(folders: Sequence[Path]) -> tuple[tuple[Folder, ...], tuple[Path, ...]]:
    """Find the integrations in the folders that the user named.

    Args:
        folders: each an integration (it has YAML files) or a parent of integrations.

    Returns:
        The integrations in stable order, each once; and the folders in which there is none.
    """
    found: dict[Path, Folder] = {}
    empty: list[Path] = []
    for path in folders:
        here: list[Folder] = []
        if path.is_dir():
            own = _folder(path)
            here = [own] if own else [each for each in map(_folder, _below(path)) if each]
        if not here:
            empty.append(path)
        for folder in here:
            found.setdefault(folder.root, folder)
    return tuple(found.values()), tuple(empty)


def sibling(folder: Folder, name: str) -> Folder | None:
    """The integration called `name` in the folder next to `folder`, if there is one."""
    path = folder.path.parent / name
    return _folder(path) if path.is_dir() else None


def inside(folder: Folder, text: str) -> Path | None:
    """The path that `text` names relative to the folder; None when it leads out of it."""
    try:
        resolved = (folder.root / text).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a null byte
        return None
    return folder.path / text if resolved.is_relative_to(folder.root) and not Path(text).is_absolute() else None


def is_file(path: Path) -> bool:
    """Whether there is a file; a name that no file system takes is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def shown(path: Path) -> str:
    """A path as findings name it: relative to the working directory where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@dataclass(slots=True)
class Files:
    """The files read so far, with what was in them."""

    _read: dict[Path, tuple[str, bytes]] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)

    def read(self, path: Path, folder: Folder, limit: int = -1) -> bytes:
        """Read a file, at most `limit` bytes of it, and remember it for the version.

        Raises:
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            data = file.read(limit)
        self._read[path] = (_name(path, folder), data)
        return data

    def named(self, path: Path, folder: Folder) -> None:
        """Note a file that must be there, whatever is in it: an agent's code."""
        self._named.add(_name(path, folder))

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(sorted(self._read))

    @property
    def contents(self) -> dict[str, bytes]:
        """What was read, by `integration/path in its folder`; a file that only has to be there is empty."""
        return {**dict.fromkeys(self._named, b""), **dict(self._read.values())}

    def version(self, variables: Mapping[str, str | None]) -> str:
        """Hash of all names and contents. It is the same wherever the folders stand.

        Args:
            variables: what configuration values took from the environment; None for one that is not set.
        """
        total = sha256()
        for name, data in sorted(self._read.values()):
            total.update(len(name.encode()).to_bytes(4, "big") + name.encode() + sha256(data).digest())
        for name, value in sorted(variables.items()):
            if value is not None:
                total.update(f"\0{name}\0{value}".encode("utf-8", "surrogatepass"))
        return total.hexdigest()[:_VERSION_DIGITS]


def _name(path: Path, folder: Folder) -> str:
    inner = path.relative_to(folder.path) if path.is_relative_to(folder.path) else Path(path.name)
    return f"{folder.root.name}/{inner.as_posix()}"
