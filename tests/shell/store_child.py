"""A process that commits and tells what was acknowledged: `python store_child.py FILE loop|hold|full`."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from bus.core.errors import StoreFailed
from bus.ports import Commit, Entry
from bus.shell.sqlite_store import SqliteStore
from tests.contract.stores import entry, output


def say(*what: object) -> None:
    print(*what, flush=True)


def entries(first: int, count: int) -> list[Entry]:
    return [entry(seq, outputs=(output(f"o{seq}"),)) for seq in range(first, first + count)]


def loop(store: SqliteStore) -> None:
    """Commit without end, 7 entries at a time in two partitions."""
    claims = store.claim(2)
    first, other = claims[0].next_seq, claims[1].next_seq
    while True:
        store.commit(Commit({0: entries(first, 5), 1: entries(other, 2)}, done={0: first - 1}))
        first, other = first + 5, other + 2
        say(first - 1, other - 1)


def broken_disk(store: SqliteStore, path: Path) -> None:
    """Let the disk fail in the middle of a commit, heal it, and say what the store makes of it."""
    store.claim(1)
    store.commit(Commit({0: entries(1, 3)}))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size + 8192, hard))
    refuse(store, entries(4, 300))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    refuse(store, entries(4, 1))


def refuse(store: SqliteStore, batch: list[Entry]) -> None:
    try:
        store.commit(Commit({0: batch}))
    except StoreFailed as error:
        say(error)
    else:
        say("committed")


def main() -> None:
    path, what = Path(sys.argv[1]), sys.argv[2]
    store = SqliteStore(path)
    say("open")
    if what == "loop":
        loop(store)
    elif what == "hold":
        sys.stdin.read()
    else:
        broken_disk(store, path)


if __name__ == "__main__":
    main()
