"""A pika connection whose hot path is ours: the one file that reaches into pika's private API.

Written against pika 1.4.4. Used and not public:
- `Connection._output_marshaled_frames`, `_terminate_stream`, `_send_connection_close`, `_set_connection_state`,
  `_error`, `_on_data_available`, `bytes_received`, `_opened`, `CONNECTION_CLOSING`;
- `BaseConnection._proto_data_received`, `_proto_connection_made`, `_on_connection_workflow_done`;
- the stream transport's `_MAX_RECV_BYTES` and `_MAX_CONSUME_BYTES`; the plain one's `_state`, `_STATE_ACTIVE`, `_sock`.
`check_pika` says so in one sentence when a newer pika has lost one of them.

pika keeps the handshake, TLS, heartbeats, blocked, close and errors. We see the bytes first (`_proto_data_received`),
take what the scanner knows, and give pika the rest. What we write goes to the socket while pika's own output buffer is
empty, and else behind what is in it, so that nothing overtakes anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
from pika.adapters import base_connection, select_connection
from pika.adapters.utils import io_services_utils
from pika.exceptions import ConnectionClosedByClient

from bus.core.errors import BusError
from bus.shell.amqp.wire import Scan, Scanner, WireFault

HOT_CHANNEL = 1
READ_BYTES = 256 * 1024  # pika's own 4 KB would mean a system call for every few messages
WRITE_BYTES = (
    512 * 1024
)  # pika copies what is left of a chunk after each partial send: bounded chunks bound the copying
CLOSED_REASON = "closed on purpose"

_NEEDED: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (
        pika.connection.Connection,
        (
            "_output_marshaled_frames",
            "_terminate_stream",
            "_send_connection_close",
            "_set_connection_state",
            "_on_data_available",
            "CONNECTION_CLOSING",
        ),
    ),
    (
        base_connection.BaseConnection,
        ("_proto_data_received", "_proto_connection_made", "_on_connection_workflow_done"),
    ),
    (
        io_services_utils._AsyncTransportBase,
        ("_MAX_RECV_BYTES", "_MAX_CONSUME_BYTES", "_STATE_ACTIVE", "get_write_buffer_size"),
    ),
    (io_services_utils, ("_AsyncPlaintextTransport",)),
)


def check_pika() -> None:
    """Check that this pika has what we build on.

    Raises:
        BusError: it has not.
    """
    for owner, names in _NEEDED:
        for name in names:
            if not hasattr(owner, name):
                raise BusError(
                    f"pika {pika.__version__} has no {owner.__name__}.{name}, which agentbus builds on; "
                    "install pika 1.4.4 (`pip install pika==1.4.4`)"
                )


class HotConnection(select_connection.SelectConnection):  # type: ignore[misc] # pika ships no types
    """A SelectConnection that hands the traffic of its hot channel to `on_scan` instead of to pika.

    Args:
        parameters: pika connection parameters.
        loop: the IO loop, shared by several connections.
        on_open, on_failed, on_closed: as pika's callbacks: (connection), (connection, error), (connection, error).
        on_scan: called with each read's events, before pika sees the frames that are its own.
    """

    def __init__(
        self,
        parameters: Any,
        loop: Any,
        on_open: Callable[[Any], None],
        on_failed: Callable[[Any, BaseException], None],
        on_closed: Callable[[Any, BaseException], None],
        on_scan: Callable[[Scan], None],
    ) -> None:
        self.scanner = Scanner(HOT_CHANNEL)
        self._on_scan = on_scan
        super().__init__(parameters, on_open, on_failed, on_closed, custom_ioloop=loop)

    def emit(self, pieces: list[bytes]) -> None:
        """Send frames that are encoded already, in few writes."""
        data = self._sent_at_once(b"".join(pieces))
        if not data:
            return
        if len(data) <= WRITE_BYTES:
            self._output_marshaled_frames([data])
        else:
            parts = [data[at : at + WRITE_BYTES] for at in range(0, len(data), WRITE_BYTES)]
            self._output_marshaled_frames(parts)

    def _sent_at_once(self, data: bytes) -> bytes:
        """Send what the socket takes now; returns the rest. pika asks first whether it takes anything: four more calls.

        Any error is left to pika, which comes upon it at once when it sends the rest.
        """
        link = self._transport
        plain = isinstance(link, io_services_utils._AsyncPlaintextTransport)
        if not plain or link._state != link._STATE_ACTIVE or link.get_write_buffer_size():
            return data
        try:
            sent = link._sock.send(data)
        except OSError:
            return data
        self.bytes_sent += sent
        return data[sent:]

    def drop(self, error: Exception) -> None:
        """Drop the socket: no cancel, no channel close, so that the broker requeues in order. Idempotent."""
        if self.is_closed:
            return
        if self._opened:
            self._terminate_stream(error)
        elif not self.is_closing:
            self.close()

    def close_raw(self) -> None:
        """Send what is buffered, then Connection.Close, without cancelling consumers or closing channels first."""
        if not self.is_open:
            self.drop(ConnectionClosedByClient(200, CLOSED_REASON))
            return
        self._error = ConnectionClosedByClient(200, CLOSED_REASON)
        self._set_connection_state(self.CONNECTION_CLOSING)
        self._send_connection_close(200, CLOSED_REASON)

    def _on_connection_workflow_done(self, result: Any) -> None:
        # When an opening connection is dropped, pika 1.4.4 reports an exception class where it expects an instance.
        super()._on_connection_workflow_done(result() if isinstance(result, type) else result)

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = READ_BYTES
        if isinstance(transport, io_services_utils._AsyncPlaintextTransport):
            # One read a turn: what is left makes the socket readable again, and asking an empty one costs a call.
            # TLS may hold decrypted bytes that do not show as readable, and so keeps reading.
            transport._MAX_CONSUME_BYTES = 1
        super()._proto_connection_made(transport)

    def _proto_data_received(self, data: bytes) -> None:
        self.bytes_received += len(data)  # what the heartbeat checker goes by
        try:
            scan = self.scanner.feed(data)
        except WireFault as fault:
            self._terminate_stream(fault)
            return
        if scan.deliveries or scan.signals:
            self._on_scan(scan)
        if scan.foreign and not self.is_closed:
            self._on_data_available(scan.foreign)
