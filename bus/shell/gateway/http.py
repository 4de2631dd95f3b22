"""HTTP/1.1 for clients that nobody trusts: h11 reads and writes it, asyncio moves the bytes, all of it bounded.

A request has 10 s to arrive whole, its head 16 KiB, its body as much as a message may have. At most `MOST` connections
are open at once; when one more comes, the oldest that is not being worked for is cut off, so that nobody keeps others
out by opening connections and saying nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeAlias

import h11

from bus.core import strict_json
from bus.core.gateway import failure
from bus.core.message import Json

_log = logging.getLogger(__name__)

MOST = 1024
"""Connections at once; each costs a few KiB, and one that waits for an answer no more than that."""
HEAD_BYTES = 16 * 1024
IDLE_S = 30.0  # between two requests of a connection
ARRIVE_S = 10.0  # from a request's first byte to its last
LEAVE_S = 10.0  # for an answer to be taken
_LINGER_S = 2.0  # what a client still sends after it was refused is read and dropped for so long
_READ = 64 * 1024

Headers: TypeAlias = Mapping[str, str]


class Request(NamedTuple):
    """Args:
    headers: by small name; of several with one name the last.
    """

    method: str
    path: str
    headers: Headers
    body: bytes


class Response(NamedTuple):
    """Args:
    data: the body, as JSON.
    """

    status: int
    data: Json
    headers: tuple[tuple[str, str], ...] = ()


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class _TooBig(Exception):
    """The body is longer than a message may be."""


class HttpServer:
    """Args:
    handler: answers a request; must not raise.
    body_bytes: longest body.
    """

    def __init__(self, handler: Handler, body_bytes: int) -> None:
        self._handler = handler
        self._body_bytes = body_bytes
        self._idle: dict[_Connection, None] = {}  # those that are not being worked for, the oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen; returns the port, which is a free one for port 0.

        Raises:
            OSError: the address cannot be had.
        """
        self._server = await asyncio.start_server(self._accepted, host, port, limit=_READ, backlog=128)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self, grace_s: float) -> None:
        """Take no more, give requests that are worked for so long to end, then cut everything off."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._idle):
            connection.cut()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= MOST and not self._make_room():
            writer.transport.abort()
            return
        self._tasks.add(task)
        connection = _Connection(reader, writer, self._body_bytes)
        try:
            await self._serve(connection)
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            _log.debug("a client went away: %s", error)
        finally:
            self._tasks.discard(task)
            self._idle.pop(connection, None)
            connection.end()

    def _make_room(self) -> bool:
        oldest = next(iter(self._idle), None)
        if oldest is not None:
            del self._idle[oldest]
            oldest.cut()
        return oldest is not None

    async def _serve(self, connection: _Connection) -> None:
        while True:
            self._idle[connection] = None
            try:
                request = await connection.request()
            except _TooBig:
                data = failure("too-big", f"the body is too big; send at most {self._body_bytes} bytes")
                await connection.last(413, {"error": data})
                return
            except h11.RemoteProtocolError as error:
                data = failure("bad-http", f"this is no request: {error}")
                await connection.last(error.error_status_hint, {"error": data})
                return
            if request is None:
                return
            self._idle.pop(connection, None)
            response = await self._handler(request)
            if not await connection.respond(response):
                return


class _Connection:
    """One client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body_bytes: int) -> None:
        self._reader, self._writer = reader, writer
        self._body_bytes = body_bytes
        self._bodiless = False  # it was a HEAD: the answer tells of a body and has none
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)

    def cut(self) -> None:
        """Close at once, whatever is under way."""
        self._writer.transport.abort()

    def end(self) -> None:
        """Close once everything is written, or cannot be for long."""
        self._writer.close()
        asyncio.get_running_loop().call_later(LEAVE_S, self._writer.transport.abort)

    async def request(self) -> Request | None:
        """Read the next request; None when the client has ended.

        Raises:
            h11.RemoteProtocolError: it is none.
            TimeoutError: it does not come, or not in time.
        """
        if not self._http.trailing_data[0]:
            async with asyncio.timeout(IDLE_S):
                self._http.receive_data(await self._reader.read(_READ))
        async with asyncio.timeout(ARRIVE_S):
            head = await self._event()
            if not isinstance(head, h11.Request):
                return None
            if len(head.target) + sum(len(name) + len(value) for name, value in head.headers) > HEAD_BYTES:
                # h11 bounds what is not complete yet; a head that comes in one piece is complete at once.
                raise h11.RemoteProtocolError("its head is too long", error_status_hint=431)
            self._bodiless = head.method == b"HEAD"
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
            length = headers.get("content-length", "")
            if length.isdecimal() and int(length) > self._body_bytes:
                raise _TooBig
            body = bytearray()
            while isinstance(event := await self._event(), h11.Data):
                body += event.data
                if len(body) > self._body_bytes:
                    raise _TooBig
        target = head.target.decode("latin-1")
        return Request(head.method.decode("latin-1"), target.partition("?")[0], headers, bytes(body))

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(_READ))
        return event

    async def last(self, status: int, data: Json) -> None:
        """Answer what could not be read to its end; the connection cannot be used any more."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self.respond(Response(status, data, (("Connection", "close"),)))
            # Closing with something unread would reset the connection, and take the answer from the client.
            self._writer.write_eof()
            async with asyncio.timeout(_LINGER_S):
                while await self._reader.read(_READ):
                    pass

    async def respond(self, response: Response) -> bool:
        """Answer; returns whether another request may follow."""
        body = strict_json.dump(response.data)
        head = h11.Response(
            status_code=response.status,
            headers=[
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                *response.headers,
            ],
        )
        await self._write(head, *(() if self._bodiless else (h11.Data(data=body),)), h11.EndOfMessage())
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _write(self, *events: h11.Event) -> None:
        for event in events:
            self._writer.write(self._http.send(event) or b"")
        async with asyncio.timeout(LEAVE_S):
            await self._writer.drain()
