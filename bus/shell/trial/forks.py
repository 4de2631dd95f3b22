"""The fork server: a copy of the worker from before it had threads, which makes children and buries them.

It talks over a socket pair: `F` with a socket makes a child that serves it, `E` ends the child and says how it ended.
It knows children by parentage and not by number, so that no stranger with a reused number is ever killed. It goes
when the worker goes, however that ends: the socket closes, and on Linux the kernel kills it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import NoReturn

from bus.core.errors import BusError

_FORK, _END = b"F", b"E"
_REPLY = struct.Struct("!i")
_PR_SET_PDEATHSIG = 1  # prctl(2)

Serve = Callable[[socket.socket], None]


class ForkServer:
    """Forks at once: make it before any thread, lock file and connection, for it would share them.

    Args:
        serve: what a child does with its end of a socket pair.
    """

    def __init__(self, serve: Serve) -> None:
        self._server, theirs = socket.socketpair()
        worker = os.getpid()
        sys.stderr.flush()
        if os.fork() == 0:
            _forked(lambda: _Server(theirs, serve, worker).run())
        theirs.close()

    def child(self) -> socket.socket:
        """Make a child, and return our end of its link; one that was made before must have been ended.

        Raises:
            BusError: it cannot be made.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._server, [_FORK], [theirs.fileno()])
                if self._reply() == 0:
                    return ours
            except OSError as error:
                ours.close()
                raise BusError(f"the fork server is gone: {error}") from error
        ours.close()
        raise BusError("no process can be started in which to try a message that came back; see `ulimit -u`")

    def end(self) -> int:
        """End the child, if it has not ended by itself, and return its wait status.

        Raises:
            BusError: the fork server is gone.
        """
        try:
            self._server.sendall(_END)
            return self._reply()
        except OSError as error:
            raise BusError(f"the fork server is gone: {error}") from error

    def close(self) -> None:
        """Hang up: the server ends, and its child with it."""
        self._server.close()

    def _reply(self) -> int:
        reply = self._server.recv(_REPLY.size, socket.MSG_WAITALL)
        if len(reply) < _REPLY.size:
            raise BusError("the fork server is gone")
        return int(_REPLY.unpack(reply)[0])


class _Server:
    """Runs in the fork server. One child at a time."""

    def __init__(self, link: socket.socket, serve: Serve, worker: int) -> None:
        self._link = link
        self._serve = serve
        self._worker = worker
        self._child = 0

    def run(self) -> None:
        _die_with_parent(self._worker)
        _keep_only(self._link)
        for number in (signal.SIGINT, signal.SIGTERM):
            # Both come for the whole group, and the worker may need us while it drains.
            signal.signal(number, signal.SIG_IGN)
        gc.disable()  # a collection would write to every object, and so unshare all memory
        while True:
            try:
                word, sockets, _, _ = socket.recv_fds(self._link, 1, 1)
            except ConnectionResetError:  # the worker was killed with our last answer unread
                word, sockets = b"", []
            if not word:
                self._end()
                return
            reply = self._fork(socket.socket(fileno=sockets[0])) if word == _FORK else self._end()
            self._link.sendall(_REPLY.pack(reply))

    def _fork(self, theirs: socket.socket) -> int:
        """Make a child; returns 0, or the error's number."""
        server = os.getpid()
        with theirs:
            try:
                self._child = os.fork()
            except OSError as error:
                return error.errno or -1
            if self._child == 0:
                _forked(lambda: self._be_child(theirs, server))
        return 0

    def _be_child(self, link: socket.socket, server: int) -> None:
        _die_with_parent(server)
        self._link.close()
        self._serve(link)

    def _end(self) -> int:
        """Kill the child and bury it; returns its wait status."""
        if self._child == 0:
            return 0
        child, self._child = self._child, 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # our own child, not yet waited for: the number is still its own
        return os.waitpid(child, 0)[1]


def _forked(run: Callable[[], None]) -> NoReturn:
    """Do something in a process that was just forked, and never come back to what the parent was doing."""
    code = 1
    try:
        run()
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it must not unwind into the parent's code
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _keep_only(link: socket.socket) -> None:
    """Let go of all that was inherited but the link and standard error: sockets, lock files, the caller's pipe."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for number in map(int, os.listdir("/dev/fd")):
        if number > 2 and number != link.fileno():
            with contextlib.suppress(OSError):  # the listing's own is closed already
                os.close(number)


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent(parent: int) -> None:
    """Have the kernel kill us when the parent dies, were it by kill -9 in the middle of a trial that never ends."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
