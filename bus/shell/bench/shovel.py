"""The baseline of a relay: RabbitMQ's own shovel, which moves messages inside the broker and looks at none of them.

It is set with `rabbitmqctl`, and stands in line behind a consumer of ours while its queue is filled (see
bus.shell.bench.release). It deletes itself after the backlog; what is left after a failure is cleared.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pika

from bus.core.errors import Unreachable
from bus.shell.bench.queues import quorum_queue
from bus.shell.bench.release import held, passed
from bus.shell.broker_ctl import rabbitmqctl

PREFETCH = 1000  # RabbitMQ's default; measured against 200 and 5000, and faster than both
START_S = 30.0  # until it stands in line; it takes one or two

_ONE_AT_A_TIME = {"x-single-active-consumer": True}


class Shovel:
    """One shovel that moves one backlog, from quorum queue to quorum queue, acked on confirm.

    Args:
        home: folder of the private node.
        url: AMQP URL of the bus's user there.
        name: of the shovel; its queues are called after it.
        count: messages of the backlog.
    """

    def __init__(self, home: Path, url: str, name: str, count: int) -> None:
        self._home, self._url, self._name, self._count = home, url, name, count
        self.source, self.target = f"{name}.source", f"{name}.target"
        self._gone = False

    @contextmanager
    def ready(self) -> Iterator[Callable[[], None]]:
        """Set the shovel up behind a consumer of ours; yields what lets it go. Fill `source` meanwhile.

        Raises:
            Unreachable: the shovel cannot be set, or does not start.
        """
        with (
            quorum_queue(self._url, self.target),
            quorum_queue(self._url, self.source, _ONE_AT_A_TIME),
            held(self._url, [self.source]) as let_go,
        ):
            self._set()
            try:
                self._wait()
                yield let_go
            finally:
                if not self._gone:
                    # It may have deleted itself by now, and why we are here matters more.
                    with contextlib.suppress(Unreachable):
                        rabbitmqctl(self._home, "clear_parameter", "shovel", self._name)

    def move(self, let_go: Callable[[], None], arrived: Callable[[], None]) -> float:
        """Let the shovel go; returns the seconds until the last message is in the target.

        Args:
            let_go: lets it go.
            arrived: called when the last message is there.

        Raises:
            BusError: it stopped on the way, or moved something else than the backlog.
        """

        def seen(_seconds: float, depth: int) -> None:
            if depth >= self._count:
                arrived()

        seconds = passed(self._url, self.target, self._count, let_go, seen)
        self._gone = True
        return seconds

    def _set(self) -> None:
        parts = urlsplit(self._url)
        # No host: the shovel speaks to its own node without a socket, which is the fastest that it can be.
        uri = f"amqp://{parts.username}@/{quote(pika.URLParameters(self._url).virtual_host, safe='')}"
        value = {
            "src-protocol": "amqp091",
            "src-uri": uri,
            "src-queue": self.source,
            "src-prefetch-count": PREFETCH,
            "src-delete-after": self._count,
            "dest-protocol": "amqp091",
            "dest-uri": uri,
            "dest-queue": self.target,
            "ack-mode": "on-confirm",
        }
        rabbitmqctl(self._home, "set_parameter", "shovel", self._name, json.dumps(value))

    def _wait(self) -> None:
        """Until it stands in line. A queue's own count of consumers leaves out those that wait."""
        deadline = time.monotonic() + START_S
        while rabbitmqctl(self._home, "list_consumers", "queue_name").split().count(self.source) < 2:
            if time.monotonic() > deadline:
                raise Unreachable(f"the shovel did not start; its log is in {self._home}/broker/log")
