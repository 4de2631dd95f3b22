"""The SQL of the PostgreSQL store, one statement a call: what must be atomic is never more than one.

A commit is one statement, so that an owner that is paused can't sit in a transaction with the partition locked. Its
fence is the row of `partition`, locked (`FOR UPDATE`), not just read: a claim waits for the lock, and then sees all
that the commit wrote; a commit that waits for a claim sees the new epoch and writes nothing. With a plain read a stale
owner could write after the claimant has seen nothing pending. Locks are taken in the order of partitions.
"""

from __future__ import annotations

from functools import cache

LOCK = "FOR UPDATE OF p"

_OWN = """
WITH move AS (
    SELECT * FROM unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[])
        AS m(partition, epoch, first, after, mark)
), own AS MATERIALIZED (
    SELECT p.partition, p.next, p.done, m.first, m.after, m.mark
    FROM partition AS p JOIN move AS m ON p.partition = m.partition AND p.epoch = m.epoch
    ORDER BY p.partition {lock}
), verdict AS MATERIALIZED (
    SELECT count(*) = (SELECT count(*) FROM move)
           AND bool_and((first = 0 OR first = next) AND mark < CASE first WHEN 0 THEN next ELSE after END) AS good
    FROM own
)"""

_PARTS = {
    "log": """, logged AS (
    INSERT INTO segment(partition, first_seq, count, blob)
    SELECT * FROM unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::bytea[]) WHERE (SELECT good FROM verdict)
)""",
    # One value a segment for all its identities: 25 bytes an entry, a flag (1: it has one), the key, the content.
    "keys": """, known AS (
    INSERT INTO inbox(bucket, key, seq, content)
    SELECT (k.partition << 40) + ((k.first + i) >> 10), substr(k.ids, i * 25 + 2, 16), k.first + i,
           substr(k.ids, i * 25 + 18, 8)
    FROM unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::bytea[]) AS k(partition, first, count, ids)
    CROSS JOIN LATERAL generate_series(0, k.count::integer - 1) AS i
    WHERE (SELECT good FROM verdict) AND get_byte(k.ids, i * 25) = 1
)""",
    "release": """, gone AS (
    DELETE FROM held USING unnest(%b::integer[], %b::bigint[], %b::integer[]) AS g(partition, seq, index)
    WHERE held.partition = g.partition AND held.seq = g.seq AND held.index = g.index AND (SELECT good FROM verdict)
)""",
    "hold": """, waits AS (
    INSERT INTO held
    SELECT * FROM unnest(%b::integer[], %b::bigint[], %b::integer[], %b::bytea[], %b::float8[], %b::integer[],
                         %b::bytea[]) WHERE (SELECT good FROM verdict)
    ON CONFLICT (partition, seq, index) DO UPDATE
    SET key = excluded.key, due_s = excluded.due_s, attempts = excluded.attempts, reason = excluded.reason
)""",
    "forget": """, forgotten AS (
    DELETE FROM state USING unnest(%b::integer[], %b::text[]) AS g(partition, key)
    WHERE state.partition = g.partition AND state.key = g.key AND (SELECT good FROM verdict)
)""",
    "remember": """, remembered AS (
    INSERT INTO state
    SELECT * FROM unnest(%b::integer[], %b::text[], %b::float8[], %b::bytea[], %b::text[])
    WHERE (SELECT good FROM verdict)
    ON CONFLICT (partition, key) DO UPDATE
    SET due_s = excluded.due_s, body = excluded.body, version = excluded.version
)""",
    "except": """, excepted AS (
    INSERT INTO exceptions
    SELECT * FROM unnest(%b::integer[], %b::bigint[], %b::integer[], %b::text[], %b::float8[], %b::bytea[])
    WHERE (SELECT good FROM verdict)
    ON CONFLICT (partition, seq, index) DO UPDATE SET how = excluded.how, at_s = excluded.at_s, reason = excluded.reason
)""",
}

# One row when all is well; else what the fence found, so that the error can say what is wrong.
_END = """, moved AS (
    UPDATE partition AS p
    SET next = CASE o.first WHEN 0 THEN p.next ELSE o.after END, done = greatest(p.done, o.mark)
    FROM own AS o WHERE p.partition = o.partition AND (SELECT good FROM verdict)
)
SELECT v.good, o.partition, o.next, o.done FROM verdict AS v LEFT JOIN own AS o ON v.good IS NOT TRUE"""


@cache
def commit(parts: tuple[str, ...], lock: str = LOCK) -> bytes:
    """The statement that commits these parts: some of `_PARTS`."""
    return "".join([_OWN.format(lock=lock), *(_PARTS[each] for each in parts), _END]).encode()


