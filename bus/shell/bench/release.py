"""Hold a backlog back until everything stands ready, let it go at a known moment, and see when all of it has passed.

Theory of operation. A process that is to relay, be it a shovel or the bus, takes seconds of CPU to start, and so does
the command that starts it; none of that may fall into a measurement. So its queues have a single active consumer: we
take that place first, the other registers behind us and waits, and the clock starts when we close our connection. The
message that we held of each queue is the first that the other gets.

The end is read from the target's depth, asked ever more often as it comes near: the count that a quorum queue's leader
gives is what it has applied, so it is never ahead of the truth.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pika
from pika.exceptions import AMQPError

from bus.core.endpoints import endpoints
from bus.core.errors import BusError
from bus.shell.probe import connection

STALLED_S = 60.0  # without one message more
POLL_S = (0.001, 0.05)
_LATE_S = 0.1  # one that came twice, or from elsewhere, shows by then


@contextmanager
def held(url: str, queues: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Keep consumers that come later out of these queues; yields what lets them in.

    Args:
        queues: they have a single active consumer, and none yet.
    """
    parameters = pika.URLParameters(endpoints(url)[0])
    parameters.heartbeat = 0  # nobody serves this connection while it holds
    holder = pika.BlockingConnection(parameters)
    try:
        channel = holder.channel()
        channel.basic_qos(prefetch_count=1)
        for queue in queues:
            channel.basic_consume(queue, lambda *_: None)
        yield holder.close
    finally:
        with contextlib.suppress(AMQPError, OSError):
            if holder.is_open:
                holder.close()


def passed(
    url: str, queue: str, count: int, let_go: Callable[[], None], seen: Callable[[float, int], None] | None = None
) -> float:
    """Let a backlog go; returns the seconds until all of it is in a queue.

    Args:
        queue: where it arrives; nobody consumes it.
        count: how much must arrive, no more and no less.
        let_go: lets it go.
        seen: told of the seconds since then and of the depth, at each look.

    Raises:
        BusError: nothing more comes, or more than that came.
    """
    with connection(url) as opened:
        channel = opened.channel()

        def depth() -> int:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

        began = last = time.perf_counter()
        let_go()
        before = 0
        while True:
            now_there, now = depth(), time.perf_counter()
            if seen is not None:
                seen(now - began, now_there)
            if now_there >= count:
                break
            if now_there > before:
                before, last = now_there, now
            elif now - last > STALLED_S:
                raise BusError(f"the benchmark stalled after {before} messages of {count}; see the broker's log")
            left_s = (count - before) * (now - began) / before if before else 0.0
            time.sleep(min(POLL_S[1], max(POLL_S[0], left_s / 4)))
        time.sleep(_LATE_S)
        final = depth()
    if final != count:
        raise BusError(f"{final} messages arrived of {count}; run the benchmark again")
    return now - began
