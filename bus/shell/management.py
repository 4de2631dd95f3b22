"""Policies through RabbitMQ's management API, for brokers that are not our own node.

Without a management URL an operator imports `bus topology export` instead; the bus never needs the API to run.
"""

from __future__ import annotations

import base64
import re
import urllib.error
import urllib.parse
import urllib.request

import orjson

from bus.core.errors import Unreachable
from bus.shell.policies import policies

_TIMEOUT_S = 10.0


def put_policies(management_url: str, namespace: str, vhost: str = "/") -> list[str]:
    """Put the namespace's policies; putting them again changes nothing.

    Args:
        management_url: `http(s)://user:password@host:15672`.
        namespace: the one namespace that they are for.
        vhost: its virtual host.

    Returns:
        The names of the policies.

    Raises:
        Unreachable: the API does not answer, or refuses.
    """
    parts = urllib.parse.urlsplit(management_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unreachable(f"`{management_url}` is no management URL; write `http://user:password@host:15672`")
    user = f"{urllib.parse.unquote(parts.username or 'guest')}:{urllib.parse.unquote(parts.password or 'guest')}"
    headers = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}", "Content-Type": "application/json"}
    host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
    base = f"{parts.scheme}://{host}{parts.path.rstrip('/')}/api/policies/{urllib.parse.quote(vhost, safe='')}"
    names = []
    for policy in policies(re.escape(namespace), vhost):
        name = f"{namespace}-{policy['name']}"
        body = {key: policy[key] for key in ("pattern", "apply-to", "priority", "definition")}
        url = f"{base}/{urllib.parse.quote(name, safe='')}"
        _put(urllib.request.Request(url, data=orjson.dumps(body), headers=headers, method="PUT"))
        names.append(name)
    return names


def _put(request: urllib.request.Request) -> None:
    where = f"{request.host}"
    try:
        urllib.request.urlopen(request, timeout=_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        raise Unreachable(f"the management API at {where} refused a policy: {error.code} {error.reason}") from error
    except OSError as error:
        raise Unreachable(f"the management API at {where} does not answer: {error}") from error
