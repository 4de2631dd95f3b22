"""The tables of a PostgreSQL store: made once, recognised, guarded by grants; and URLs, whose passwords stay secret."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from bus.core.errors import StoreDown, StoreFailed
from bus.ports import Commit, Held
from bus.shell.postgres_schema import FORMAT, reader_grants, worker_grants
from bus.shell.postgres_store import PostgresStore
from tests.contract.stores import entry, key_of, log, output, plain
from tests.postgres_server import fresh_namespace, shared_server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def namespace() -> Iterator[str]:
    name = fresh_namespace()
    yield name
    shared_server().execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


@pytest.fixture
def store(namespace: str) -> Iterator[PostgresStore]:
    made = PostgresStore(shared_server().url, namespace)
    made.claim(2)
    yield made
    made.close()


def test_workers_that_start_at_once_make_one_store(namespace: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(lambda _: PostgresStore(shared_server().url, namespace), range(8)))
    assert len({(each.store_id, each.secret) for each in stores}) == 1
    for each in stores:
        each.close()
    assert shared_server().execute(f'SELECT format FROM "{namespace}".meta') == [(FORMAT,)]


def test_schemas_that_are_no_store_are_left_alone(namespace: str) -> None:
    shared_server().execute(f'CREATE SCHEMA "{namespace}"')
    shared_server().execute(f'CREATE TABLE "{namespace}".theirs(x text)')
    with pytest.raises(StoreFailed, match="not a store of agentbus; give another --namespace"):
        PostgresStore(shared_server().url, namespace)
    for name in ("pg_mine", "n" * 64):
        with pytest.raises(StoreFailed, match="can be no PostgreSQL schema"):
            PostgresStore(shared_server().url, name)


def test_runs_that_an_earlier_format_holds_are_known_by_their_configuration(
    store: PostgresStore, namespace: str
) -> None:
    run = r'{"v":1,"id":"a","route":"t/r","config":"c0ffee","memo":{"x":"\u0000"}}'
    schema = f'"{namespace}"'
    shared_server().execute(
        f"DROP TABLE {schema}.config; ALTER TABLE {schema}.state DROP COLUMN version;"
        f"UPDATE {schema}.meta SET format = 3;"
        f"INSERT INTO {schema}.state VALUES (0, 'flow:a', NULL, convert_to('{run}', 'UTF8')), (0, 'cell:b', NULL, '')"
    )
    again = PostgresStore(shared_server().url, namespace)
    again.claim(1)
    assert list(again.versions()) == ["c0ffee"]
    again.close()


def test_a_newer_format_is_refused(store: PostgresStore, namespace: str) -> None:
    shared_server().execute(f'UPDATE "{namespace}".meta SET format = 99')
    with pytest.raises(StoreFailed, match=r"has format 99 and this agentbus reads \d+; use the version that wrote it"):
        PostgresStore(shared_server().url, namespace)


@pytest.mark.parametrize("how", ["blob = set_byte(blob, 40, 255)", "blob = substr(blob, 1, 60)", "first_seq = 2"])
def test_damage_is_found_before_anything_is_replayed(store: PostgresStore, namespace: str, how: str) -> None:
    store.commit(log(entry(1, outputs=[output()])))
    shared_server().execute(f'UPDATE "{namespace}".segment SET {how}')
    with pytest.raises(StoreFailed, match="the log is damaged") as caught:
        store.claim(1)
    assert not isinstance(caught.value, StoreDown)


def test_a_lost_table_is_a_failure_and_says_what_to_do(store: PostgresStore, namespace: str) -> None:
    shared_server().execute(f'DROP TABLE "{namespace}".held')
    with pytest.raises(StoreFailed, match="restore the database") as caught:
        store.claim(1)
    assert not isinstance(caught.value, StoreDown)


def test_text_that_postgresql_has_no_type_for_is_kept(store: PostgresStore) -> None:
    strange = Held(0, 1, 0, "a\0b\ud800", 1.5, 1, "\0")
    store.commit(Commit({0: plain(1, 1)}, hold=[strange]))
    assert list(store.claim(2)[0].held) == [strange]


def test_a_worker_needs_no_right_to_change_its_log(store: PostgresStore, namespace: str) -> None:
    server, role = shared_server(), f"w_{namespace}"
    server.execute(f'CREATE ROLE "{role}" LOGIN')
    server.execute(worker_grants(namespace, role))
    url = server.url_at(server.port, role)
    worker = PostgresStore(url, namespace)
    worker.lease("w", 2, 3.0)
    worker.claim(2)
    worker.commit(Commit({0: [entry(1), *plain(2, 1100)]}, done={0: 1000}))
    worker.commit(log(entry(1101), done=1101))
    assert worker.prune(1) == 1
    assert worker.seen(0, 1, key_of(1101).key) is not None
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", role)
    with pytest.raises(StoreDown):
        worker.commit(log(entry(1102)))
    worker.claim(2)  # which first writes as much, and takes it back
    assert server.execute(f'SELECT DISTINCT partition FROM "{namespace}".segment') == [(0,)]
    worker.release("w")
    worker.close()
    with psycopg.connect(url, autocommit=True) as db:
        for statement in ("UPDATE {}.segment SET blob = ''", "DELETE FROM {}.segment", "TRUNCATE {}.segment"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(statement.format(f'"{namespace}"').encode())
    server.execute(f'REVOKE INSERT ON "{namespace}".segment FROM "{role}"')
    worker = PostgresStore(url, namespace)
    worker.claim(2)
    with pytest.raises(StoreFailed, match="grant it the rights"):
        worker.commit(log(entry(1102)))
    worker.close()
    server.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


def test_the_documented_grants_are_those_of_the_code() -> None:
    text = (ROOT / "deploy" / "README.md").read_text()
    for grants in (worker_grants("agentbus", "bus_worker"), reader_grants("agentbus", "bus_reader")):
        for line in grants.replace('"', "").splitlines():
            assert line in text


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bus:hunter2hunter2@127.0.0.1:1/x",
        "postgresql://bus:hunter2hunter2@[::1/x",
        "postgresql://bus:hunter2hunter2@127.0.0.1:port/x",
        "postgresql://bus:hunter2hunter2/more@127.0.0.1/x",
        "postgresql://bus@127.0.0.1:1/x?password=hunter2hunter2",
        "postgresql://bus@127.0.0.1:1/x?passwort=hunter2hunter2",
        "postgresql://bus:hunter2%68unter2@no-such-host.invalid/x",
    ],
)
def test_a_password_is_never_told(url: str) -> None:
    with pytest.raises(StoreFailed) as caught:
        PostgresStore(url, "any", timeout_s=1.0)
    told: BaseException | None = caught.value
    while told is not None and not isinstance(told, psycopg.Error):
        assert "hunter2" not in str(told)
        told = told.__cause__


def test_a_bus_with_a_file_needs_no_psycopg(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from bus.cli import run_command; sys.exit(run_command(sys.argv[1:]))"
    )

    def run(store: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, "tap", "--no-follow", "--store", store]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)

    assert "there is no store at" in run(str(tmp_path / "bus.db")).stderr
    without = run("postgresql://bus@127.0.0.1/x")
    assert without.returncode == 2
    assert "pip install 'agentbus[postgres]'" in without.stderr
