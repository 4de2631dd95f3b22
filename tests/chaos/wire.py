"""A wire between the bus and the broker, or the database: it cuts, stalls, swallows and leaves half of a link open.

`near` is the bus's side, `far` the other one. Data flows `out` (from the bus) and `back` (to the bus).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import Literal

Flow = Literal["out", "back"]
Snap = Literal["request", "middle", "answer", "held"]
CHUNK = 65536


@dataclass(slots=True)
class _Trap:
    """Waits for `pattern` on its way out. `sprung` when the link was cut, or what was sent is held."""

    pattern: bytes
    how: Snap
    sprung: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True, eq=False)
class _Link:
    """One proxied connection.

    `ghost` keeps the far side open when the near one is gone; `deaf` the other way round. `asked`: the next thing that
    comes back is the answer that a trap waits for. `held`: a trap keeps what was sent.
    """

    near: socket.socket
    far: socket.socket
    ghost: bool = False
    deaf: bool = False
    asked: bool = False
    held: bool = False
    open_ends: int = field(default=2)

    def close(self) -> None:
        self.ghost = self.deaf = False
        _shut(self.near)
        _shut(self.far)


class Wire:
    """Forwards 127.0.0.1:`port` to the broker or the database. Use as a context manager.

    Args:
        host, port: where to.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._changed = threading.Condition()
        self._stalled: set[Flow] = set()
        self._swallowed: set[Flow] = set()
        self._links: list[_Link] = []
        self._refusing = False
        self._trap: _Trap | None = None
        self.swallowed_bytes = 0

    def __enter__(self) -> Wire:
        threading.Thread(target=self._accept, name="wire", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.mend()
        _shut(self._listener)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Cut every connection, both ends, with whatever is on its way."""
        with self._changed:
            links, self._links = self._links, []
        for link in links:
            link.close()

    def refuse(self, refusing: bool) -> None:
        """Accept and drop new connections at once, or no longer."""
        self._refusing = refusing

    def stall(self, *flows: Flow) -> None:
        """Forward nothing that way; senders see their buffers fill up."""
        with self._changed:
            self._stalled.update(flows)

    def swallow(self, *flows: Flow) -> None:
        """Take what comes that way and lose it: the sender believes that it was sent."""
        with self._changed:
            self._swallowed.update(flows)

    def ghost(self) -> None:
        """Close the bus's end of every link and let the broker believe that the bus is still there."""
        with self._changed:
            for link in self._links:
                link.ghost = True
                _shut(link.near)

    def deafen(self) -> None:
        """Close the broker's end of every link and let the bus believe that the broker is still there."""
        with self._changed:
            for link in self._links:
                link.deaf = True
                _shut(link.far)

    def trap(self, pattern: bytes, how: Snap) -> threading.Event:
        """Wait for something that is sent, and strike at that moment, once; returns what is set when it has happened.

        Args:
            pattern: what to wait for, in one piece of what is sent.
            how: cut the link: `request`: nothing of the piece arrives; `middle`: half of it does; `answer`: it arrives,
                and the answer does not. `held`: the piece is kept until `mend`, and nothing is cut.
        """
        trap = _Trap(pattern, how)
        with self._changed:
            self._trap = trap
        return trap.sprung

    def mend(self) -> None:
        """Stop stalling, swallowing and trapping. What was swallowed is lost, so cut those links first."""
        with self._changed:
            self._trap = None
            for link in self._links:
                link.held = False
            self._stalled.clear()
            self._swallowed.clear()
            self._refusing = False
            self._changed.notify_all()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                far = socket.create_connection(self._target, timeout=5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            link = _Link(near, far)
            with self._changed:
                self._links.append(link)
            for flow in ("out", "back"):
                threading.Thread(target=self._pump, args=(link, flow), daemon=True).start()

    def _pump(self, link: _Link, flow: Flow) -> None:
        source, sink = (link.near, link.far) if flow == "out" else (link.far, link.near)
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                with self._changed:
                    data, cut = self._trapped(link, flow, data)
                    self._changed.wait_for(lambda: not self._waits(link, flow) or link not in self._links)
                    lost = flow in self._swallowed
                if cut:
                    with contextlib.suppress(OSError):
                        sink.sendall(data)
                    link.close()
                elif lost:
                    self.swallowed_bytes += len(data)
                elif not (link.ghost or link.deaf):
                    sink.sendall(data)
        if not (link.ghost if flow == "out" else link.deaf):
            _shut(sink)
        self._ended(link)

    def _waits(self, link: _Link, flow: Flow) -> bool:
        return flow in self._stalled or (link.held and flow == "out")

    def _trapped(self, link: _Link, flow: Flow, data: bytes) -> tuple[bytes, bool]:
        """What of a piece goes on, and whether the link is cut then."""
        trap = self._trap
        if trap is None:
            return data, False
        if flow == "back":
            if not link.asked:
                return data, False
            self._spring(trap)
            return b"", True
        if link.asked or trap.pattern not in data:
            return data, False
        if trap.how == "answer":
            link.asked = True
            return data, False
        self._spring(trap)
        if trap.how == "held":
            link.held = True
            return data, False
        return (b"" if trap.how == "request" else data[: len(data) // 2]), True

    def _spring(self, trap: _Trap) -> None:
        self._trap = None
        trap.sprung.set()

    def _ended(self, link: _Link) -> None:
        with self._changed:
            link.open_ends -= 1
            if link.open_ends:
                return
            if link in self._links:
                self._links.remove(link)
        link.near.close()
        link.far.close()


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
