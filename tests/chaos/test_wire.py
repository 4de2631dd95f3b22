"""The wire: each fault does to a connection what it says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.wire import Snap, Wire

PATIENCE_S = 10.0


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket, socket.socket]]:
    """A wire with one connection through it: the near end and the far one."""
    with socket.create_server(("127.0.0.1", 0)) as server, Wire("127.0.0.1", server.getsockname()[1]) as wire:
        near = socket.create_connection(("127.0.0.1", wire.port), timeout=PATIENCE_S)
        far, _ = server.accept()
        far.settimeout(PATIENCE_S)
        near.sendall(b"up")
        assert far.recv(10) == b"up"
        with near, far:
            yield wire, near, far


def silent(end: socket.socket) -> bool:
    end.settimeout(0.2)
    try:
        return end.recv(10) is None
    except TimeoutError:
        return True
    finally:
        end.settimeout(PATIENCE_S)


Ends = tuple[Wire, socket.socket, socket.socket]


def test_a_cut_ends_both(ends: Ends) -> None:
    wire, near, far = ends
    wire.cut()
    assert near.recv(10) == far.recv(10) == b""


def test_a_stall_holds_back_and_then_lets_go(ends: Ends) -> None:
    wire, near, far = ends
    wire.stall("out")
    near.sendall(b"held")
    assert silent(far)
    far.sendall(b"back")
    assert near.recv(10) == b"back"
    wire.mend()
    assert far.recv(10) == b"held"


def test_what_is_swallowed_is_lost(ends: Ends) -> None:
    wire, near, far = ends
    wire.swallow("back")
    far.sendall(b"confirm")
    assert silent(near)
    assert wire.swallowed_bytes == 7
    wire.mend()
    far.sendall(b"later")
    assert near.recv(10) == b"later"


def test_a_ghost_stays_with_the_broker(ends: Ends) -> None:
    wire, near, far = ends
    wire.ghost()
    assert near.recv(10) == b""
    far.sendall(b"to nobody")
    assert silent(far)
    wire.cut()
    assert far.recv(10) == b""


def test_a_deaf_link_stays_with_the_bus(ends: Ends) -> None:
    wire, near, far = ends
    wire.deafen()
    assert far.recv(10) == b""
    near.sendall(b"to nobody")
    assert silent(near)
    wire.cut()
    assert near.recv(10) == b""


@pytest.mark.parametrize(("how", "arrives"), [("request", b""), ("middle", b"COMM")])
def test_what_a_trap_waits_for_is_cut_on_its_way(ends: Ends, how: Snap, arrives: bytes) -> None:
    wire, near, far = ends
    sprung = wire.trap(b"MIT", how)
    near.sendall(b"other")
    assert far.recv(10) == b"other"
    assert not sprung.is_set()
    near.sendall(b"COMMIT;;")
    assert sprung.wait(PATIENCE_S)
    assert near.recv(10) == b""
    assert far.recv(10) == arrives
    assert not arrives or far.recv(10) == b""


def test_a_trap_for_an_answer_lets_the_request_through(ends: Ends) -> None:
    wire, near, far = ends
    sprung = wire.trap(b"COMMIT", "answer")
    near.sendall(b"COMMIT")
    assert far.recv(10) == b"COMMIT"
    assert not sprung.is_set()
    far.sendall(b"done")
    assert sprung.wait(PATIENCE_S)
    assert near.recv(10) == far.recv(10) == b""


def test_a_trap_holds_a_request_until_the_wire_is_mended(ends: Ends) -> None:
    wire, near, far = ends
    sprung = wire.trap(b"COMMIT", "held")
    near.sendall(b"COMMIT")
    assert sprung.wait(PATIENCE_S)
    assert silent(far)
    wire.mend()
    assert far.recv(10) == b"COMMIT"


def test_nobody_there_is_a_connection_that_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with Wire("127.0.0.1", port) as wire:
        for _ in range(2):  # and the wire survives it
            with socket.create_connection(("127.0.0.1", wire.port), timeout=PATIENCE_S) as near:
                assert near.recv(10) == b""
    assert threading.active_count() < 50
