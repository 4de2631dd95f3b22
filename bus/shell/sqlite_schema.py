"""The SQLite file of a store: its tables, how it is made, and how readers and the writer recognise it."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from pathlib import Path

from bus.core.errors import StoreFailed
from bus.core.ingress import Ingress, as_json, from_json

FORMAT = 5
APPLICATION_ID = 0x61675342  # "agSB", so that `file` and we know such a file

_TABLES = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- Owners and watermarks. `next` is the number of the next entry.
CREATE TABLE partition(partition INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, next INTEGER NOT NULL,
                       done INTEGER NOT NULL);

-- The log, insert-only. `position` is the order of commits over all partitions.
CREATE TABLE segment(position INTEGER PRIMARY KEY, partition INTEGER NOT NULL, first_seq INTEGER NOT NULL,
                     count INTEGER NOT NULL, blob BLOB NOT NULL);
CREATE UNIQUE INDEX segment_place ON segment(partition, first_seq);

-- Identities of inputs. `bucket` is partition * 2^40 + seq / 1024: new keys land on a few pages at the end.
CREATE TABLE inbox(bucket INTEGER NOT NULL, key BLOB NOT NULL, seq INTEGER NOT NULL, content BLOB NOT NULL,
                   PRIMARY KEY(bucket, key)) WITHOUT ROWID;

CREATE TABLE held(partition INTEGER NOT NULL, seq INTEGER NOT NULL, "index" INTEGER NOT NULL, key TEXT NOT NULL,
                  due_s REAL NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL,
                  PRIMARY KEY(partition, seq, "index")) WITHOUT ROWID;

CREATE TABLE exceptions(partition INTEGER NOT NULL, seq INTEGER NOT NULL, "index" INTEGER NOT NULL, how TEXT NOT NULL,
                        at_s REAL NOT NULL, reason TEXT NOT NULL, PRIMARY KEY(partition, seq, "index")) WITHOUT ROWID;
"""


_MIGRATIONS = {
    2: """
-- What routes with memory remember. `due_s` says when something happens by itself.
CREATE TABLE state(partition INTEGER NOT NULL, key TEXT NOT NULL, due_s REAL, body BLOB NOT NULL,
                   PRIMARY KEY(partition, key)) WITHOUT ROWID;
""",
    3: """
-- Configurations that runs may still need, see bus.config.bundle. `kept` is their order.
CREATE TABLE config(version TEXT PRIMARY KEY, kept INTEGER NOT NULL, bundle BLOB NOT NULL) WITHOUT ROWID;
ALTER TABLE state ADD COLUMN version TEXT;
UPDATE state SET version = json_extract(CAST(body AS TEXT), '$.config') WHERE key LIKE 'flow:%'
""",
    4: """
-- Identities of inputs whose numbers follow on one another, within one bucket: 24 bytes each, 16 of key and 8 of
-- content. A row each touched four pages of every partition in every commit.
CREATE TABLE runs(bucket INTEGER NOT NULL, first INTEGER NOT NULL, keys BLOB NOT NULL,
                  PRIMARY KEY(bucket, first)) WITHOUT ROWID;
INSERT INTO runs SELECT bucket, seq, CAST(key || content AS BLOB) FROM inbox;
DROP TABLE inbox
""",
    5: """
-- Where segments stand, of each partition one in `SPACING` positions: an index of all of them touched a page of every
-- partition in every commit.
CREATE TABLE place(partition INTEGER NOT NULL, first_seq INTEGER NOT NULL, position INTEGER NOT NULL,
                   PRIMARY KEY(partition, first_seq)) WITHOUT ROWID;
INSERT INTO place SELECT partition, first_seq, position FROM segment;
DROP INDEX segment_place;

-- One after the other: in the order of buckets each commit split pages and touched their neighbours.
ALTER TABLE runs RENAME TO runs_by_bucket;
CREATE TABLE runs(id INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, first INTEGER NOT NULL, keys BLOB NOT NULL);
INSERT INTO runs(bucket, first, keys) SELECT bucket, first, keys FROM runs_by_bucket ORDER BY bucket, first;
DROP TABLE runs_by_bucket;
CREATE INDEX runs_of ON runs(bucket, first)
""",
}
"""What each format adds to the one before; a released one is never changed."""


SPACING = 64  # a segment stands fewer positions than this behind one of its partition that has its row in `place`

HOLDING = f"""
SELECT position, partition, first_seq, count, blob
FROM (SELECT position AS start FROM place WHERE partition = ?1 AND first_seq <= ?2 ORDER BY first_seq DESC LIMIT 1)
CROSS JOIN segment -- in this order, whatever the planner thinks: the other way round it would read the whole log
WHERE position >= start AND position < start + {SPACING} AND partition = ?1 AND first_seq <= ?2
ORDER BY position DESC LIMIT 1
"""
"""The segment of a partition that has an entry of this number, if any has."""


def make_private(path: Path) -> None:
    """Make the file if there is none, and readable by its owner only: it holds the secret of return addresses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Create the tables in an empty file, or check that the file is a store of this format.

    Raises:
        StoreFailed: it is something else.
    """
    if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        meta = {"format": 1, "store_id": secrets.token_hex(16), "secret": secrets.token_bytes(32)}
        db.execute("BEGIN IMMEDIATE")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for statement in _TABLES.split(";"):
            db.execute(statement)
        db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        db.execute("COMMIT")
    _migrate(db)
    check(db, path)


def _migrate(db: sqlite3.Connection) -> None:
    """Bring a store of an earlier format up to date, one format a transaction."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        return
    reached = meta(db, "format")
    for version, statements in _MIGRATIONS.items():
        if isinstance(reached, int) and reached < version:
            db.execute("BEGIN IMMEDIATE")
            for statement in statements.split(";"):
                db.execute(statement)
            db.execute("UPDATE meta SET value = ? WHERE name = 'format'", (version,))
            db.execute("COMMIT")


def check(db: sqlite3.Connection, path: Path) -> None:
    """Check that an opened file is a store of this format.

    Raises:
        StoreFailed: it is something else.
    """
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreFailed(f"{path} is not a store of agentbus; give another --home")
    version = meta(db, "format")
    if isinstance(version, int) and version < FORMAT:
        raise StoreFailed(f"{path} has format {version}; `bus run` brings it up to format {FORMAT}: start it once")
    if version != FORMAT:
        raise StoreFailed(
            f"{path} has format {version!r} and this agentbus reads {FORMAT}; use the version that wrote it"
        )


def read_ingress(db: sqlite3.Connection) -> Ingress:
    """Read what partitions there are; the empty one before the first start."""
    row = db.execute("SELECT value FROM meta WHERE name = 'ingress'").fetchone()
    return from_json(json.loads(row[0])) if row else Ingress()


def write_ingress(db: sqlite3.Connection, ingress: Ingress) -> None:
    """Write what partitions there are."""
    db.execute("INSERT OR REPLACE INTO meta VALUES ('ingress', ?)", (json.dumps(as_json(ingress)),))


def meta(db: sqlite3.Connection, name: str) -> bytes | str | int:
    """Read a value that was written when the store was made."""
    value: bytes | str | int = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]
    return value
