"""A connection to PostgreSQL that never waits longer than it was told to, and says in a sentence what failed.

A database can be gone in more ways than a closed socket tells: a paused server acknowledges bytes and answers nothing,
a cut cable acknowledges nothing. So there are four bounds: `statement_timeout` and `lock_timeout` in the server,
`tcp_user_timeout` and keepalives in the kernel, and a deadline on every answer here, after which the connection is
dropped. `idle_in_transaction_session_timeout` ends a transaction whose client was paused inside it.

What a URL carries as its password never appears in a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import Connection, conninfo, sql
from psycopg.abc import PQGen

from bus.core.errors import StoreDown, StoreFailed, StoreRefused
from bus.shell.postgres_arrays import register
from bus.shell.postgres_schema import OLDEST_SERVER, schema_of

RV = TypeVar("RV")

TIMEOUT_S = 5.0  # an fsync on a busy disk takes tens of milliseconds; by then the leases are gone anyway
_MARGIN_S = 1.0  # the server's own time-outs come first: what they end is known not to be written
_DOWN = {"08", "25", "40", "53", "55", "57", "58"}
"""SQLSTATE classes of what passes: connection, read-only or idle, deadlock, resources, locks, operator, I/O."""

_TURNED_AWAY = (
    "authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied",
    "not permitted to log in", "permission denied for database",
)  # fmt: skip
"""What a server says to whom it does not let in: libpq has no SQLSTATE for a connection that was not made."""

_INSTEAD = {
    "58P01": "the database is damaged; restore it from a copy",
    "42501": "grant it the rights that deploy/README.md lists",
    "42P01": "its tables are not as agentbus made them; restore the database from a copy",
    "42703": "its tables are not as agentbus made them; restore the database from a copy",
    "3F000": "its schema is gone; restore the database from a copy",
    "28": "check user and password of BUS_STORE",
    "3D": "create the database, or check BUS_STORE",
    "23": "nothing was written",
    "22": "nothing was written",
    "XX": "the database is damaged; restore it from a copy",
}


def shown(url: str) -> str:
    """The store's address without user, password and parameters, for people."""
    try:
        given = _parsed(url)
    except StoreFailed:
        return "postgresql://(unreadable)"
    port = f":{given['port']}" if given.get("port") else ""
    return f"postgresql://{given.get('host') or ''}{port}/{given.get('dbname') or ''}"


def _parsed(url: str) -> dict[str, Any]:
    """Read a URL's parameters.

    Raises:
        StoreFailed: it is none. The message quotes nothing of it: a password may stand anywhere in what is misread.
    """
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        given = {}
    # With a slash in the password the user would be read as the host, and the password as a port, to be quoted.
    if not url.startswith(("postgresql://", "postgres://")) or not given or ("@" in url and not given.get("user")):
        raise StoreFailed(
            "BUS_STORE is no PostgreSQL URL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for @ and "
            "%2F for / in the password"
        )
    return given


class Link(Connection[Any]):
    """A psycopg connection whose answers come within `answer_s` or not at all.

    Attributes:
        answer_s: longest wait for the answer to one statement, seconds.
    """

    answer_s = TIMEOUT_S + _MARGIN_S

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for an answer.

        Raises:
            psycopg.OperationalError: none came in time; the outcome of the statement is unknown.
        """
        return super().wait(gen, interval, self.answer_s if timeout is None else timeout)


def connect(url: str, namespace: str, *, timeout_s: float = TIMEOUT_S, read_only: bool = False) -> Link:
    """Open a connection in autocommit mode, with its time-outs set and the namespace's schema as `search_path`.

    Args:
        read_only: for looking at a store, on a standby too; otherwise only a server that takes writes will do.

    Raises:
        StoreFailed: the URL is none, the server is too old, or it does not keep what it acknowledges.
        StoreRefused: the server knows no such user, password or database.
        StoreDown: the server cannot be reached or is not ready.
    """
    schema_of(namespace)
    options = _options(url, timeout_s, read_only)
    try:
        # `options` is a dict from the URL; psycopg's keyword types cannot know its keys.
        db = Link.connect(**options, autocommit=True)
    except psycopg.Error as error:
        known = explained(error, url)
        if any(words in str(error) for words in _TURNED_AWAY):
            raise StoreRefused(f"{known}; check user, password and database of BUS_STORE") from error
        raise known from error
    db.answer_s = timeout_s + _MARGIN_S
    register(db)
    try:
        _begin(db, namespace, timeout_s, read_only, url)
    except psycopg.Error as error:
        db.close()
        raise explained(error, url) from error
    except BaseException:
        db.close()
        raise
    return db


def drop_schema(url: str, namespace: str) -> None:
    """Delete a namespace's store with all it holds: for benchmarks, which make their own."""
    with connect(url, namespace) as db:
        db.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema_of(namespace))))


