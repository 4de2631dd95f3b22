"""What each stage of a message costs: `python -m tests.bench.stages [--output json]`, without a broker.

The messages, routes and contracts are those of `bus bench relay`; each stage is run for a batch of 512 as the worker
runs it, and timed by the thread's own CPU clock. The least of many rounds counts: the stage on a core of its own, with
warm caches. Beside a broker on the same two cores the same work costs half as much again, and sockets and disk
come on top: `cpu_us_per_msg` of `bus bench relay` has all of it. Indented stages are parts of the one above them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from bus import bootstrap
from bus.audit.record import content_hash
from bus.audit.record import encode as encode_record
from bus.core import naming
from bus.core.facts import Facts
from bus.core.pipeline import decide, understand
from bus.core.table import RouteTable
from bus.core.times import rfc3339
from bus.ports import Commit, Outgoing, Received, Tag
from bus.shell.amqp.confirms import Confirms
from bus.shell.amqp.encode import Encoder, short
from bus.shell.amqp.wire import Confirm, Scanner
from bus.shell.bench.load import ORDER, conversation, order
from bus.shell.bench.scene import write_scene
from bus.shell.calm import calm_process
from bus.shell.inbox import inbox_key
from bus.shell.judge import Judge
from bus.shell.judged import Judged
from bus.shell.ledger import Ledger
from bus.shell.outflow import Addresses, Job, Outflow
from bus.shell.sqlite_store import SqliteStore
from bus.shell.store_rules import segments_of

BATCH = 512
ROUNDS = 60
PARTITIONS = 8
NAMESPACE = "stages"

T = TypeVar("T")


def wire(run: str) -> bytes:
    """A batch of first deliveries as a broker sends them."""
    frames = bytearray()
    for number in range(BATCH):
        body, key = order(run, number), conversation(number)
        consumer = f"agentbus-{crc32(key.encode()) % PARTITIONS + 1}"
        method = struct.pack(">HH", 60, 60) + short(consumer) + struct.pack(">QB", number + 1, 0)
        method += short(naming.ingress_exchange(NAMESPACE)) + short(key)
        flags = 1 << 15 | 1 << 12 | 1 << 7 | 1 << 5 | 1 << 4
        header = struct.pack(">HHQH", 60, 0, len(body), flags) + short("application/cloudevents+json") + b"\x02"
        header += short(f"{run}-{number}") + short(ORDER) + short("bus")
        for kind, payload in ((1, method), (2, header), (3, body)):
            frames += struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"
    return bytes(frames)


class Stages:
    """One worker's parts without its loop, and the least that each stage took, in microseconds a message."""

    def __init__(self, folder: Path) -> None:
        catalog = bootstrap.load([write_scene(folder)]).catalog
        assert catalog is not None
        self._table = RouteTable(catalog)
        self._store = SqliteStore(folder / "bus.db")
        now = time.time()
        self._facts = Facts(now, rfc3339(now), self._store.secret)
        claims = self._store.claim(PARTITIONS)
        self._judge = Judge(self._store, self._table, self._facts, NAMESPACE, 1_000_000, time.time)
        self._judge.claimed(claims, [])
        self._ledger = Ledger()
        for claim in claims:
            self._ledger.start(claim.partition, claim.done)
        self._published: list[Sequence[Outgoing]] = []
        self._outflow = Outflow(Addresses(NAMESPACE, catalog.subscriptions), self._published.append, time.time)
        self._encoder = Encoder(1, "bus", 131_072)
        self._confirms = Confirms()
        self.least: dict[str, float] = defaultdict(lambda: float("inf"))

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        began = time.thread_time()
        result = work()
        self.least[stage] = min(self.least[stage], (time.thread_time() - began) / BATCH * 1e6)
        return result

    def round(self, number: int) -> None:
        """Take one batch all the way, from the socket's bytes to what is acked."""
        data, scanner = wire(f"r{number}"), Scanner(1)
        for partition in range(PARTITIONS):
            scanner.name_consumer(f"agentbus-{partition + 1}", naming.ingress_queue(NAMESPACE, partition))
        scan = self._timed("frames to deliveries", lambda: scanner.feed(data))
        now = time.time()
        base = number * BATCH
        batch = [Received(Tag(1, base + tag), each, now) for tag, each in scan.deliveries]
        judged = self._timed("judge", lambda: self._judge.judge(batch))
        self._parts(batch, judged)
        commit = Commit(judged.entries, self._ledger.marks())
        self._timed("commit, on a quiet disk", lambda: self._store.commit(commit))
        self._timed("  pack and compress segments", lambda: segments_of(commit))
        self._judge.committed(judged.keys)
        self._timed("ledger and order", lambda: self._track(judged))
        while self._published:
            publishes = self._published.pop()
            self._timed("outputs to frames", lambda out=publishes: self._encode(out))  # type: ignore[misc]
            self._timed("confirms", self._settle)

    def _parts(self, batch: Sequence[Received], judged: Judged) -> None:
        """The parts of judging once more, each alone."""
        table, facts = self._table, self._facts
        deliveries = [each.delivery for each in batch]
        messages = self._timed("  decode and check", lambda: [understand(each, table, facts) for each in deliveries])
        hashes = self._timed("  hash of the body", lambda: [content_hash(each.body) for each in deliveries])
        pairs = list(zip(deliveries, messages, strict=True))
        self._timed("  decide: contracts, condition, translate, output", lambda: [
            decide(delivery, table, facts, message) for delivery, message in pairs])  # type: ignore[arg-type]  # fmt: skip
        self._timed("  identity", lambda: [
            inbox_key(message, False, content) for message, content in zip(messages, hashes, strict=True)])  # type: ignore[arg-type]  # fmt: skip
        rows = list(zip(judged.decisions, deliveries, hashes, strict=True))
        self._timed("  audit record", lambda: [
            encode_record(
                decision, delivery, seq=1, partition=1, received_s=1.5, decided_s=2.5, config="c", content=content)
            for decision, delivery, content in rows])  # fmt: skip

    def _track(self, judged: Judged) -> None:
        for opened in judged.opens:
            self._ledger.add(opened)
            for index, output in enumerate(opened.outputs):
                self._outflow.add(Job(opened.partition, opened.seq, index, output, opened))
        self._outflow.flush()

    def _encode(self, publishes: Sequence[Outgoing]) -> bytes:
        pieces: list[bytes] = []
        for each in publishes:
            self._encoder.publish(pieces, each.exchange, each.routing_key, each.output)
            self._confirms.published(each)
        return b"".join(pieces)

    def _settle(self) -> None:
        for outcome in self._confirms.settle([Confirm(0, True, True)]):
            job = self._outflow.outcome(outcome)
            assert job is not None
            assert job.owner is not None
            self._ledger.settle(job.owner)
            self._outflow.next(job.key)
        self._ledger.ackable()
        self._ledger.finished.clear()

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()


def main() -> None:
    """Run, and print what each stage took."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.stages", description="Tell what each stage of a message costs."
    )
    parser.add_argument("--output", choices=("text", "json"), default="text")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="agentbus-stages-"))
    stages = Stages(folder)
    try:
        calm_process()
        for number in range(ROUNDS):
            stages.round(number)
    finally:
        stages.close()
        shutil.rmtree(folder)
    found: dict[str, Any] = {name.strip(): round(us, 2) for name, us in stages.least.items()}
    whole = round(sum(us for name, us in stages.least.items() if not name.startswith(" ")), 1)
    if given.output == "json":
        print(json.dumps({"us_per_message": found, "sum": whole}))
        return
    for name, us in stages.least.items():
        print(f"{name:52} {us:6.2f} us")
    print(f"{'all of it':52} {whole:6.1f} us")


if __name__ == "__main__":
    main()
