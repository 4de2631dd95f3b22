"""What all stores do alike: buckets of the inbox, and a commit worked out before anything is touched.

An inbox key is unique within its bucket of 1024 entries only, so that inserting it touches a few recently used pages
however many keys there are. Over the whole window the owner's filter keeps keys unique.
"""

from __future__ import annotations

from dataclasses import dataclass

from bus.audit.segment import misplaced, pack, split, unpack
from bus.core.errors import Fenced, StoreFailed
from bus.ports import SHARED, Commit, Entry, InboxKey
from bus.shell.engine import ENGINE

BUCKET_ENTRIES = 1024
_PARTITION_BITS = 40  # 2^40 buckets of 1024 entries each


def bucket_of(seq: int) -> int:
    """Return the inbox bucket of an entry's key."""
    return seq // BUCKET_ENTRIES


def first_of(bucket: int) -> int:
    """Number of the first entry whose key lies in this bucket, or could."""
    return bucket * BUCKET_ENTRIES


def bucket_id(partition: int, bucket: int) -> int:
    """Number a bucket over all partitions."""
    return (partition << _PARTITION_BITS) + bucket


def bucket_in(bucket_id: int) -> int:
    """Return the number of a bucket inside its partition."""
    return bucket_id & ((1 << _PARTITION_BITS) - 1)


def partition_in(bucket_id: int) -> int:
    """Return the partition of a bucket."""
    return bucket_id >> _PARTITION_BITS


@dataclass(frozen=True, slots=True)
class Segment:
    """One row of the log."""

    partition: int
    first_seq: int
    count: int
    blob: bytes


@dataclass(frozen=True, slots=True)
class Move:
    """What a commit does to one partition.

    Args:
        first, after: number of its first new entry, and the next after its last; None and 0 without entries.
        done: its new watermark, or None.
    """

    partition: int
    first: int | None
    after: int
    done: int | None


def segments_of(batch: Commit) -> list[Segment]:
    """Pack the entries of a commit.

    Raises:
        StoreFailed: the entries of a partition are not contiguous.
    """
    quick = None if ENGINE is None else ENGINE.segments(batch.entries)
    if quick is not None:
        return [Segment(*each) for each in quick]
    made = []
    for partition, entries in batch.entries.items():
        expected = entries[0].seq if entries else 0
        for run in split(entries) if entries else ():
            if run[0].seq != expected:
                raise misplaced(partition, run[0].seq, expected)
            expected += len(run)
            made.append(Segment(partition, run[0].seq, len(run), pack(partition, run)))
    return made


def moves_of(batch: Commit) -> list[Move]:
    """List every partition that a commit touches, so that each is fenced, in order."""
    touched = {partition for partition, entries in batch.entries.items() if entries} | batch.done.keys()
    touched.update(each.partition for rows in (batch.hold, batch.release, batch.exceptions) for each in rows)
    touched.update(each.partition for each in batch.states if each.partition != SHARED)
    moves = []
    for partition in sorted(touched):
        entries = batch.entries.get(partition)
        first, after = (entries[0].seq, entries[-1].seq + 1) if entries else (None, 0)
        moves.append(Move(partition, first, after, batch.done.get(partition)))
    return moves


def advance(move: Move, next_seq: int, done: int) -> tuple[int, int]:
    """Return the partition's (next, done) after `move`; a watermark never goes back.

    Raises:
        StoreFailed: the move does not follow on what the partition has.
    """
    if move.first is not None and move.first != next_seq:
        raise misplaced(move.partition, move.first, next_seq)
    next_seq = move.after if move.first is not None else next_seq
    if move.done is not None and move.done >= next_seq:
        raise StoreFailed(
            f"partition {move.partition} cannot be done up to {move.done}, its last entry is {next_seq - 1}; "
            "nothing was written"
        )
    return next_seq, done if move.done is None else max(done, move.done)


def entries_of(partition: int, first_seq: int, blob: bytes) -> list[Entry]:
    """Read a segment.

    Raises:
        StoreFailed: it is damaged.
    """
    return [
        Entry(each.seq, InboxKey(*each.inbox) if each.inbox else None, each.record, each.input, each.outputs)
        for each in unpack(partition, first_seq, blob)
    ]


def unfinished(partition: int, partitions: int) -> StoreFailed:
    """The error for claiming fewer partitions than have work left: it would never be finished."""
    return StoreFailed(
        f"partition {partition} has unfinished messages and only {partitions} partitions were asked for; "
        f"start with --partitions {partition + 1} or more"
    )


def fenced(partition: int) -> Fenced:
    """The error of an owner that is none any more, or never was."""
    return Fenced(f"partition {partition} was claimed by another owner; nothing was written")
