"""The gateway's HTTP server before clients that mean no good, or have bad lines: raw bytes over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from bus.shell.gateway import http
from bus.shell.gateway.http import HttpServer, Request, Response

BODY_BYTES = 1000


async def echo(request: Request) -> Response:
    if request.path == "/held":
        await asyncio.sleep(30)
    return Response(200, {"path": request.path, "size": len(request.body)})


@asynccontextmanager
async def served() -> AsyncIterator[tuple[HttpServer, int]]:
    server = HttpServer(echo, BODY_BYTES)
    port = await server.open("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.close(0)


async def said(port: int, data: bytes) -> bytes:
    """All that comes back until the server, or we, close."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


def post(body: bytes, *headers: bytes, path: bytes = b"/a") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join((b"POST %s HTTP/1.1" % path, b"Host: x", length, *headers, b"", body))


CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"80\r\n" + b"y" * 128 + b"\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01 not http at all\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /" + b"a" * 20_000, 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"h" * 20_000 + b"\r\n\r\n", 431),
        (post(b"y" * (BODY_BYTES + 1)), 413),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (CHUNKED + (b"80\r\n" + b"y" * 128 + b"\r\n") * 10, 413),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    ],
)
async def test_what_is_no_good_request_gets_one_sentence_and_no_second_chance(data: bytes, status: int) -> None:
    async with served() as (_, port):
        head, _, body = (await said(port, data)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close" in head.lower()
        assert orjson.loads(body)["error"]["reason"]


async def test_requests_of_one_connection_are_answered_in_turn() -> None:
    async with served() as (_, port):
        answer = await said(port, post(b"12", path=b"/one") + post(b"", path=b"/two?x=1"))
        assert answer.count(b"HTTP/1.1 200 ") == 2
        assert b'{"path":"/one","size":2}' in answer
        assert answer.endswith(b'{"path":"/two","size":0}')


async def test_a_head_is_answered_without_a_body_and_the_next_request_too() -> None:
    async with served() as (_, port):
        answer = await said(port, b"HEAD /one HTTP/1.1\r\nHost: x\r\n\r\n" + post(b"12", path=b"/two"))
        assert answer.count(b"HTTP/1.1 200 ") == 2
        assert b'"/one"' not in answer
        assert answer.endswith(b'{"path":"/two","size":2}')


async def test_who_asks_before_sending_a_body_is_told_to_go_on() -> None:
    async with served() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"12", b"Expect: 100-continue")[:-2])
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"12")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_silent_connections_keep_nobody_out_and_held_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST", 3)
    async with served() as (_, port):
        held_reader, held = await asyncio.open_connection("127.0.0.1", port)
        held.write(post(b"", path=b"/held"))
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        silent[0][1].write(b"POST /slow")
        assert b"HTTP/1.1 200 " in await said(port, post(b""))
        async with asyncio.timeout(10):
            assert await _ended(silent[0][0])
        assert not held_reader.at_eof()
        held.close()
        silent[1][1].close()


async def test_a_request_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ARRIVE_S", 0.2)
    async with served() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"12")[:-1])
        async with asyncio.timeout(10):
            assert await _ended(reader)
        writer.close()


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True
