"""Blobs as files of a folder, named by their hash: the default, and for several machines a folder that they share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bus.core.blobs import MOST_BLOB_BYTES, name_of
from bus.core.errors import BlobsDown


class FolderBlobs:
    """Args:
    folder: made when the first blob is put.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, body: bytes) -> None:
        """Write a file of its own beside it, have it on the disk, then give it its name."""
        path = self._path(name)
        try:
            if path.is_file() and path.stat().st_size == len(body):
                os.utime(path)  # so that whoever takes old ones away knows that this one is in use
                return
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
                try:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                    os.replace(file.name, path)
                except BaseException:
                    os.unlink(file.name)
                    raise
            for folder in (path.parent, self._folder):  # the name, and that of a folder that is new
                _sync(folder)
        except OSError as error:
            raise BlobsDown(f"a blob cannot be written to {self._folder}: {error.strerror}") from error

    def get(self, name: str) -> bytes | None:
        """Read the file, if its bytes still are what its name says."""
        try:
            with self._path(name).open("rb") as file:
                body = file.read(MOST_BLOB_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BlobsDown(f"a blob cannot be read from {self._folder}: {error.strerror}") from error
        return body if name_of(body) == name else None

    def close(self) -> None:
        """Nothing is held."""

    def _path(self, name: str) -> Path:
        digest = name.partition(":")[2]
        return self._folder / digest[:2] / digest


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class NoBlobs:
    """There is no blob store: whatever needs one fails."""

    def put(self, name: str, body: bytes) -> None:
        raise BlobsDown("this bus has no blob store")

    def get(self, name: str) -> bytes | None:
        return None

    def close(self) -> None: ...
