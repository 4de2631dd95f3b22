"""A home folder for a job of its own, so that two can run side by side."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from bus.core.errors import StoreFailed
from bus.shell.store_lock import StoreLock

LOCK = "job.lock"


@contextlib.contextmanager
def choose_home(base: Path) -> Iterator[Path]:
    """Take the first of `base`, `base-2`, `base-3`, ... that no other job has and no bus works in, for the block.

    The lock is the kernel's (flock), so a job that was killed holds nothing.

    Args:
        base: the folder to begin with; made if absent.
    """
    for number in count(1):
        home = base if number == 1 else base.with_name(f"{base.name}-{number}")
        home.mkdir(parents=True, exist_ok=True)
        with (home / LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                StoreLock(home / "bus.db").release()  # a bus that was started by hand has no job.lock
            except (BlockingIOError, StoreFailed):
                continue
            yield home.absolute()
            return
