"""Broker URLs with one host and with several."""

from __future__ import annotations

import pytest

from bus.core.endpoints import endpoints, places
from bus.core.errors import Unreachable


@pytest.mark.parametrize(
    ("url", "hosts", "shown"),
    [
        ("amqp://u:p@one", ["one"], "one:5672"),
        ("amqp://", None, ""),
        ("amqp://u:p@/", [""], "localhost:5672"),
        ("amqps://u:p@one,two:5673/v", ["one", "two:5673"], "one:5671 or two:5673"),
        ("amqp://u:a,b@one:1,[::1]:2/%2F?heartbeat=5", ["one:1", "[::1]:2"], "one:1 or [::1]:2"),
    ],
)
def test_each_host_becomes_a_url(url: str, hosts: list[str] | None, shown: str) -> None:
    if hosts is None:
        with pytest.raises(Unreachable):
            endpoints(url)
        return
    whole = hosts and url[url.rindex("@") + 1 :].split("/")[0]
    assert endpoints(url) == tuple(url.replace(f"@{whole}", f"@{host}", 1) for host in hosts)
    assert places(url) == shown


@pytest.mark.parametrize(
    "url",
    ["http://one", "one:5672", "amqp://u:p@one,", "amqp://u:p@one:port/", "amqp://u:p@[::1", "amqp://u:secret/x@one/v"],
)
def test_what_is_no_broker_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Unreachable, match="write amqp://USER:PASSWORD@HOST") as caught:
        endpoints(url)
    assert "secret" not in str(caught.value)
