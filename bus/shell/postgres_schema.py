"""The tables of a store in PostgreSQL: one PostgreSQL schema a namespace, made and brought up to date by migrations.

Each migration runs once, in its number's order, in one transaction, under an advisory lock: workers that start at
once wait for the first one, and find the work done. A migration that was released is never changed; the next one is
appended. The log is insert-only by grant: `worker_grants` gives a role all that a running bus needs and no UPDATE,
DELETE or TRUNCATE on `segment`; only the owner of the schema, who ran the migrations, has those.
"""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql

from bus.core.errors import StoreFailed

OLDEST_SERVER = 13  # `gen_random_uuid` without an extension
_NAME_BYTES = 63  # PostgreSQL cuts longer names without a word
_LOCK = 0x61675342  # "agSB": sets our advisory locks apart from those of others in the same database

_MIGRATIONS = (
    """
    -- `secret` seals return addresses; readers of the log need no right on it.
    CREATE TABLE meta(one boolean PRIMARY KEY DEFAULT true CHECK (one), format integer NOT NULL,
                      store_id text NOT NULL, secret bytea NOT NULL);

    -- Owners and watermarks. `next` is the number of the next entry. Rewritten by every commit, so its pages keep room.
    CREATE TABLE partition(partition integer PRIMARY KEY, epoch bigint NOT NULL, next bigint NOT NULL,
                           done bigint NOT NULL) WITH (fillfactor = 20);

    -- The log, insert-only. `position` orders commits as they began, and within a partition as `first_seq` does.
    -- Blobs are stored as they are: they are JSON and bodies, and compressing them would cost more than it saves.
    CREATE TABLE segment(position bigint GENERATED ALWAYS AS IDENTITY UNIQUE, partition integer NOT NULL,
                         first_seq bigint NOT NULL, count integer NOT NULL, blob bytea NOT NULL,
                         PRIMARY KEY (partition, first_seq));
    ALTER TABLE segment ALTER COLUMN blob SET STORAGE EXTERNAL;

    -- Identities of inputs. `bucket` is partition * 2^40 + seq / 1024: new keys land on a few pages at the end.
    CREATE TABLE inbox(bucket bigint NOT NULL, key bytea NOT NULL, seq bigint NOT NULL, content bytea NOT NULL,
                       PRIMARY KEY (bucket, key));

    -- `key` and `reason` are UTF-8; as `text` they could not hold the NUL that an ordering key has.
    CREATE TABLE held(partition integer NOT NULL, seq bigint NOT NULL, index integer NOT NULL, key bytea NOT NULL,
                      due_s double precision NOT NULL, attempts integer NOT NULL, reason bytea NOT NULL,
                      PRIMARY KEY (partition, seq, index));

    CREATE TABLE exceptions(partition integer NOT NULL, seq bigint NOT NULL, index integer NOT NULL, how text NOT NULL,
                            at_s double precision NOT NULL, reason bytea NOT NULL,
                            PRIMARY KEY (partition, seq, index));

    -- Who owns which partition: one row, replaced by compare-and-set on `version`.
    CREATE TABLE lease(one boolean PRIMARY KEY DEFAULT true CHECK (one), version bigint NOT NULL,
                       workers jsonb NOT NULL, owners jsonb NOT NULL) WITH (fillfactor = 20);

    INSERT INTO lease VALUES (true, 0, '{}', '{}');
    INSERT INTO meta VALUES (true, 0, replace(gen_random_uuid()::text, '-', ''),
        sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
    """,
    """
    -- What partitions there are: one row, replaced by compare-and-set. See bus.core.ingress.
    CREATE TABLE ingress(one boolean PRIMARY KEY DEFAULT true CHECK (one), state jsonb NOT NULL);
    INSERT INTO ingress VALUES (true, '{}');
    """,
    """
    -- What routes with memory remember. `due_s` says when something happens by itself. Rewritten often.
    CREATE TABLE state(partition integer NOT NULL, key text NOT NULL, due_s double precision, body bytea NOT NULL,
                       PRIMARY KEY (partition, key)) WITH (fillfactor = 70);
    """,
    """
    -- Configurations that runs may still need, see bus.config.bundle. `kept` is their order.
    CREATE TABLE config(version text PRIMARY KEY, kept bigint NOT NULL, bundle bytea NOT NULL);
    ALTER TABLE config ALTER COLUMN bundle SET STORAGE EXTERNAL;
    ALTER TABLE state ADD COLUMN version text;
    UPDATE state SET version = substring(convert_from(body, 'UTF8') FROM '"config":"([^"]*)"') WHERE key LIKE 'flow:%';
    """,
)

