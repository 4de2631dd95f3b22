"""What only a server can get wrong: it dies, pauses, refuses, loses connections, and has others in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from bus.core.errors import Fenced, StoreDown, StoreFailed
from bus.ports import Commit
from bus.shell.postgres_link import connect
from bus.shell.postgres_store import PostgresStore
from tests.contract.stores import entry, key_of, log, output
from tests.postgres_server import PostgresServer, fresh_namespace, shared_server
from tests.proxy import Proxy

TIMEOUT_S = 1.0


@pytest.fixture
def namespace() -> Iterator[str]:
    name = fresh_namespace()
    yield name
    shared_server().execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


@pytest.fixture
def store(namespace: str) -> Iterator[PostgresStore]:
    made = PostgresStore(shared_server().url, namespace, timeout_s=TIMEOUT_S)
    made.claim(2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server to be killed, paused and misconfigured."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def own_store(own_server: PostgresServer) -> Iterator[PostgresStore]:
    made = PostgresStore(own_server.url, fresh_namespace(), timeout_s=TIMEOUT_S)
    made.claim(2)
    yield made
    made.close()


def refused_until_claimed(store: PostgresStore) -> None:
    """After `StoreDown` nothing may be believed that was known before it."""
    uses: list[Callable[[], object]] = [
        lambda: store.commit(log(entry(2))),
        lambda: store.seen(0, 0, key_of(1).key),
        lambda: store.entry(0, 1),
        lambda: list(store.keys(1)),
        lambda: store.prune(1),
    ]
    for use in uses:
        with pytest.raises(StoreDown, match="must be claimed again"):
            use()


def end_sessions() -> None:
    """End every session of a store on the shared server, as an operator may."""
    shared_server().execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'agentbus'"
    )


# --- Out of reach -------------------------------------------------------------------------------------------------


def test_acknowledged_commits_survive_kill_9_and_the_store_comes_back(
    own_server: PostgresServer, own_store: PostgresStore
) -> None:
    for seq in range(1, 6):
        own_store.commit(Commit({0: [entry(seq, outputs=[output(f"o{seq}")])]}, done={0: seq - 1}))
    own_server.kill()
    with pytest.raises(StoreDown, match="is down"):
        own_store.commit(log(entry(6)))
    with pytest.raises(StoreDown, match="refused"):
        own_store.claim(2)
    with pytest.raises(StoreDown, match="refused"):
        own_store.lease("a", 2, 3.0)
    own_server.start()
    refused_until_claimed(own_store)
    claimed = own_store.claim(2)[0]
    assert (claimed.next_seq, claimed.done) == (6, 4)
    assert list(claimed.pending) == [entry(5, outputs=[output("o5")])]
    own_store.commit(log(entry(6)))


def test_a_server_that_is_restarted_is_down_for_now(own_server: PostgresServer, own_store: PostgresStore) -> None:
    own_server.stop()
    with pytest.raises(StoreDown):
        own_store.seen(0, 0, key_of(1).key)
    own_server.start()
    assert own_store.lease("a", 2, 3.0).owned == {0, 1}  # leasing reconnects too, but is no claim
    refused_until_claimed(own_store)
    own_store.claim(2)
    own_store.commit(log(entry(1)))


@pytest.mark.parametrize("size", [10, 20_000_000])  # fits into the sockets' buffers, and does not
def test_a_paused_server_is_noticed_in_time(own_server: PostgresServer, own_store: PostgresStore, size: int) -> None:
    large = entry(1)._replace(input=bytes(size))
    with own_server.paused():
        began = time.monotonic()
        with pytest.raises(StoreDown, match="is down"):
            own_store.commit(log(large))
        assert time.monotonic() - began < TIMEOUT_S + 2.5
        with pytest.raises(StoreDown):
            own_store.claim(2)
    # It may have been written or not, now that the server goes on; the claim knows.
    claimed = own_store.claim(2)[0]
    assert list(claimed.pending) in ([], [large])
    own_store.commit(log(entry(claimed.next_seq, "after")))


def test_a_read_only_server_is_down_for_now(own_server: PostgresServer, own_store: PostgresStore) -> None:
    own_store.commit(log(entry(1)))
    own_server.configure("default_transaction_read_only", "on")
    with pytest.raises(StoreDown, match="read-only"):
        own_store.commit(log(entry(2)))
    with pytest.raises(StoreDown, match="read-only"):
        own_store.claim(2)
    own_server.configure("default_transaction_read_only", "off")
    assert list(own_store.claim(2)[0].pending) == [entry(1)]


def test_a_server_that_forgets_is_refused(own_server: PostgresServer) -> None:
    own_server.configure("fsync", "off")
    with pytest.raises(StoreFailed, match="fsync = off") as caught:
        PostgresStore(own_server.url, fresh_namespace())
    assert not isinstance(caught.value, StoreDown)
    own_server.configure("fsync", "on")


def test_commits_are_synchronous_whatever_the_role_says() -> None:
    server = shared_server()
    server.execute("CREATE ROLE hasty LOGIN SUPERUSER")
    server.execute("ALTER ROLE hasty SET synchronous_commit = off")
    with connect(server.url_at(server.port, "hasty"), "any") as db:
        assert db.execute("SHOW synchronous_commit").fetchone() == ("on",)
    server.execute("DROP ROLE hasty")


@pytest.mark.parametrize("state", ["53100", "57P03", "55P03", "40P01", "58030", "58P01", "XX001", "XX002"])
def test_what_passes_is_told_from_damage(store: PostgresStore, namespace: str, state: str) -> None:
    """A trigger stands for the server that says so: 53100 is a full disk, XX001 a damaged page."""
    shared_server().execute(
        f'CREATE FUNCTION "{namespace}".fail() RETURNS trigger LANGUAGE plpgsql AS'
        f" $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$;"
        f'CREATE TRIGGER fail BEFORE INSERT ON "{namespace}".inbox EXECUTE FUNCTION "{namespace}".fail()'
    )
    with pytest.raises(StoreFailed) as caught:
        store.commit(log(entry(1)))
    assert isinstance(caught.value, StoreDown) is not (state.startswith("XX") or state == "58P01")
    shared_server().execute(f'DROP TRIGGER fail ON "{namespace}".inbox')
    assert store.claim(2)[0].next_seq == 1


def test_a_lock_that_somebody_holds_does_not_hold_us_up(store: PostgresStore, namespace: str) -> None:
    with psycopg.connect(shared_server().url) as other:
        other.execute(f'SELECT FROM "{namespace}".partition FOR UPDATE'.encode())
        with pytest.raises(StoreDown, match="lock timeout"):
            store.commit(log(entry(1)))
    store.claim(2)
    store.commit(log(entry(1)))


def test_another_store_behind_the_same_name_is_refused(store: PostgresStore, namespace: str) -> None:
    shared_server().execute(f'DROP SCHEMA "{namespace}" CASCADE')
    PostgresStore(shared_server().url, namespace).close()
    end_sessions()
    with pytest.raises(StoreDown):
        store.seen(0, 0, key_of(1).key)
    with pytest.raises(StoreFailed, match=f"answers at .* where {store.store_id} did"):
        store.claim(2)


# --- The fence ----------------------------------------------------------------------------------------------------


@contextmanager
def halfway(store: PostgresStore, namespace: str) -> Iterator[tuple[Future[None], psycopg.Connection]]:
    """A commit of entry 1 that has passed its fence and waits for another transaction, which holds its inbox key.

    Rolling that back lets the commit go on; committing it makes the commit fail.
    """
    with psycopg.connect(shared_server().url) as other, ThreadPoolExecutor(1) as thread:
        other.execute(f'INSERT INTO "{namespace}".inbox VALUES (0, %s, 1, %s)'.encode(), tuple(key_of(1)))
        running = thread.submit(store.commit, log(entry(1)))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid' AND query LIKE %s"
        until = time.monotonic() + 20
        while not shared_server().execute(waiting, "%INSERT INTO inbox%")[0][0]:
            assert time.monotonic() < until, running
            time.sleep(0.01)
        try:
            yield running, other
        finally:
            other.rollback()


def test_a_claim_waits_for_a_commit_that_has_passed_its_fence(namespace: str) -> None:
    stale, claimant = (PostgresStore(shared_server().url, namespace, timeout_s=20) for _ in range(2))
    stale.claim(2)
    with halfway(stale, namespace) as (commit, other), ThreadPoolExecutor(1) as thread:
        claim = thread.submit(claimant.claim, 2)
        with pytest.raises(TimeoutError):
            claim.result(0.5)
        other.rollback()
        commit.result(20)
        assert list(claim.result(20)[0].pending) == [entry(1)]
    stale.close()
    claimant.close()


class ReadsItsEpoch(PostgresStore):
    """A store whose fence is a plain read."""

    _lock = ""


@pytest.mark.parametrize("kind", [PostgresStore, ReadsItsEpoch])
def test_a_commit_that_races_a_claim_writes_nothing(namespace: str, kind: type[PostgresStore]) -> None:
    """With a plain read the stale owner writes after the claimant has seen nothing: a message that nobody replays."""
    stale = kind(shared_server().url, namespace, timeout_s=20)
    stale.claim(1)
    with psycopg.connect(shared_server().url) as claimant, ThreadPoolExecutor(1) as thread:
        claimant.execute(f'UPDATE "{namespace}".partition SET epoch = epoch + 1'.encode())
        commit = thread.submit(stale.commit, log(entry(1)))
        with pytest.raises(TimeoutError):
            commit.result(0.5)
        pending = claimant.execute(f'SELECT count(*) FROM "{namespace}".segment'.encode()).fetchone()
        assert pending == (0,)
        claimant.commit()
        if kind is ReadsItsEpoch:
            commit.result(20)
        else:
            with pytest.raises(Fenced):
                commit.result(20)
    written = shared_server().execute(f'SELECT count(*) FROM "{namespace}".segment')[0][0]
    assert written == (1 if kind is ReadsItsEpoch else 0)
    stale.close()


def test_owners_that_fight_for_a_partition_lose_nothing(namespace: str) -> None:
    """Each claims, commits what it can, and is fenced by the next; the log stays dense, each entry by its owner."""
    stores = [PostgresStore(shared_server().url, namespace) for _ in range(4)]
    written: list[list[tuple[int, str]]] = [[] for _ in stores]
    stop = threading.Event()

    def fight(number: int) -> None:
        store = stores[number]
        while not stop.is_set():
            seq = store.claim(2)[0].next_seq
            try:
                for _ in range(20):
                    salt = f"{number}:{len(written[number])}"
                    store.commit(log(entry(seq, salt), done=seq - 1))
                    written[number].append((seq, salt))
                    seq += 1
            except Fenced:
                pass

    with ThreadPoolExecutor(len(stores)) as threads:
        fights = [threads.submit(fight, number) for number in range(len(stores))]
        time.sleep(1.5)
        stop.set()
        for running in fights:
            running.result(20)
    everything = sorted(each for mine in written for each in mine)
    assert [seq for seq, _ in everything] == list(range(1, len(everything) + 1))
    reader = stores[0]
    reader.claim(2)
    assert all(reader.entry(0, seq) == entry(seq, salt) for seq, salt in everything[-50:])
    for store in stores:
        store.close()


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_commit_that_was_cut_off_is_found_by_the_next_claim(namespace: str, goes_on: bool) -> None:
    server = shared_server()
    with Proxy("127.0.0.1", server.port) as proxy:
        store = PostgresStore(server.url_at(proxy.port), namespace, timeout_s=20)
        store.claim(2)
        with halfway(store, namespace) as (commit, other):
            proxy.cut()
            with pytest.raises(StoreDown):
                commit.result(20)
            refused_until_claimed(store)
            with ThreadPoolExecutor(1) as thread:
                claim = thread.submit(store.claim, 2)
                with pytest.raises(TimeoutError):
                    claim.result(0.5)  # the server goes on with the commit, and the claim waits for it
                other.rollback() if goes_on else other.commit()
                claimed = claim.result(20)[0]
        assert list(claimed.pending) == ([entry(1)] if goes_on else [])
        store.commit(log(entry(claimed.next_seq, "after")))
        store.close()


def test_a_terminated_session_is_no_loss(store: PostgresStore) -> None:
    end_sessions()
    with pytest.raises(StoreDown):
        store.commit(log(entry(1)))
    assert store.claim(2)[0].next_seq == 1
    store.commit(log(entry(1)))
