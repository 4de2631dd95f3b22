"""pika's BlockingConnection, by hand: what has arrived is logged in one commit, then published one confirm at a time.

A blocking channel in confirm mode waits for each publish; that is what it is for, and what it costs.
"""

from __future__ import annotations

from typing import Any

import pika

from tests.bench.peers.work import CONTENT_TYPE, PREFETCH, Job, Log, Mediation

BATCH = 200  # logged at once at most


def main() -> None:
    """Relay until we are ended."""
    job = Job.given()
    mediation, log = Mediation(job.folder), Log(job.folder)
    connection = pika.BlockingConnection(pika.URLParameters(job.url))
    incoming, outgoing = connection.channel(), connection.channel()
    incoming.basic_qos(prefetch_count=PREFETCH)
    outgoing.confirm_delivery()
    arrived: list[tuple[int, bytes]] = []

    def on_message(_channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        arrived.append((method.delivery_tag, body))

    incoming.basic_consume(job.source, on_message)
    job.ready()
    while True:
        if not arrived:
            connection.process_data_events(time_limit=None)
        batch, arrived[:] = arrived[:BATCH], arrived[BATCH:]
        if not batch:
            continue
        rows = [mediation.mediate(body) for _, body in batch]
        log.write(rows)
        for row in rows:
            properties = pika.BasicProperties(content_type=CONTENT_TYPE, message_id=row.output_id, delivery_mode=2)
            outgoing.basic_publish("", job.target, row.output, properties, mandatory=True)
        incoming.basic_ack(batch[-1][0], multiple=True)


if __name__ == "__main__":
    main()
