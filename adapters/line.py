"""One AMQP connection with one channel, on asyncio: the only file that touches pika's connection.

A `Line` lives once. When its connection or its channel goes, for whatever reason, `lost` is resolved and the line is
dead; the link throws it away and makes a new one. pika has no types, so `Any` stops here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pika
import pika.exceptions
from pika.adapters.asyncio_connection import AsyncioConnection

from bus.core.errors import BusError, Unreachable

_HEARTBEAT_S = 15  # a dead peer is noticed after about three of these
_STILL_S = float(_HEARTBEAT_S)  # the broker ends a line after two heartbeats at least
_LOOK_S = 1.0
_BLOCKED_S = 300  # a broker alarm that lasts longer drops the connection, so that sends fail over to a retry
_HANDSHAKE_S = 10
_GOODBYE_S = 2.0  # how long Connection.Close may take to be answered

NOT_FOUND, REFUSED, PRECONDITION_FAILED = 404, 403, 406


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a line is dead: the broker's reply code, or 0 when it was not the broker who said so."""

    code: int
    reason: str


class _Connection(AsyncioConnection):  # type: ignore[misc]  # pika is untyped
    """pika's connection with two changes: writes of one loop turn are joined, and it can close without cancelling."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._joined: list[bytes] = []
        super().__init__(*args, **kwargs)

    def _adapter_emit_data(self, data: bytes) -> None:
        # pika emits a publish as three frames, each its own system call; joined, a whole turn is one.
        if not self._joined:
            asyncio.get_running_loop().call_soon(self._flush)
        self._joined.append(data)

    def _flush(self) -> None:
        data, self._joined = b"".join(self._joined), []
        if data and not self.is_closed and self._transport is not None:
            super()._adapter_emit_data(data)

    def close_raw(self) -> None:
        """Send Connection.Close at once.

        pika's own `close` cancels consumers first, and then the broker hands prefetched deliveries on out of order.
        """
        self._error = pika.exceptions.ConnectionClosedByClient(200, "done")
        self._set_connection_state(self.CONNECTION_CLOSING)
        self._on_close_ready()

    def drop(self) -> None:
        """Close the socket without a word."""
        self._terminate_stream(pika.exceptions.ConnectionOpenAborted("dropped"))


class Line:
    """Args:
    url: AMQP URL, of one host.
    name: shown in the broker's list of connections.
    """

    def __init__(self, url: str, name: str) -> None:
        try:
            self._parameters: Any = pika.URLParameters(url)
        except (ValueError, IndexError) as error:
            raise BusError(f"the broker's URL cannot be used: {error}") from error
        self._parameters.heartbeat = _HEARTBEAT_S
        self._parameters.blocked_connection_timeout = _BLOCKED_S
        self._parameters.socket_timeout = self._parameters.stack_timeout = _HANDSHAKE_S
        self._parameters.connection_attempts = 1
        self._parameters.client_properties = {"connection_name": name}
        self.user: str = self._parameters.credentials.username
        self.lost: asyncio.Future[Loss] = asyncio.get_running_loop().create_future()
        self.channel: Any = None
        self._connection: _Connection | None = None
        self._looked_s = asyncio.get_running_loop().time()
        self._stood_still = False

    async def open(self) -> None:
        """Connect and open the channel.

        Raises:
            Unreachable: the broker cannot be reached or refuses the user.
        """
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Any] = loop.create_future()

        def on_channel(channel: Any) -> None:
            channel.add_on_close_callback(self._on_channel_closed)
            self.channel = channel
            _resolve(opened, None)

        self._connection = _Connection(
            self._parameters,
            on_open_callback=lambda connection: connection.channel(on_open_callback=on_channel),
            on_open_error_callback=lambda _connection, error: self._lose(Loss(0, _words(error))),
            on_close_callback=lambda _connection, error: self._lose(Loss(_code(error), _words(error))),
            custom_ioloop=loop,
        )
        await self._or_lost(opened)
        self._looked_s = loop.time()  # opening may take long, and nothing was given to us before
        self._look()

    def stood_still(self) -> bool:
        """Whether this process was stopped, or its loop blocked, for so long that the broker may have let the line go.

        What is read from the socket then may have been given to somebody else meanwhile.
        """
        now_s = asyncio.get_running_loop().time()
        self._stood_still = self._stood_still or now_s - self._looked_s > _STILL_S
        self._looked_s = now_s
        return self._stood_still

    def _look(self) -> None:
        self.stood_still()
        if not self.lost.done():
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    async def call(self, method: str, **arguments: Any) -> Any:
        """Call a channel method that the broker answers; return the answering frame.

        Raises:
            Unreachable: the line was lost meanwhile.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self.lost.done():
            getattr(self.channel, method)(callback=lambda frame: _resolve(answer, frame), **arguments)
        return await self._or_lost(answer)

    async def queue_exists(self, queue: str) -> bool:
        """Ask on a channel of its own, because the broker closes the channel when the answer is no."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_channel(channel: Any) -> None:
            channel.add_on_close_callback(lambda _channel, error: _resolve(answer, error))
            channel.queue_declare(queue, passive=True, callback=lambda _frame: channel.close())

        if self._connection is not None and not self.lost.done():
            self._connection.channel(on_open_callback=on_channel)
        error = await self._or_lost(answer)
        if _code(error) == NOT_FOUND:
            return False
        if isinstance(error, pika.exceptions.ChannelClosedByBroker):
            raise BusError(f"the broker refuses {queue}: {_words(error)}")
        return True

    async def close(self) -> None:
        """Flush what was written, close without cancelling consumers, and wait for the broker's good-bye."""
        if self._connection is not None and self._connection.is_open and not self.lost.done():
            self._connection.close_raw()
            await asyncio.wait({self.lost}, timeout=_GOODBYE_S)
        self.drop()

    def drop(self) -> None:
        """Let the connection go at once; unsettled deliveries come again."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed:
            connection.drop()
        self._lose(Loss(0, "dropped"))

    async def _or_lost(self, answer: asyncio.Future[Any]) -> Any:
        await asyncio.wait({answer, self.lost}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise Unreachable(self.lost.result().reason)

    def _on_channel_closed(self, _channel: Any, error: BaseException) -> None:
        self._lose(Loss(_code(error), _words(error)))

    def _lose(self, loss: Loss) -> None:
        _resolve(self.lost, loss)


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _code(error: object) -> int:
    return int(getattr(error, "reply_code", 0) or 0)


def _words(error: BaseException) -> str:
    """Say what happened in the fewest words: pika nests the cause several exceptions deep."""
    inner: Any = error
    while True:
        nested = getattr(inner, "exceptions", None) or getattr(inner, "exception", None) or inner.args[:1]
        nested = nested[-1] if isinstance(nested, (list, tuple)) and nested else nested
        if not isinstance(nested, BaseException):
            break
        inner = nested
    if isinstance(inner, pika.exceptions.ProbableAuthenticationError):
        return "the broker refuses this user and password"
    text = str(getattr(inner, "reply_text", "") or inner)
    return text or type(inner).__name__