FORMAT = len(_MIGRATIONS)

_WORKER_RIGHTS = {
    "SELECT, INSERT": ("segment",),
    "SELECT, INSERT, UPDATE": ("partition", "exceptions"),
    "SELECT, INSERT, DELETE": ("inbox",),
    "SELECT, INSERT, UPDATE, DELETE": ("held", "state", "config"),
    "SELECT, UPDATE": ("lease", "ingress"),
    "SELECT": ("meta",),
}
_READER_RIGHTS = {
    "SELECT": ("segment", "partition", "held", "exceptions", "ingress", "state", "config"),
    "SELECT (format, store_id)": ("meta",),
}


def schema_of(namespace: str) -> str:
    """Name the PostgreSQL schema of a namespace: the namespace itself.

    Raises:
        StoreFailed: PostgreSQL cannot have a schema of that name.
    """
    if not namespace or len(namespace.encode()) > _NAME_BYTES or namespace.startswith("pg_") or "\0" in namespace:
        raise StoreFailed(
            f"namespace `{namespace}` can be no PostgreSQL schema; write a --namespace of at most {_NAME_BYTES} "
            "bytes that does not begin with `pg_`"
        )
    return namespace


def stored(words: str) -> bytes:
    """Write text for a `bytea` column; NUL and lone surrogates included."""
    return words.encode("utf-8", "surrogatepass")


def text(column: bytes) -> str:
    """Read what `stored` wrote."""
    return column.decode("utf-8", "surrogatepass")


def prepare(db: Connection[Any], namespace: str) -> None:
    """Make the tables, bring them up to date, or check that they are.

    Args:
        db: in autocommit mode, `search_path` set to the namespace's schema.

    Raises:
        StoreFailed: the tables are not a store, of a newer agentbus, or this role may not make them.
        psycopg.Error: the database failed.
    """
    if version(db, namespace) == FORMAT:
        return
    schema = schema_of(namespace)
    with db.transaction():
        db.execute("SET LOCAL lock_timeout = 0")
        db.execute("SET LOCAL statement_timeout = 0")
        db.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, schema))
        reached = version(db, namespace)
        if reached == FORMAT:
            return
        db.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        for migration in _MIGRATIONS[reached:]:
            db.execute(migration.encode())
        db.execute("UPDATE meta SET format = %s", (FORMAT,))


def version(db: Connection[Any], namespace: str) -> int:
    """Read which migration the tables have reached; 0 when there are none.

    Raises:
        StoreFailed: the schema holds something else, or is of a newer agentbus.
    """
    schema = schema_of(namespace)
    tables, ours = _one(
        db,
        "SELECT count(*), count(*) FILTER (WHERE c.relname IN ('meta', 'segment', 'partition', 'inbox')) = 4"
        " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = 'r'",
        (schema,),
    )
    if not tables:
        return 0
    if not ours:
        raise StoreFailed(f"PostgreSQL schema `{schema}` is not a store of agentbus; give another --namespace")
    (reached,) = _one(db, "SELECT format FROM meta", ())
    if reached > FORMAT:
        raise StoreFailed(
            f"the store in schema `{schema}` has format {reached} and this agentbus reads {FORMAT}; "
            "use the version that wrote it"
        )
    return int(reached)


def worker_grants(namespace: str, role: str) -> str:
    """Write the SQL that lets `role` run a bus on a store that exists, without any right to change its log."""
    return _grants(namespace, role, _WORKER_RIGHTS)


def reader_grants(namespace: str, role: str) -> str:
    """Write the SQL that lets `role` read the log (`bus trace`, `bus tap`), and no secret."""
    return _grants(namespace, role, _READER_RIGHTS)


def _grants(namespace: str, role: str, rights: dict[str, tuple[str, ...]]) -> str:
    schema, to = _quoted(schema_of(namespace)), _quoted(role)
    lines = [f"GRANT USAGE ON SCHEMA {schema} TO {to};"]
    for right, tables in rights.items():
        lines.append(f"GRANT {right} ON {', '.join(f'{schema}.{_quoted(each)}' for each in tables)} TO {to};")
    return "\n".join(lines)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _one(db: Connection[Any], statement: str, values: tuple[object, ...]) -> tuple[Any, ...]:
    row = db.execute(statement.encode(), values).fetchone()
    if row is None:
        raise StoreFailed("the store has no row in `meta`; restore the database from a copy")
    return tuple(row)
