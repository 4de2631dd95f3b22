"""A broker's URL may name several hosts, the nodes of a cluster: `amqp://USER:PASSWORD@ONE,TWO:5673,THREE/VHOST`.

User, password and virtual host are those of the cluster, so they stand once.
"""

from __future__ import annotations

import re

from bus.core.errors import Unreachable

_WANTED = "write amqp://USER:PASSWORD@HOST:PORT/VHOST, with several hosts as HOST:PORT,HOST:PORT"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@,\s]*)(:\d{1,5})?")
_PORT = re.compile(r":\d+$")
_PORTS = {"amqp": 5672, "amqps": 5671}


def endpoints(url: str) -> tuple[str, ...]:
    """Return one URL for each host, in the order in which they stand.

    Raises:
        Unreachable: it is no broker URL. The message quotes nothing of it, for a password may stand anywhere.
    """
    before, hosts, after = _split(url)
    return tuple(f"{before}{host}{after}" for host in hosts)


def places(url: str) -> str:
    """Return the addresses of a URL without its user and password, for people: `HOST:PORT`, joined by ` or `.

    Raises:
        Unreachable: it is no broker URL.
    """
    before, hosts, _ = _split(url)
    usual = _PORTS[before.partition("://")[0]]
    return " or ".join(host if _PORT.search(host) else f"{host or 'localhost'}:{usual}" for host in hosts)


def _split(url: str) -> tuple[str, list[str], str]:
    """Return what stands before the hosts, the hosts, and what stands behind them."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    login, at, listed = authority.rpartition("@")
    if scheme not in _PORTS or not authority:
        raise Unreachable(f"the broker's URL cannot be read; {_WANTED}")
    hosts = listed.split(",")
    for host in hosts:
        if not _HOST.fullmatch(host) or (len(hosts) > 1 and not host):
            raise Unreachable(f"the broker's URL cannot be read; {_WANTED}, and %2F for a / in the password")
    return f"{scheme}{separator}{login}{at}", hosts, f"{slash}{path}"
