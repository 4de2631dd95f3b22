"""Looking at a broker from outside the hot path: one blocking connection, opened for a command and closed after it."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker, ProbableAccessDeniedError, ProbableAuthenticationError

from bus.core import naming
from bus.core.endpoints import endpoints, places
from bus.core.errors import BrokerDown, Unreachable
from bus.shell.topology import Topology

_TIMEOUT_S = 10.0  # a broker under load takes a second or two to log in


@dataclass(frozen=True, slots=True)
class QueueState:
    """Args:
    depth: messages that are ready.
    consumers: who consumes it now.
    """

    depth: int
    consumers: int


def shown(url: str) -> str:
    """The broker's address without its password, for people; of each host that the URL names.

    Raises:
        Unreachable: the URL is none.
    """
    return places(url)


def user_of(url: str) -> str:
    """The broker user that a URL logs in as.

    Raises:
        Unreachable: the URL is none.
    """
    return str(_parameters(endpoints(url)[0]).credentials.username)


@contextlib.contextmanager
def connection(url: str) -> Iterator[Any]:
    """Open a blocking connection for the duration of the block; of several hosts, to one that answers.

    Raises:
        Unreachable: the URL is none, or the broker turns us away or refuses what is asked inside the block.
        BrokerDown: no broker answers, or the connection breaks inside the block.
    """
    opened = _open(url)
    try:
        yield opened
    except ChannelClosedByBroker as error:
        raise Unreachable(f"the broker at {shown(url)} refuses: {error.reply_text}") from error
    except AMQPError as error:
        raise BrokerDown(f"the broker at {shown(url)} ended the connection ({_why(error)})") from error
    finally:
        with contextlib.suppress(AMQPError, OSError):
            opened.close()


def _open(url: str) -> Any:
    failed: Exception | None = None
    for each in endpoints(url):
        parameters = _parameters(each)
        try:
            with _quiet(logging.getLogger("pika")):
                return pika.BlockingConnection(parameters)
        except (ProbableAuthenticationError, ProbableAccessDeniedError) as error:
            raise Unreachable(
                f"the broker at {shown(each)} turns us away: {_words(error)}; check user, password and virtual host in "
                "the URL (BUS_AMQP_URL)"
            ) from error
        except (AMQPError, OSError) as error:
            failed = error
    assert failed is not None
    raise BrokerDown(f"no broker answers at {shown(url)} ({_why(failed)}); is it running?") from failed


def _parameters(url: str) -> Any:
    try:
        parameters = pika.URLParameters(url)
    except (ValueError, IndexError) as error:
        raise Unreachable(f"the broker's URL cannot be used: {error}") from error
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = _TIMEOUT_S
    parameters.connection_attempts = 1
    return parameters


def _words(error: Exception) -> str:
    """The broker's own words, which pika wraps."""
    said = re.search(r"'([A-Z_]+ - [^']*)'", str(error))
    return said.group(1).split(". ")[0].rstrip(".") if said else _why(error)


@contextlib.contextmanager
def _quiet(log: logging.Logger) -> Iterator[None]:
    """Silence a library that logs a refused connection with a traceback; we say it once, in a sentence."""
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def queue_states(opened: Any, names: Iterable[str]) -> Mapping[str, QueueState | None]:
    """Look at queues by passive declaration; None stands for a queue that does not exist or may not be seen."""
    states: dict[str, QueueState | None] = {}
    channel = opened.channel()
    for name in names:
        try:
            declared = channel.queue_declare(name, passive=True).method
            states[name] = QueueState(declared.message_count, declared.consumer_count)
        except ChannelClosedByBroker:
            states[name] = None
            channel = opened.channel()
    channel.close()
    return states


def different(opened: Any, queues: Mapping[str, Mapping[str, Any]]) -> Mapping[str, str]:
    """Find queues that exist with other arguments than these; returns the broker's word on each.

    Existing queues are declared again, which changes nothing and fails where something differs; absent ones are
    left absent.
    """
    existing = [name for name, state in queue_states(opened, queues).items() if state is not None]
    found: dict[str, str] = {}
    channel = opened.channel()
    for name in existing:
        try:
            channel.queue_declare(name, durable=True, arguments=dict(queues[name]))
        except ChannelClosedByBroker as error:
            found[name] = error.reply_text
            channel = opened.channel()
    channel.close()
    return found


def server(opened: Any) -> str:
    """Product and version of the broker behind a connection."""
    properties = opened._impl.server_properties or {}  # pika tells it nowhere else

    def text(name: str) -> str:
        value = properties.get(name, "?")
        return value.decode() if isinstance(value, bytes) else str(value)

    return f"{text('product')} {text('version')}"


def _why(error: BaseException) -> str:
    """Say what happened in a few words: pika wraps the cause."""
    inner = error.args[0] if error.args else None
    if isinstance(inner, BaseException):
        return _why(inner)
    nested = getattr(error, "exception", None)
    if isinstance(nested, BaseException):
        return _why(nested)
    return str(error).partition("\n")[0] or type(error).__name__


def remove(url: str, topology: Topology) -> None:
    """Delete everything a topology names, with what it holds: for benchmarks and tests, which own their namespace."""
    with connection(url) as opened:
        channel = opened.channel()
        for queue in topology.queues:
            channel.queue_delete(queue.name)
        for exchange in topology.exchanges:
            channel.exchange_delete(exchange.name)
        channel.exchange_delete(naming.store_exchange(topology.namespace))
