"""Effects: what agents did, in a file that outlives them, and what makes their handlers idempotent.

Every agent process appends one line for each handler call before it answers: `done` the first time that a message id is
seen by anyone, `again` otherwise. Looking and appending are one step under a file lock, so competing agents and an
agent's next life share one memory, as an idempotent receiver should.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Effect:
    """One call of a handler.

    Args:
        place: capability or agent that was called.
        token, number: which input it goes back to.
        id, digest: of the message that was handed to the handler.
        life: the process, pid and start: a second call for the same id in one life is the SDK's fault.
        how: `done`, or `again` when the effect was there already.
        redelivered: the message may have been given to an agent before.
    """

    place: str
    token: str
    number: int
    id: str
    digest: str
    life: str
    how: str
    redelivered: bool = False


def digest_of(body: bytes) -> str:
    """What a body says, whatever the order of its keys; of bytes that are no JSON, the bytes."""
    try:
        return digest_of_value(orjson.loads(body))
    except ValueError:
        return blake2b(body, digest_size=12).hexdigest()


def digest_of_value(value: Any) -> str:
    """The same, of a decoded message."""
    return blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=12).hexdigest()


class EffectFile:
    """Args:
    path: the file; made when absent.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b", buffering=0)
        self._seen: set[tuple[str, str]] = set()
        self._read = 0

    def perform(self, place: str, token: str, number: int, id_: str, digest: str, life: str, redelivered: bool) -> bool:
        """Do it unless it was done; durable when this returns. Says whether it was done now."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            self._catch_up()
            first = (place, id_) not in self._seen
            effect = Effect(place, token, number, id_, digest, life, "done" if first else "again", redelivered)
            line = json.dumps(asdict(effect)).encode() + b"\n"
            self._file.write(line)
            os.fsync(self._file.fileno())
            return first
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _catch_up(self) -> None:
        """Read what others appended. A line without an end was cut by a kill: it is ended, and counts for nothing."""
        self._file.seek(self._read)
        new = self._file.read()
        if new and not new.endswith(b"\n"):
            self._file.write(b"\n")
            new += b"\n"
        self._read += len(new)
        for effect in _effects(new):
            self._seen.add((effect.place, effect.id))


class EffectReader:
    """Reads the file as it grows.

    Args:
        path: the file; may be absent yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def new(self) -> list[Effect]:
        """Return what was appended since the last call."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return list(_effects(whole))


def _effects(lines: bytes) -> Iterator[Effect]:
    for line in lines.splitlines():
        try:
            yield Effect(**json.loads(line))
        except (ValueError, TypeError):
            continue
