"""One life of the link: a consuming and a publishing connection, from the first SYN to the loss of either.

A session is used once. It is `ready` when both are open, the topology is declared and confirms are on; it is over at
the first loss, of which it tells once. Publishes and acks are collected and leave with `flush`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pika.exceptions import ChannelClosedByBroker

from bus.core.errors import BusError
from bus.ports import Outcome, Outgoing, Received, Tag, Way
from bus.shell.amqp.confirms import Confirms
from bus.shell.amqp.encode import Encoder, ack
from bus.shell.amqp.pika_link import HOT_CHANNEL, HotConnection
from bus.shell.amqp.wire import Scan, WireFault
from bus.shell.topology import lead

_DECLARING_CHANNEL = 2


class Dropped(Exception):
    """We dropped the connection; the reason says why."""


@dataclass(frozen=True, slots=True)
class SessionEvents:
    """What a session tells: see `bus.ports.TransportEvents`. `lost` gets the error and whether it was ready."""

    ready: Callable[[Session], None]
    lost: Callable[[Session, BaseException, bool], None]
    batch: Callable[[Sequence[Received]], None]
    outcomes: Callable[[Sequence[Outcome]], None]
    blocked: Callable[[bool, str], None]


class Session:
    """Args:
    parameters: pika connection parameters.
    loop: pika's IO loop.
    generation: number of this session, part of every tag.
    declare: declares the topology on an asynchronous channel.
    events: who is told.
    """

    def __init__(
        self, parameters: Any, loop: Any, generation: int, declare: Callable[[Any], None], events: SessionEvents
    ) -> None:
        self.generation = generation
        self.host = f"{parameters.host}:{parameters.port}"
        self.ready = False
        self._over = False
        self._loop = loop
        self._declare = declare
        self._events = events
        self._confirms = Confirms()
        self._out: list[bytes] = []
        self._refused: list[Outcome] = []
        self._ack_upto = 0
        self._acked = 0
        self._consumers = 0
        self._encoder: Encoder | None = None
        self._hot: Any = None  # pika's object for the consuming channel
        self._user: str = parameters.credentials.username
        self._waiting_for = 2  # hot channels
        self._saying_goodbye = 0  # connections that have not answered our Connection.Close
        self._consuming = self._open(parameters, self._on_consuming_open, self._on_deliveries)
        self._publishing = self._open(parameters, self._on_publishing_open, self._on_signals)

    def _open(self, parameters: Any, on_open: Callable[[Any], None], on_scan: Callable[[Scan], None]) -> HotConnection:
        return HotConnection(
            parameters, self._loop, on_open, self._on_connection_lost, self._on_connection_lost, on_scan
        )

    # --- Coming up --------------------------------------------------------------------------------------------------

    def _on_consuming_open(self, connection: Any) -> None:
        if not self._over:
            connection.channel(channel_number=HOT_CHANNEL, on_open_callback=self._on_consuming_channel)

    def _on_consuming_channel(self, channel: Any) -> None:
        self._hot = channel
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_cancel_callback(lambda _frame: self._lose(Dropped("the broker cancelled a consumer")))
        self._one_up()

    def _on_publishing_open(self, connection: Any) -> None:
        if self._over:
            return
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(lambda *_: self._events.blocked(False, ""))
        self._encoder = Encoder(HOT_CHANNEL, self._user, int(connection.params.frame_max))
        connection.channel(channel_number=_DECLARING_CHANNEL, on_open_callback=self._on_declaring_channel)

    def _on_declaring_channel(self, channel: Any) -> None:
        channel.add_on_close_callback(self._on_declaring_closed)
        self._declare(channel)
        channel.basic_qos(prefetch_count=0, callback=lambda _frame: channel.close())  # answered after all the rest

    def _on_declaring_closed(self, _channel: Any, error: BaseException) -> None:
        if isinstance(error, ChannelClosedByBroker):
            self._lose(BusError(f"it does not take the topology: {error.reply_text}"))
        elif not self._over and self._publishing.is_open:
            self._publishing.channel(channel_number=HOT_CHANNEL, on_open_callback=self._on_publishing_channel)

    def _on_publishing_channel(self, channel: Any) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        # The callback that pika asks for is never called: the scanner takes the confirms.
        channel.confirm_delivery(lambda _frame: None, callback=lambda _frame: self._one_up())

    def _one_up(self) -> None:
        self._waiting_for -= 1
        if self._waiting_for == 0 and not self._over:
            self.ready = True
            self._events.ready(self)

    def lead(self, way: Way, then: Callable[[], None]) -> None:
        """Bind and unbind on the declaring channel's number, and tell when the broker has answered."""

        def opened(channel: Any) -> None:
            channel.add_on_close_callback(closed)
            lead(channel, way)
            channel.basic_qos(prefetch_count=0, callback=lambda _frame: channel.close())  # answered after all the rest

        def closed(_channel: Any, error: BaseException) -> None:
            if isinstance(error, ChannelClosedByBroker):
                self._lose(BusError(f"its ingress cannot be led to `{way.to}`: {error.reply_text}"))
            elif not self._over and self.ready:
                then()

        self._publishing.channel(channel_number=_DECLARING_CHANNEL, on_open_callback=opened)

    # --- Going down -------------------------------------------------------------------------------------------------

    def drop(self, reason: str) -> None:
        """Drop both connections without a word to anyone."""
        self._over = True
        self.ready = False
        error = Dropped(reason)
        self._consuming.drop(error)
        self._publishing.drop(error)

    def close(self) -> None:
        """Send what is collected and say goodbye on both; `lost` is told when both have answered.

        A socket that is closed with unread input resets the connection, and the broker may then miss our last acks:
        hence the wait for the answer.
        """
        self.flush()
        self.ready = False
        self._saying_goodbye = 2
        self._publishing.close_raw()
        self._consuming.close_raw()

    def give_up(self, reason: str) -> None:
        """Be lost, when the broker has not answered our goodbye by now."""
        self._lose(Dropped(reason))

    def _on_channel_closed(self, _channel: Any, error: BaseException) -> None:
        self._lose(error)

    def _on_connection_lost(self, _connection: Any, error: BaseException) -> None:
        self._saying_goodbye -= 1
        if self._saying_goodbye <= 0:
            self._lose(error)

    def _lose(self, error: BaseException) -> None:
        if self._over:
            return
        was_ready = self.ready
        self.drop(f"the other connection is gone: {error}")
        self._events.lost(self, error, was_ready)

    # --- Traffic ----------------------------------------------------------------------------------------------------

    def consume(self, queues: Sequence[str], prefetch: int) -> None:
        """Consume queues, `prefetch` deliveries ahead of each."""
        self._hot.basic_qos(prefetch_count=prefetch)
        for queue in queues:
            self._consumers += 1
            tag = f"agentbus-{self._consumers}"
            self._consuming.scanner.name_consumer(tag, queue)
            # The callback that pika asks for is never called: the scanner takes the deliveries.
            self._hot.basic_consume(queue, lambda *_: None, consumer_tag=tag)

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Encode and collect publishes. What AMQP cannot carry ends as `returned`, at the end of this turn."""
        assert self._encoder is not None
        encode, pieces, confirms = self._encoder.publish, self._out, self._confirms
        for outgoing in batch:
            try:
                encode(pieces, outgoing.exchange, outgoing.routing_key, outgoing.output)
            except ValueError as error:
                self._refused.append(Outcome(outgoing.handle, "returned", str(error)))
                continue
            confirms.published(outgoing)

    def ack(self, upto: int) -> None:
        """Collect an acknowledgement; of several in a turn the highest goes out."""
        self._ack_upto = max(self._ack_upto, upto)

    def flush(self) -> None:
        """Send what is collected."""
        if self._over:
            return
        if self._out:
            pieces, self._out = self._out, []
            self._publishing.emit(pieces)
        if self._ack_upto > self._acked:
            self._acked = self._ack_upto
            self._consuming.emit([ack(HOT_CHANNEL, self._acked)])
        if self._refused:
            refused, self._refused = self._refused, []
            self._loop.add_callback_threadsafe(lambda: self._tell_refused(refused))

    def _tell_refused(self, refused: Sequence[Outcome]) -> None:
        if not self._over:
            self._events.outcomes(refused)

    def _on_deliveries(self, scan: Scan) -> None:
        if self.ready and scan.deliveries:
            generation, now, new = self.generation, time.time(), tuple.__new__
            self._events.batch(
                [new(Received, (new(Tag, (generation, number)), each, now)) for number, each in scan.deliveries]
            )

    def _on_signals(self, scan: Scan) -> None:
        if not self.ready:
            return
        try:
            outcomes = self._confirms.settle(scan.signals)
        except WireFault as fault:
            self._lose(fault)
            return
        if outcomes:
            self._events.outcomes(outcomes)

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        self._events.blocked(True, str(frame.method.reason))