def _options(url: str, timeout_s: float, read_only: bool) -> dict[str, Any]:
    """The URL's parameters over our defaults, as keyword arguments."""
    given = _parsed(url)
    milliseconds = int(timeout_s * 1000)
    ours: dict[str, Any] = {
        "application_name": "agentbus",
        "client_encoding": "utf8",
        "connect_timeout": max(2, int(timeout_s)),
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": milliseconds,
        "target_session_attrs": "any" if read_only else "read-write",
    }
    return {**ours, **given}


def _begin(db: Link, namespace: str, timeout_s: float, read_only: bool, url: str) -> None:
    """Set up the session in one round trip, and look at what the server promises."""
    if db.info.server_version < OLDEST_SERVER * 10_000:
        raise StoreFailed(f"{shown(url)} runs an older PostgreSQL than {OLDEST_SERVER}; upgrade it")
    milliseconds = str(int(timeout_s * 1000))
    settings = {
        "search_path": sql.Identifier(namespace).as_string(db),
        "statement_timeout": milliseconds,
        "lock_timeout": str(max(1, int(timeout_s * 500))),  # earlier, so that it is told from a slow disk
        "idle_in_transaction_session_timeout": milliseconds,
        "default_transaction_isolation": "read committed",
        "jit": "off",  # nothing here runs long enough to be worth compiling
    }
    if read_only:
        settings["default_transaction_read_only"] = "on"
    calls = ", ".join("set_config(%s, %s, false)" for _ in settings)
    words = [word for setting in settings.items() for word in setting]
    statement = f"SELECT current_setting('fsync'), current_setting('synchronous_commit'), {calls}"
    row = db.execute(statement.encode(), words).fetchone()
    fsync, synchronous = (row[0], row[1]) if row else ("off", "off")
    if read_only:
        return
    if fsync == "off":
        raise StoreFailed(f"{shown(url)} runs with fsync = off and would lose what it acknowledged; turn it on")
    if synchronous == "off":
        # A default of the server, the database or the role; it would acknowledge commits before they are on disk.
        db.execute("SET synchronous_commit = on")


def explained(error: psycopg.Error, url: str) -> StoreFailed:
    """Say what failed: `StoreDown` when it may pass while the bus runs on, else `StoreFailed`."""
    said = " ".join(str(error).split()) or type(error).__name__
    for secret in _secrets(url):
        said = said.replace(secret, "***")
    state = error.sqlstate or ""
    if (state[:2] in _DOWN and state not in _INSTEAD) or (
        not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    ):
        return StoreDown(f"{shown(url)} is down: {said}")
    instead = _INSTEAD.get(state) or _INSTEAD.get(state[:2]) or "look into the server's log"
    return StoreFailed(f"{shown(url)} failed: {said}; {instead}")


def _secrets(url: str) -> Sequence[str]:
    password = str(_parsed(url).get("password") or "")
    # A short one would blank out letters of every word.
    return [password] if len(password) > 3 else []