CLAIM = b"""
WITH beyond AS (
    SELECT max(partition) AS partition FROM partition AS p
    WHERE partition >= %(of)s AND (done < next - 1 OR EXISTS (SELECT FROM held WHERE held.partition = p.partition)
                                   OR EXISTS (SELECT FROM state WHERE state.partition = p.partition))
), made AS (
    INSERT INTO partition AS p
    SELECT each, 1, 1, 0 FROM unnest(%(partitions)s::integer[]) AS each
    WHERE (SELECT partition FROM beyond) IS NULL ORDER BY each
    ON CONFLICT (partition) DO UPDATE SET epoch = p.epoch + 1
    RETURNING p.partition, p.epoch, p.next, p.done
)
SELECT b.partition, m.* FROM beyond AS b LEFT JOIN made AS m ON true ORDER BY m.partition
"""

# What a sub-transaction has written is gone with it, and the server has proved that it can write as much.
ROOM = """
DO $$ BEGIN
    INSERT INTO segment(partition, first_seq, count, blob)
    VALUES (-1, pg_backend_pid(), 0, decode(repeat('00', {size}), 'hex'));
    RAISE SQLSTATE 'AB001';
EXCEPTION WHEN SQLSTATE 'AB001' THEN NULL;
END $$
"""

PENDING = b"""
SELECT first_seq, count, blob FROM segment
WHERE partition = %(partition)s AND first_seq < %(next)s AND first_seq >= coalesce(
    (SELECT max(first_seq) FROM segment WHERE partition = %(partition)s AND first_seq <= %(from)s), 0)
ORDER BY first_seq LIMIT 16
"""

HELD = b"SELECT * FROM held WHERE partition = %s ORDER BY seq, index"

STATES = b"SELECT key, due_s FROM state WHERE partition = %s"

RECALL = b"SELECT body FROM state WHERE partition = %s AND key = %s"

KEEP_CONFIGURATION = b"""
INSERT INTO config AS c
SELECT %(version)s, coalesce(max(kept), 0) + 1, %(bundle)b FROM config
ON CONFLICT (version) DO UPDATE SET kept = excluded.kept, bundle = excluded.bundle WHERE c.kept < excluded.kept - 1
"""

CONFIGURATION = b"SELECT bundle FROM config WHERE version = %s"

VERSIONS = b"SELECT DISTINCT version FROM state WHERE version IS NOT NULL"

DROP_CONFIGURATIONS = b"""
WITH gone AS (
    DELETE FROM config WHERE version NOT IN (SELECT version FROM config ORDER BY kept DESC LIMIT %s)
    AND version NOT IN (SELECT version FROM state WHERE version IS NOT NULL) RETURNING 1
)
SELECT count(*) FROM gone
"""

SETTLED = b"SELECT seq, index FROM exceptions WHERE partition = %s AND seq > %s"

SEEN = b"SELECT seq, content FROM inbox WHERE bucket = %s AND key = %b"

ENTRY = b"""
SELECT first_seq, count, blob FROM segment WHERE partition = %s AND first_seq <= %s ORDER BY first_seq DESC LIMIT 1
"""

BUCKETS = b"""
SELECT bucket, count(*) FROM inbox WHERE bucket >= %s AND bucket < %s GROUP BY bucket ORDER BY bucket DESC
"""

KEYS = b"SELECT bucket, key FROM inbox WHERE bucket >= %s AND bucket < %s ORDER BY bucket, seq"

PRUNE = b"""
WITH own AS MATERIALIZED (
    SELECT FROM partition WHERE partition = %(partition)s AND epoch = %(epoch)s FOR UPDATE
), gone AS (
    DELETE FROM inbox WHERE bucket >= %(first)s AND bucket < %(stop)s AND EXISTS (SELECT FROM own) RETURNING 1
)
SELECT (SELECT count(*) FROM own), (SELECT count(*) FROM gone)
"""

LEASES = b"SELECT version, workers, owners, extract(epoch FROM clock_timestamp())::float8 FROM lease"

SET_LEASES = b"""
UPDATE lease SET version = version + 1, workers = %s::jsonb, owners = %s::jsonb WHERE version = %s RETURNING version
"""

INGRESS = b"SELECT state FROM ingress"

SET_INGRESS = b"UPDATE ingress SET state = %s::jsonb WHERE state = %s::jsonb RETURNING true"

IDENTITY = b"SELECT store_id, secret FROM meta"
