"""A commit as the columns that `postgres_statements.commit` takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        yield (
            "log",
            [
                Bigints([each.partition for each in segments]),
                Bigints([each.first_seq for each in segments]),
                Bigints([each.count for each in segments]),
                Byteas([each.blob for each in segments]),
            ],
        )
        runs = [(partition, entries) for partition, entries in batch.entries.items() if entries]
        yield (
            "keys",
            [
                Bigints([partition for partition, _ in runs]),
                Bigints([entries[0].seq for _, entries in runs]),
                Bigints([len(entries) for _, entries in runs]),
                Byteas([_identities(entries) for _, entries in runs]),
            ],
        )
    if batch.release:
        places = dict.fromkeys([(each.partition, each.seq, each.index) for each in batch.release])
        # What is held again in the same commit is not released: one statement sees only what was there before it.
        places = {each: None for each in places if each not in {(h.partition, h.seq, h.index) for h in batch.hold}}
        yield "release", [list(each) for each in zip(*places, strict=True)] or [[], [], []]
    if batch.hold:
        rows = {
            (h.partition, h.seq, h.index): (
                h.partition,
                h.seq,
                h.index,
                stored(h.key),
                h.due_s,
                h.attempts,
                stored(h.reason),
            )
            for h in batch.hold
        }
        yield "hold", [list(each) for each in zip(*rows.values(), strict=True)]
    if batch.exceptions:
        outcomes = {
            (e.partition, e.seq, e.index): (e.partition, e.seq, e.index, e.how, e.at_s, stored(e.reason))
            for e in batch.exceptions
        }
        yield "except", [list(each) for each in zip(*outcomes.values(), strict=True)]


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
