"""Seeing that files have changed, for `bus dev` and `bus test --watch`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

POLL_S = 0.4
"""An edit is seen within this; looking at a hundred files takes about a millisecond."""

Snapshot: TypeAlias = dict[Path, tuple[int, int]]


def snapshot(folders: Sequence[Path]) -> Snapshot:
    """When each file below these folders was written, and its size."""
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
