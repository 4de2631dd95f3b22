"""What a commit writes to a SQLite store, statement by statement: as few as can be, and on few pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from json import dumps
from typing import TypeAlias

from bus.ports import Commit, Entry
from bus.shell.sqlite_schema import SPACING
from bus.shell.store_rules import BUCKET_ENTRIES, Move, Segment, bucket_id, bucket_of

Run: TypeAlias = tuple[int, int, bytes]
"""A row of `runs`: bucket, the first number, and the identities of that one and those that follow."""

APPEND = "INSERT INTO appended VALUES (?, ?, ?, ?, ?)"

# A commit is one statement: each gives up the interpreter's lock, and beside a busy loop it takes long to get it back.
# So the rows come as JSON, the blobs joined, and a trigger takes them apart. `moves` is [partition, epoch, number of
# the first new entry or null, the next after the last, watermark or null], `segments` [partition, first_seq, count,
# start and length of the blob], `runs` [bucket, first, start and length].
APPENDING = f"""
CREATE TEMP VIEW appended(moves, segments, blobs, runs, keys) AS SELECT 0, 0, 0, 0, 0;

CREATE TEMP TRIGGER appending INSTEAD OF INSERT ON appended BEGIN
    SELECT RAISE(ABORT, 'it does not follow on what is there')
    WHERE EXISTS (
        SELECT 1 FROM json_each(NEW.moves) AS move
        LEFT JOIN partition AS p ON p.partition = json_extract(move.value, '$[0]')
        WHERE p.epoch IS NOT json_extract(move.value, '$[1]')
        OR coalesce(json_extract(move.value, '$[2]'), p.next) != p.next
        OR json_extract(move.value, '$[4]') >= max(p.next, json_extract(move.value, '$[3]'))
    );
    UPDATE partition SET
        next = max(next, json_extract(move.value, '$[3]')),
        done = max(done, coalesce(json_extract(move.value, '$[4]'), 0))
    FROM json_each(NEW.moves) AS move WHERE partition.partition = json_extract(move.value, '$[0]');
    INSERT INTO segment(partition, first_seq, count, blob)
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
               substr(NEW.blobs, json_extract(value, '$[3]'), json_extract(value, '$[4]'))
        FROM json_each(NEW.segments);
    INSERT INTO place
        SELECT partition, first_seq, position FROM segment
        WHERE position > (SELECT max(position) FROM segment) - json_array_length(NEW.segments)
        AND position - {SPACING} >= coalesce(
            (SELECT position FROM place WHERE place.partition = segment.partition ORDER BY first_seq DESC LIMIT 1),
            -{SPACING});
    INSERT INTO runs(bucket, first, keys)
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),
               substr(NEW.keys, json_extract(value, '$[2]'), json_extract(value, '$[3]'))
        FROM json_each(NEW.runs);
END;
"""


def appended(
    moves: Sequence[Move], epochs: Mapping[int, int], segments: Sequence[Segment], runs: Sequence[Run]
) -> tuple[str, str, bytes, str, bytes]:
    """The values of `APPEND`."""
    rows, at = [], 1
    for each in segments:
        rows.append((each.partition, each.first_seq, each.count, at, len(each.blob)))
        at += len(each.blob)
    keys, at = [], 1
    for bucket, first, identities in runs:
        keys.append((bucket, first, at, len(identities)))
        at += len(identities)
    moved = [(each.partition, epochs.get(each.partition, -1), each.first, each.after, each.done) for each in moves]
    blobs, identities = b"".join([each.blob for each in segments]), b"".join([each for _, _, each in runs])
    return dumps(moved), dumps(rows), blobs, dumps(keys), identities


def key_runs(partition: int, entries: Sequence[Entry]) -> Iterator[Run]:
    """Cut entries where a bucket ends, and at those without an identity."""
    run: list[bytes] = []
    first = 0
    for entry in entries:
        seq, inbox = entry.seq, entry.inbox
        if run and (inbox is None or seq % BUCKET_ENTRIES == 0):
            yield bucket_id(partition, bucket_of(first)), first, b"".join(run)
            run = []
        if inbox is not None:
            if not run:
                first = seq
            run += inbox
    if run:
        yield bucket_id(partition, bucket_of(first)), first, b"".join(run)


def write_states(db: sqlite3.Connection, batch: Commit) -> None:
    """Write what partitions remember."""
    gone = [(each.partition, each.key) for each in batch.states if each.body is None]
    if gone:
        db.executemany("DELETE FROM state WHERE partition = ? AND key = ?", gone)
    kept = [(e.partition, e.key, e.due_s, e.body, e.version) for e in batch.states if e.body is not None]
    if kept:
        db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?)", kept)


def write_waiting(db: sqlite3.Connection, batch: Commit) -> None:
    """Write rows that wait, and how outputs ended."""
    if batch.release:
        gone = [(each.partition, each.seq, each.index) for each in batch.release]
        db.executemany('DELETE FROM held WHERE partition = ? AND seq = ? AND "index" = ?', gone)
    if batch.hold:
        rows = [(h.partition, h.seq, h.index, h.key, h.due_s, h.attempts, h.reason) for h in batch.hold]
        db.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    if batch.exceptions:
        outcomes = [(e.partition, e.seq, e.index, e.how, e.at_s, e.reason) for e in batch.exceptions]
        db.executemany("INSERT OR REPLACE INTO exceptions VALUES (?, ?, ?, ?, ?, ?)", outcomes)
