"""The HTTP endpoint for machines that watch the bus: `/metrics`, `/healthz`, `/readyz`.

It listens on 127.0.0.1 unless told otherwise, answers GET only, and treats its clients as hostile: a request has
a few seconds and a bounded size, at most `_CONNECTIONS` are served at once, and when one more comes the oldest is cut
off, so that nobody can keep a scrape out by opening connections and saying nothing.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

_log = logging.getLogger(__name__)

_CONNECTIONS = 16  # a Prometheus or two, probes, a person; nobody needs more
_TIMEOUT_S = 5.0  # for each read and write; a scrape on a slow line takes well under a second
_TEXT = "text/plain; charset=utf-8"

Probe = Callable[[], str]
"""Returns "" when all is well, else one line saying what is not."""


def _well() -> str:
    return ""


class TelemetryEndpoint:
    """Serves until `close`, on threads of its own.

    Args:
        registry: what `/metrics` shows.
        ready: `/readyz` is 200 while it returns "", else 503 with what it returns; called on a serving thread.
        live: the same for `/healthz`.
        host: address to listen on.
        port: port to listen on; 0 picks a free one.

    Raises:
        OSError: the address cannot be had.
    """

    def __init__(
        self, registry: CollectorRegistry, ready: Probe, live: Probe = _well, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._server = _Server((host, port), registry, ready, live)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="telemetry", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # the usual 5 makes a burst of connections wait for seconds
    block_on_close = False  # a slow client must not hold up the end of the bus

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry, ready: Probe, live: Probe) -> None:
        self.registry, self.ready, self.live = registry, ready, live
        self._open: dict[socket.socket, None] = {}  # oldest first
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open) >= _CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _cut(oldest)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("telemetry client went away", exc_info=True)


def _cut(connection: socket.socket) -> None:
    """End a connection; its own thread sees the end of the stream and closes it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was gone already


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT_S
    server_version = "agentbus"
    sys_version = ""

    def do_GET(self) -> None:
        page = self.path.partition("?")[0]
        if page == "/metrics":
            self._metrics()
        elif page == "/healthz":
            self._probe(self.server.live)
        elif page == "/readyz":
            self._probe(self.server.ready)
        else:
            self._answer(404, _TEXT, b"there are /metrics, /healthz and /readyz\n")

    def _refuse(self) -> None:
        self._answer(405, _TEXT, b"only GET is answered\n", ("Allow", "GET"))

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _metrics(self) -> None:
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        self._answer(200, content_type, encode(self.server.registry))

    def _probe(self, probe: Probe) -> None:
        try:
            wrong = probe()
        except Exception:  # noqa: BLE001 - a probe that fails is an answer too
            _log.exception("a probe failed")
            wrong = "the probe failed; see the log"
        self._answer(503 if wrong else 200, _TEXT, f"{wrong or 'ok'}\n".encode())

    def _answer(self, status: int, content_type: str, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, template: str, *args: object) -> None:
        _log.debug("telemetry request: %s", template % args)
