"""The store's side of the harness: a private PostgreSQL that can be killed, made read-only, filled up and saved."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.chaos.children import poll
from tests.postgres_server import PostgresServer, executable

DISK_MB = 4096  # more than a run writes; memory is taken only by what is written
SPARE_BYTES = 256 * 1024  # what a full disk still takes: a few commits


class Database:
    """A server of our own; its tables lie on a disk of their own where we may mount one. Use as a context manager.

    Attributes:
        server: the server.
        can_fill: whether `fill` works: mounting needs root, and a kernel that lets root do it.
    """

    def __init__(self) -> None:
        self.server = PostgresServer()
        self._disk = Path(tempfile.mkdtemp(prefix="agentbus-disk-"))
        self.can_fill = False

    def __enter__(self) -> Database:
        self.can_fill = self._mount(f"size={DISK_MB}m,mode=777")
        try:
            if self.can_fill:
                self._move_tables()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()
        if self.can_fill:
            subprocess.run(["umount", str(self._disk)], check=False)
        shutil.rmtree(self._disk, ignore_errors=True)

    def _move_tables(self) -> None:
        space = self._disk / "space"
        space.mkdir()
        owner = self.server.folder.stat()
        os.chown(space, owner.st_uid, owner.st_gid)
        self.server.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
        self.server.configure("default_tablespace", "small")

    def fill(self) -> None:
        """Let the disk be full: tables cannot grow. The write-ahead log is elsewhere, so the server runs on."""
        assert poll(self._shrink), "the disk cannot be made smaller"

    def clear(self) -> None:
        """Let the disk have room again."""
        assert self._mount(f"remount,size={DISK_MB}m"), "the disk cannot be made larger"

    def owners(self, namespace: str) -> dict[int, int]:
        """Who leases each partition: process ids, also of those that are gone and not yet replaced."""
        rows: list[tuple[Any, ...]] = self.server.execute(f'SELECT owners FROM "{namespace}".lease')
        # A worker is named HOST-PID-RANDOM.
        return {int(partition): int(name.rsplit("-", 2)[1]) for partition, name in rows[0][0].items()}

    def save(self, folder: Path) -> None:
        """Write the store as SQL, and the server's log, beside the other evidence."""
        command = [executable("pg_dump"), "--no-tablespaces", "--file", str(folder / "store.sql"), self.server.url]
        subprocess.run(command, check=True)
        (folder / "postgres.log").write_text(self.server.log())

    def _shrink(self) -> bool:
        about = os.statvfs(self._disk)
        used = (about.f_blocks - about.f_bfree) * about.f_frsize
        return self._mount(f"remount,size={used + SPARE_BYTES}")

    def _mount(self, options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self._disk)]
        try:
            return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
        except OSError:
            return False
