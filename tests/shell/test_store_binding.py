"""Which store a namespace belongs to, when many buses start at once."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor

from bus.core.errors import StoreFailed
from bus.shell.store_binding import bind_store
from tests.conftest import TestBroker


def _bind(url: str, namespace: str, store_id: str) -> bool:
    try:
        bind_store(url, namespace, store_id)
    except StoreFailed as error:
        return f"namespace `{namespace}` belongs to store" not in str(error)
    return True


def test_of_two_stores_that_bind_at_once_one_wins_for_good(broker: TestBroker) -> None:
    ids = ["one", "two"] * 4
    for _ in range(5):
        namespace = f"t{secrets.token_hex(6)}"
        with ThreadPoolExecutor(len(ids)) as pool:
            bound = list(pool.map(lambda store_id, ns=namespace: _bind(broker.bus_url, ns, store_id), ids))
        winner = ids[bound.index(True)]
        assert bound == [store_id == winner for store_id in ids]
        assert [_bind(broker.bus_url, namespace, store_id) for store_id in ids] == bound
