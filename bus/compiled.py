"""Modules of the messages' path, compiled to C where `deploy/express` has done so, in place of the interpreted ones.

They are the same files, compiled by mypyc as they are; the express lane's engine lies beside them. All of them are
taken or none, and only while every source is the one that was compiled, or that the engine repeats: after an edit the
interpreter reads the sources again. `BUS_EXPRESS=off` takes none.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Literal

FOLDER = "agentbus_compiled"
MANIFEST = "manifest.json"
WANTED = os.environ.get("BUS_EXPRESS", "") != "off"


class _Loader(ExtensionFileLoader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        try:
            return super().create_module(spec)
        except ImportError as error:
            raise ImportError(f"{error}; run deploy/express again, or set BUS_EXPRESS=off") from error


class Compiled(MetaPathFinder):
    """Finds compiled modules.

    Args:
        modules: the file of each.
    """

    def __init__(self, modules: Mapping[str, Path]) -> None:
        self._modules = modules

    def __contains__(self, fullname: str) -> bool:
        return fullname in self._modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        file = self._modules.get(fullname)
        if file is None:
            return None
        return spec_from_file_location(fullname, file, loader=_Loader(fullname, str(file)))


def fingerprint(root: Path, files: Sequence[str]) -> str:
    """Hash of sources, of the Python that runs them, and of what says so.

    Args:
        root: the folder that `bus` is in.
        files: relative to it.
    """
    hashed = blake2b(sys.version.encode(), digest_size=16)
    for each in files:
        content = (root / each).read_bytes()
        hashed.update(f"\0{each}\0{len(content)}\0".encode())
        hashed.update(content)
    return hashed.hexdigest()


def finder(folder: Path, root: Path) -> Compiled | None:
    """What finds the modules that were compiled into a folder, or None when they are not of these sources.

    Args:
        folder: with a manifest: the sources, their fingerprint, and the file of each module.
        root: the folder that `bus` is in.
    """
    try:
        said = json.loads((folder / MANIFEST).read_text())
        if fingerprint(root, said["sources"]) != said["fingerprint"]:
            return None
        modules = {str(name): folder / file for name, file in said["modules"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, not ours to read, or half written
        return None
    return Compiled(modules) if all(file.is_file() for file in modules.values()) else None


def _places() -> tuple[Path, Path]:
    return Path(sysconfig.get_path("platlib")) / FOLDER, Path(__file__).parent.parent


def state() -> Literal["off", "absent", "stale", "used"]:
    """Whether the compiled modules are taken; `stale` is: not of these sources."""
    folder, root = _places()
    if not WANTED:
        return "off"
    if not (folder / MANIFEST).exists():
        return "absent"
    return "stale" if finder(folder, root) is None else "used"


def prefer_compiled() -> None:
    """Have the compiled modules imported, if they are there and of these sources."""
    found = finder(*_places()) if WANTED else None
    if found is not None:
        sys.meta_path.insert(0, found)


def is_compiled(fullname: str) -> bool:
    """Whether an import of this module takes a compiled one."""
    return any(isinstance(each, Compiled) and fullname in each for each in sys.meta_path)
