"""FastStream: a subscriber whose handler logs, publishes with a confirm, and is acked by the framework.

FastStream runs handlers of one subscriber concurrently up to the prefetch, so the log's commits are shared. Its own
JSON codec is left out: the handler takes the bytes, as the other peers do.
"""

from __future__ import annotations

import asyncio

from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue

from tests.bench.peers.group_log import GroupLog
from tests.bench.peers.work import CONTENT_TYPE, PREFETCH, Job, Log, Mediation


async def main() -> None:
    """Relay until we are ended."""
    job = Job.given()
    mediation, log = Mediation(job.folder), GroupLog(Log(job.folder))
    broker = RabbitBroker(job.url, logger=None, apply_types=False)

    async def handle(message: RabbitMessage) -> None:
        mediated = mediation.mediate(message.body)
        await log.append(mediated)
        await broker.publish(
            mediated.output,
            queue=job.target,
            persist=True,
            mandatory=True,
            message_id=mediated.output_id,
            content_type=CONTENT_TYPE,
        )

    async def undecoded(message: RabbitMessage) -> RabbitMessage:
        return message

    broker.subscriber(
        RabbitQueue(job.source, declare=False),
        channel=Channel(prefetch_count=PREFETCH),
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=undecoded,
    )(handle)
    await broker.start()
    job.ready()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
