"""The transport: two pika connections on one loop, joined into one link that is up or down as a whole.

Theory of operation. `run` connects both (`Session`), declares the topology on a throw-away channel, opens the hot
channels, and tells `on_connected`. From then on each read of a socket is one call of `on_batch` or `on_outcomes`; what
the caller publishes and acks during it, or during a timer or a call from another thread, is collected and sent when it
returns: the publishes joined, the acks as one. When either connection is lost both are dropped, `on_lost` is told once,
and a new session begins after a random pause; each session is a generation, and tags of another one are ignored. Of
several hosts each attempt takes the next; a round of them is tried before there is a longer pause.

Handlers run inside pika's callbacks, which would swallow or misread their exceptions: they are caught at the border,
stop the loop, and are raised from `run`.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from pika.connection import URLParameters
from pika.exceptions import ProbableAccessDeniedError, ProbableAuthenticationError

from bus.core.endpoints import endpoints, places
from bus.core.errors import BrokerDown, BusError, Unreachable
from bus.ports import Outgoing, Tag, TransportEvents, Way
from bus.shell.amqp.loop import PacedLoop
from bus.shell.amqp.pika_link import check_pika
from bus.shell.amqp.session import Session, SessionEvents

Declare: TypeAlias = Callable[[Any], None]
"""Declares the topology on an asynchronous pika channel, without waiting for answers."""

PAUSE_S = (0.1, 10.0)  # bounds of the full jitter between attempts
CLOSE_TIMEOUT_S = 2.0  # how long `stop` waits for the broker's goodbye

_HOPELESS = (ProbableAuthenticationError, ProbableAccessDeniedError, BusError)  # trying again will not help


class PikaTransport:
    """See `bus.ports.Transport`.

    Args:
        url: AMQP URL, of one host or several; its user becomes `user_id` of every publish.
        declare: declares the topology at each connect, e.g. `partial(apply, topology=topology)`.
        connect_timeout_s: how long the first connection may take; infinite waits for it as for any later one.
        heartbeat_s: AMQP heartbeat.
        blocked_connection_timeout_s: how long the broker may block the publishing connection before it is dropped.
        logger: where to tell of connections.
    """

    def __init__(
        self,
        url: str,
        declare: Declare,
        *,
        connect_timeout_s: float = 60.0,
        heartbeat_s: int = 15,
        blocked_connection_timeout_s: float = 300.0,
        logger: logging.Logger,
    ) -> None:
        check_pika()
        self._where = places(url)
        # In an order of our own, so that those who connect at once do not all go to the same host.
        self._hosts = [_parameters(each, heartbeat_s, blocked_connection_timeout_s) for each in endpoints(url)]
        random.shuffle(self._hosts)
        self._declare = declare
        self._connect_timeout_s = connect_timeout_s
        self._logger = logger
        self._loop: Any = PacedLoop()
        self._session: Session | None = None
        self._events: TransportEvents | None = None
        self._generation = 0
        self._attempts = 0  # since the last time that it was connected
        self._was_up = False
        self._deadline = math.inf  # of the first connection
        self._stopping = False
        self._connected = False  # from `on_connected` to `on_lost`
        self._restarting = ""  # why, from `restart` until the connections are gone
        self._failure: BaseException | None = None
        self._ended = False

    # --- For any thread ---------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """See `Transport.stop`."""
        self._loop.add_callback_threadsafe(self._begin_stop)

    def call_threadsafe(self, call: Callable[[], None]) -> None:
        """See `Transport.call_threadsafe`."""
        self._loop.add_callback_threadsafe(lambda: self._guard(call))

    # --- For the loop thread ----------------------------------------------------------------------------------------

    def run(self, events: TransportEvents) -> None:
        """See `Transport.run`."""
        self._events = events
        self._deadline = time.monotonic() + self._connect_timeout_s
        if self._connect_timeout_s < math.inf:
            self._loop.call_later(self._connect_timeout_s, self._check_first_connection)
        self._loop.add_callback_threadsafe(self._connect)
        try:
            self._loop.start()
        finally:
            self._ended = True
            if self._session is not None:
                self._session.drop("the transport ends")
            self._drain()
            self._loop.close()
        if self._failure is not None:
            raise self._failure

    def restart(self, reason: str) -> None:
        """See `Transport.restart`."""
        session = self._session
        if session is None or self._restarting or not session.ready:
            return
        self._restarting = reason
        session.close()
        self._loop.call_later(CLOSE_TIMEOUT_S, lambda: session.give_up(reason))

    def lead(self, way: Way, then: Callable[[], None]) -> None:
        """See `Transport.lead`."""
        self._up().lead(way, lambda: self._guard(then))

    def consume(self, queues: Sequence[str], prefetch: int) -> None:
        """See `Transport.consume`."""
        if self._up().ready:
            self._up().consume(queues, prefetch)

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """See `Transport.publish`."""
        if self._up().ready:
            self._up().publish(batch)

    def ack(self, upto: Tag) -> None:
        """See `Transport.ack`."""
        session = self._session
        if session is not None and session.ready and upto.generation == session.generation:
            session.ack(upto.number)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """See `Transport.call_later`."""
        handle = self._loop.call_later(seconds, lambda: self._guard(call))
        return lambda: self._loop.remove_timeout(handle)

    # --- Session's events -------------------------------------------------------------------------------------------

    def _on_ready(self, session: Session) -> None:
        self._attempts = 0
        self._was_up, self._deadline = True, math.inf
        self._connected = True
        self._logger.info("connected to the broker", extra={"generation": session.generation, "host": session.host})
        self._guard(self._handler().on_connected)

    def _on_lost(self, session: Session, error: BaseException, was_ready: bool) -> None:
        if session is not self._session:
            return
        self._session = None
        self._connected = False
        error = _cause(error)
        if self._failure is not None:
            self._loop.stop()
            return
        wanted, self._restarting = self._restarting, ""
        reason = wanted or str(error) or type(error).__name__
        if (was_ready or wanted) and not self._stopping:
            self._logger.log(logging.INFO if wanted else logging.WARNING, "let go of the broker: %s", reason)
            self._guard(lambda: self._handler().on_lost(reason))
        if self._stopping:
            self._loop.stop()
        elif wanted:  # nothing but the handler's exception stands against it, which `_connect` looks for
            self._loop.add_callback_threadsafe(self._connect)
        elif self._failure is None:
            self._retry(error, reason)

    def _retry(self, error: BaseException, reason: str) -> None:
        if not self._was_up and isinstance(error, _HOPELESS):
            self._fail(Unreachable(f"the broker refused: {reason}"))
            return
        self._attempts += 1
        rounds = self._attempts // len(
            self._hosts
        )  # while there is a host that was not tried, there is little to wait for
        pause = random.uniform(PAUSE_S[0], max(PAUSE_S[0], min(PAUSE_S[1], PAUSE_S[0] * 2**rounds)))
        if time.monotonic() + pause >= self._deadline:
            self._fail(BrokerDown(f"the broker at {self._where} cannot be reached: {reason}"))
            return
        self._logger.info("connecting again in %.1f s: %s", pause, reason)
        self._loop.call_later(pause, self._connect)

    # --- Inside -----------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._stopping or self._failure is not None or self._session is not None:
            return
        self._generation += 1
        handler = self._handler()
        events = SessionEvents(
            ready=self._on_ready,
            lost=self._on_lost,
            batch=lambda batch: self._busy(len(batch), lambda: handler.on_batch(batch)),
            outcomes=lambda outcomes: self._busy(len(outcomes), lambda: handler.on_outcomes(outcomes)),
            blocked=lambda blocked, reason: self._guard(lambda: handler.on_blocked(blocked, reason)),
        )
        # The generation is the number of the attempt, so it says whose turn it is.
        parameters = self._hosts[self._generation % len(self._hosts)]
        self._session = Session(parameters, self._loop, self._generation, self._declare, events)

    def _check_first_connection(self) -> None:
        if not self._was_up and self._failure is None and not self._stopping:
            self._fail(BrokerDown(f"the broker at {self._where} did not answer in {self._connect_timeout_s:.0f} s"))

    def _busy(self, count: int, call: Callable[[], object]) -> None:
        self._loop.handled(count)
        self._guard(call)

    def _guard(self, call: Callable[[], object]) -> None:
        """Run a handler; then send what it published and acked. Its exception ends the loop."""
        if self._failure is not None or self._ended:
            return
        try:
            call()
        except BaseException as error:  # noqa: BLE001 # raised again from `run`
            self._fail(error)
            return
        if self._session is not None:
            self._session.flush()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        if self._session is not None:
            self._session.drop("the bus ends")
        self._loop.stop()

    def _begin_stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        session = self._session
        if session is None:
            self._loop.stop()
            return
        session.close()
        self._loop.call_later(CLOSE_TIMEOUT_S, self._loop.stop)

    def _drain(self) -> None:
        """Let pika finish what it has begun: sockets are closed by callbacks of the loop."""
        self._loop.activate_poller()
        try:
            for _ in range(3):
                self._loop.process_timeouts()
        finally:
            self._loop.deactivate_poller()

    def _up(self) -> Session:
        """The session that `on_connected` was told of; not ready any more while it ends and `on_lost` is still due."""
        if self._session is None or not self._connected:
            raise BusError("the transport is not connected; publish and consume between on_connected and on_lost")
        return self._session

    def _handler(self) -> TransportEvents:
        assert self._events is not None
        return self._events


def _parameters(url: str, heartbeat_s: int, blocked_timeout_s: float) -> Any:
    try:
        parameters = URLParameters(url)
    except (ValueError, IndexError) as error:
        raise Unreachable(f"the broker's URL cannot be used: {error}") from error
    parameters.heartbeat = heartbeat_s
    parameters.blocked_connection_timeout = blocked_timeout_s
    parameters.connection_attempts = 1  # attempts are ours: one place, one jitter
    parameters.stack_timeout = 10.0
    parameters.socket_timeout = 5.0
    return parameters


def _cause(error: BaseException) -> BaseException:
    """Dig the reason out of the errors that pika's connection workflow wraps around it."""
    while True:
        inner = getattr(error, "exceptions", None) or getattr(error, "exception", None) or error.args[:1]
        inner = inner[-1] if isinstance(inner, (list, tuple)) and inner else inner
        if not isinstance(inner, BaseException):
            return error
        error = inner
