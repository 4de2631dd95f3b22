"""A wish to grow, left beside a SQLite store: its one process holds the file, so nobody else may write into it.

A small file `STORE.grow` with the number of partitions, made at once or not at all. The store takes it in when it is
next asked for the ingress, which a running bus does every second, and a bus that is started then at its start.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from bus.core.errors import StoreFailed


def leave(store: Path, partitions: int) -> None:
    """Leave the wish, in place of an earlier one.

    Raises:
        StoreFailed: the folder cannot be written.
    """
    place = _place(store)
    new = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{partitions}\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(place)
    except OSError as error:
        raise StoreFailed(f"{place} cannot be written: {error.strerror}; run this as the bus's own user") from error


def waiting(store: Path) -> int | None:
    """The number of partitions that somebody wishes for, or None; what is no number is 0."""
    try:
        text = _place(store).read_text("ascii", "replace").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() and len(text) < 9 else 0


def taken(store: Path) -> None:
    """Take the wish away."""
    _place(store).unlink(missing_ok=True)


def _place(store: Path) -> Path:
    return store.with_name(f"{store.name}.grow")
