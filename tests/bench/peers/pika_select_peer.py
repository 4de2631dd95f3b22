"""pika's SelectConnection, by hand, pipelined: one commit for what has arrived, all its publishes in flight at once.

This is what a developer can write who knows AMQP well: no task a message, confirms counted, acks with `multiple`.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pika

from tests.bench.peers.work import CONTENT_TYPE, PREFETCH, Job, Log, Mediated, Mediation

BATCH = 500  # in one commit at most


class Relay:
    """Confirms come in any order; inputs are acked up to the oldest that waits for one."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._mediation, self._log = Mediation(job.folder), Log(job.folder)
        self._thread = ThreadPoolExecutor(1)
        self._arrived: list[tuple[int, bytes]] = []
        self._committing = False
        self._published = 0
        self._unconfirmed: deque[tuple[int, int]] = deque()  # (publish number, delivery tag), oldest first
        self._early: set[int] = set()
        self._connection: Any = pika.SelectConnection(
            pika.URLParameters(job.url), on_open_callback=self._on_open, on_close_callback=self._on_close
        )

    def run(self) -> None:
        """Relay until we are ended."""
        self._connection.ioloop.start()

    def _on_open(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._on_outgoing)

    def _on_close(self, _connection: Any, reason: Exception) -> None:
        raise SystemExit(f"the connection is gone: {reason}")

    def _on_outgoing(self, channel: Any) -> None:
        self._outgoing = channel
        channel.confirm_delivery(self._on_confirm)
        self._connection.channel(on_open_callback=self._on_incoming)

    def _on_incoming(self, channel: Any) -> None:
        self._incoming = channel
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(self._job.source, self._on_message, callback=lambda _frame: self._job.ready())

    def _on_message(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self._arrived.append((method.delivery_tag, body))
        if not self._committing:
            # Not at once: what else this read of the socket has brought belongs into the same commit.
            self._committing = True
            self._connection.ioloop.add_callback(self._commit)

    def _commit(self) -> None:
        batch, self._arrived = self._arrived[:BATCH], self._arrived[BATCH:]
        rows = [self._mediation.mediate(body) for _, body in batch]
        written = self._thread.submit(self._log.write, rows)

        def publish() -> None:
            written.result()
            self._publish(rows, [tag for tag, _ in batch])

        written.add_done_callback(lambda _: self._connection.ioloop.add_callback_threadsafe(publish))

    def _publish(self, rows: list[Mediated], tags: list[int]) -> None:
        for row, tag in zip(rows, tags, strict=True):
            properties = pika.BasicProperties(content_type=CONTENT_TYPE, message_id=row.output_id, delivery_mode=2)
            self._outgoing.basic_publish("", self._job.target, row.output, properties, mandatory=True)
            self._published += 1
            self._unconfirmed.append((self._published, tag))
        self._committing = bool(self._arrived)
        if self._committing:
            self._commit()

    def _on_confirm(self, frame: Any) -> None:
        if not isinstance(frame.method, pika.spec.Basic.Ack):
            raise SystemExit(f"the broker refused a message: {frame.method}")
        number, tag = frame.method.delivery_tag, 0
        if not frame.method.multiple:
            self._early.add(number)
        while self._unconfirmed:
            oldest, its_tag = self._unconfirmed[0]
            if oldest in self._early:
                self._early.remove(oldest)
            elif not (frame.method.multiple and oldest <= number):
                break
            self._unconfirmed.popleft()
            tag = its_tag
        if tag:
            self._incoming.basic_ack(tag, multiple=True)


if __name__ == "__main__":
    Relay(Job.given()).run()
