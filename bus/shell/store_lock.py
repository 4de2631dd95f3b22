"""One process holds a store: an advisory lock on a file beside it, which the kernel lets go when the process dies.

The lock belongs to the open file, so a child that was forked (not executed) while it is held keeps it too.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from bus.core.errors import StoreFailed


class StoreLock:
    """Args:
    path: the store; the lock stands beside it as `PATH.lock` and names the process.

    Raises:
        StoreFailed: another process holds the store, or the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreFailed(f"{path}.lock cannot be opened: {error.strerror}; give another --home") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip()
            os.close(self._file)
            if isinstance(error, BlockingIOError):
                raise StoreFailed(
                    f"another process (pid {holder or 'unknown'}) holds {path}; stop it or give another --home"
                ) from error
            raise StoreFailed(f"{path} cannot be locked: {error.strerror}; give another --home") from error

    def release(self) -> None:
        """Let go. The file stays: removing it could take away the lock of the next holder."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
