"""The wire between the bus and the broker: a TCP proxy that cuts, stalls, swallows and leaves half of a link open.

`near` is the bus's side, `far` the broker's. Data flows `out` (bus to broker) and `back` (broker to bus).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import Literal

Flow = Literal["out", "back"]
CHUNK = 65536


@dataclass(slots=True, eq=False)
class _Link:
    """One proxied connection. `ghost` keeps the far side open when the near one is gone; `deaf` the other way round."""

    near: socket.socket
    far: socket.socket
    ghost: bool = False
    deaf: bool = False
    open_ends: int = field(default=2)

    def close(self) -> None:
        self.ghost = self.deaf = False
        _shut(self.near)
        _shut(self.far)


class Wire:
    """Forwards 127.0.0.1:`port` to the broker. Use as a context manager.

    Args:
        host, port: the broker's.
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

    def mend(self) -> None:
        """Stop stalling and swallowing. What was swallowed is lost, so cut those links first."""
        with self._changed:
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
                    self._changed.wait_for(lambda: flow not in self._stalled or link not in self._links)
                    lost = flow in self._swallowed
                if lost:
                    self.swallowed_bytes += len(data)
                elif not (link.ghost or link.deaf):
                    sink.sendall(data)
        if not (link.ghost if flow == "out" else link.deaf):
            _shut(sink)
        self._ended(link)

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
