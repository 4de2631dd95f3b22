"""Queues that only a benchmark needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bus.shell.probe import connection


@contextmanager
def quorum_queue(url: str, name: str, arguments: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Have a quorum queue during the block.

    Declaring and deleting each open a connection: one that idles through a benchmark would miss its heartbeats.
    """
    with connection(url) as opened:
        opened.channel().queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", **(arguments or {})})
    try:
        yield
    finally:
        with connection(url) as opened:
            opened.channel().queue_delete(name)
