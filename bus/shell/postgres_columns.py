"""A commit as the columns that `postgres_statements.commit` takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bus.core.errors import StoreFailed
from bus.ports import Commit, Entry
from bus.shell.postgres_arrays import Bigints, Byteas
from bus.shell.postgres_schema import stored
from bus.shell.store_rules import Segment

_NONE = b"\0" * 25  # an entry without identity, in the identities of a segment
_KEY_BYTES = 16
_CONTENT_BYTES = 8


def columns_of(batch: Commit, segments: Sequence[Segment]) -> Iterator[tuple[str, list[Any]]]:
    """List what a commit writes, part by part, each as its columns."""
    if segments:
        yield "log", _log(segments)
        yield "keys", _keys(batch)
    # A statement sees each row as it was before it, and may write it once: of several writes the last one is listed,
    # and what is held again in the same commit is not released.
    hold = {(each.partition, each.seq, each.index): each for each in batch.hold}
    release = {(each.partition, each.seq, each.index) for each in batch.release} - hold.keys()
    if release:
        yield "release", _transposed(release)
    if hold:
        yield (
            "hold",
            _transposed([(*place, stored(h.key), h.due_s, h.attempts, stored(h.reason)) for place, h in hold.items()]),
        )
    gone = [(each.partition, each.key) for each in batch.states if each.body is None]
    if gone:
        yield "forget", _transposed(gone)
    kept = [(e.partition, e.key, e.due_s, e.body, e.version) for e in batch.states if e.body is not None]
    if kept:
        yield "remember", _transposed(kept)
    outcomes = {(each.partition, each.seq, each.index): each for each in batch.exceptions}
    if outcomes:
        yield "except", _transposed([(*place, e.how, e.at_s, stored(e.reason)) for place, e in outcomes.items()])


def _log(segments: Sequence[Segment]) -> list[Any]:
    return [
        Bigints([each.partition for each in segments]),
        Bigints([each.first_seq for each in segments]),
        Bigints([each.count for each in segments]),
        Byteas([each.blob for each in segments]),
    ]


def _keys(batch: Commit) -> list[Any]:
    runs = [(partition, entries) for partition, entries in batch.entries.items() if entries]
    return [
        Bigints([partition for partition, _ in runs]),
        Bigints([entries[0].seq for _, entries in runs]),
        Bigints([len(entries) for _, entries in runs]),
        Byteas([_identities(entries) for _, entries in runs]),
    ]


def _transposed(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _identities(entries: Sequence[Entry]) -> bytes:
    """Write the identities of a run of entries as `postgres_statements` reads them."""
    parts: list[bytes] = []
    for each in entries:
        inbox = each.inbox
        if inbox is None:
            parts.append(_NONE)
        elif len(inbox.key) != _KEY_BYTES or len(inbox.content) != _CONTENT_BYTES:
            raise StoreFailed(
                f"input {each.seq} has an identity of {len(inbox.key)} and {len(inbox.content)} bytes and not of "
                f"{_KEY_BYTES} and {_CONTENT_BYTES}; nothing was written"
            )
        else:
            parts += (b"\1", inbox.key, inbox.content)
    return b"".join(parts)
