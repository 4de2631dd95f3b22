"""aio-pika, by hand: a task a message, up to the prefetch at once; commits are shared, publishes confirmed."""

from __future__ import annotations

import asyncio

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from tests.bench.peers.group_log import GroupLog
from tests.bench.peers.work import CONTENT_TYPE, PREFETCH, Job, Log, Mediation


async def main() -> None:
    """Relay until we are ended."""
    job = Job.given()
    mediation, log = Mediation(job.folder), GroupLog(Log(job.folder))
    connection = await aio_pika.connect(job.url)
    incoming = await connection.channel()
    await incoming.set_qos(prefetch_count=PREFETCH)
    outgoing = await connection.channel(publisher_confirms=True)

    async def handle(message: AbstractIncomingMessage) -> None:
        async with message.process(requeue=True):
            mediated = mediation.mediate(message.body)
            await log.append(mediated)
            await outgoing.default_exchange.publish(
                aio_pika.Message(
                    mediated.output,
                    content_type=CONTENT_TYPE,
                    message_id=mediated.output_id,
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                ),
                routing_key=job.target,
                mandatory=True,
            )

    queue = await incoming.get_queue(job.source)
    await queue.consume(handle)
    job.ready()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
