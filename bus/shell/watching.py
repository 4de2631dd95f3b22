"""Seeing that files of a configuration have changed: by asking the file system, which every kind of mount answers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

POLL_S = 0.4  # an edit is seen within this; looking at a hundred files takes about a millisecond
SETTLE_S = 0.1  # an editor may be half through writing a file

Snapshot: TypeAlias = "dict[Path, tuple[int, int]]"


def snapshot(folders: Sequence[Path]) -> Snapshot:
    """Time and size of every file below the folders, but for hidden ones."""
    return {path: stamp for folder in folders for path, stamp in _files(folder)}


def _files(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    for root, below, names in os.walk(folder):
        below[:] = [each for each in below if not each.startswith((".", "__pycache__"))]
        for name in names:
            path = Path(root, name)
            if not name.startswith("."):
                try:
                    status = path.stat()
                except OSError:
                    continue  # gone since it was listed
                yield path, (status.st_mtime_ns, status.st_size)


class Watched:
    """Args:
    folders: gives what is watched; it may be others when another configuration uses others.
    """

    def __init__(self, folders: Callable[[], Sequence[Path]]) -> None:
        self._folders = folders
        self._seen = snapshot(folders())

    def changed(self) -> bool:
        """Whether files have changed since the last time that this was so, and stand still now."""
        now = snapshot(self._folders())
        if now == self._seen:
            return False
        time.sleep(SETTLE_S)
        if snapshot(self._folders()) != now:
            return False
        self._seen = now
        return True

    def again(self) -> None:
        """What was seen last has come to nothing: let it count as a change once more."""
        self._seen = {}
