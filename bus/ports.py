"""The ports: what the bus needs from a broker, a store, a clock and a meter, and what they guarantee.

Every implementation passes the shared suite in `tests/contract`. The in-memory ones are for the route tester and
unit tests; RabbitMQ, SQLite and PostgreSQL are real in every other test.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from bus.agent_port import AgentLink as AgentLink
from bus.agent_port import Handler as Handler
from bus.agent_port import Inbound as Inbound
from bus.core.actions import Decision, Delivery, Output
from bus.core.ingress import Ingress
from bus.core.route import Catalog

# --- Transport: the bus's side of the broker ----------------------------------------------------------------------


class Tag(NamedTuple):
    """A delivery tag belongs to its channel generation; one of an old generation is never acked on a new one.

    Generations rise; numbers count 1, 2, 3, ... within one, in the order of delivery over all its queues.
    """

    generation: int
    number: int


class Received(NamedTuple):
    """A delivery with the tag to ack it by.

    Args:
        arrived_s: epoch seconds when it was read from the socket; 0 when the transport does not say.
    """

    tag: Tag
    delivery: Delivery
    arrived_s: float = 0.0


class Outgoing(NamedTuple):
    """One publish: where to, and what.

    Args:
        handle: chosen by the caller, comes back in the outcome; unique among unconfirmed publishes.
        exchange: exchange name; "" is the default exchange.
        routing_key: routing key.
        output: the message.
    """

    handle: int
    exchange: str
    routing_key: str
    output: Output


class Outcome(NamedTuple):
    """What the broker said of a publish: `confirmed`, `nacked`, or `returned` (nowhere to go; reason says why)."""

    handle: int
    how: Literal["confirmed", "nacked", "returned"]
    reason: str = ""


class Way(NamedTuple):
    """Where an exchange leads.

    Args:
        source: the exchange.
        to: the exchange behind it.
        no_exchanges: what is not behind it, or no more.
    """

    source: str
    to: str
    no_exchanges: tuple[str, ...] = ()


class TransportEvents(Protocol):
    """Called by the transport on its loop thread, never re-entrantly."""

    def on_connected(self) -> None:
        """Both connections are up, the topology is declared, nothing is consumed yet."""

    def on_batch(self, batch: Sequence[Received]) -> None:
        """Whatever has arrived in this loop turn, in order per queue. Never empty."""

    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Confirms, nacks and returns of this loop turn; each handle exactly once per connection."""

    def on_lost(self, reason: str) -> None:
        """A connection is gone: every tag and every unconfirmed handle is void. The transport drops both
        connections and reconnects by itself, with full jitter from 0.1 to 10 s; `on_connected` follows."""

    def on_blocked(self, blocked: bool, reason: str) -> None:
        """The broker raised or cleared a memory or disk alarm on the publishing connection."""


class Transport(Protocol):
    """A pipelined, loop-driven link to the broker.

    Guarantees:
    - publishes are persistent and mandatory; each gets exactly one outcome unless the connection is lost first;
    - publishes of one turn reach the broker in order, joined into as few writes as the socket allows;
    - it consumes and publishes on separate connections, so that flow control of one does not stall the other;
    - nothing is acked that the caller did not ack; closing never cancels consumers with unacked deliveries first.
    All methods but `call_threadsafe` and `stop` are for the loop thread.
    """

    def run(self, events: TransportEvents) -> None:
        """Connect and drive the loop in the calling thread until `stop`.

        Raises:
            Unreachable: the first connection cannot be made within the configured time.
        """

    def stop(self) -> None:
        """Close the connections, without cancelling, and return from `run`. Thread-safe."""

    def restart(self, reason: str) -> None:
        """Send what is collected, close both connections without cancelling, tell `on_lost`, and connect anew at once.
        Only between `on_connected` and `on_lost`; a second call changes nothing, and what is published, acked or to be
        consumed until `on_lost` comes is lost, as on any connection that is about to be."""

    def lead(self, way: Way, then: Callable[[], None]) -> None:
        """Bind `way.to`, then unbind the others, each with key "1"; what is so already stays so. `then` is called when
        the broker has done all of it, never after `on_lost`."""

    def consume(self, queues: Sequence[str], prefetch: int) -> None:
        """Start consuming; `prefetch` unacked deliveries at most of each queue.

        What a lost connection had unacked comes first to the next consumer, and in order, if that one has no smaller a
        prefetch: RabbitMQ puts what is given back behind what was given back before and is not taken again yet.
        """

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Publish in order. Only between `on_connected` and `on_lost`."""

    def ack(self, upto: Tag) -> None:
        """Acknowledge this delivery and all before it of the same generation; older generations are ignored."""

    def call_threadsafe(self, call: Callable[[], None]) -> None:
        """Run `call` on the loop thread soon. Thread-safe."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """Run `call` on the loop thread after `seconds`; returns a function that cancels it."""


# --- Store: the log, the inbox and what waits ---------------------------------------------------------------------


class InboxKey(NamedTuple):
    """Identity of an input: `key` is 16 bytes over (source, id, attempt, redrive); `content` 8 bytes over the body."""

    key: bytes
    content: bytes


class Entry(NamedTuple):
    """One input as it is recorded.

    Args:
        seq: its number in the partition's log; dense, from 1, given by the owner.
        inbox: its identity, or None when it has none (undecodable, a duplicate, a wake-up).
        record: the audit record, JSON bytes (see bus.audit.record).
        input: the body as it came; b"" when the record alone tells all.
        outputs: what is to be published because of it, in order.
    """

    seq: int
    inbox: InboxKey | None
    record: bytes
    input: bytes
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """An output that waits: for a retry, or behind an earlier one of its key. The message itself is in the log.

    Args:
        partition, seq, index: the output: `outputs[index]` of entry `seq`.
        key: ordering key, `conversation\\0target`.
        due_s: epoch seconds when it may be tried.
        attempts: how often it was tried.
        reason: why it waits, for people.
    """

    partition: int
    seq: int
    index: int
    key: str
    due_s: float
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True)
class Excepted:
    """An output that did not end as `delivered`: `returned`, `dead_letter`, `expired`, ... with time and reason."""

    partition: int
    seq: int
    index: int
    how: str
    at_s: float
    reason: str


SHARED = -1
"""Stands for the partition of what is remembered for all of them, and fenced by none."""


class State(NamedTuple):
    """What is remembered under a key of a partition, or, without a body, what is forgotten.

    Args:
        key: see bus.core.instance; at most 255 bytes.
        body: JSON, or None.
        due_s: epoch seconds when it wants to go on by itself, or None.
        version: of the configuration that it needs to go on, or None.
    """

    partition: int
    key: str
    body: bytes | None
    due_s: float | None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction: all of it or nothing.

    Args:
        entries: new entries by partition, in seq order, contiguous with what the partition has.
        done: partitions' watermarks: every output of every entry up to here is confirmed, held or excepted.
        hold: held rows to write or replace.
        release: held rows to remove.
        exceptions: outcomes to record.
        states: what to remember and to forget, each key of a partition once.
    """

    entries: Mapping[int, Sequence[Entry]] = field(default_factory=dict)
    done: Mapping[int, int] = field(default_factory=dict)
    hold: Sequence[Held] = ()
    release: Sequence[Held] = ()
    exceptions: Sequence[Excepted] = ()
    states: Sequence[State] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """What the owner of a partition must know before it decides anything.

    Args:
        next_seq: number of the next entry.
        done: the watermark as stored.
        pending: entries above `done`, oldest first: their outputs are replayed with the same ids.
        held: what waits, oldest first.
        settled: (seq, index) of pending outputs that are excepted, and so are not replayed.
    """

    partition: int
    next_seq: int
    done: int
    pending: Sequence[Entry]
    held: Sequence[Held]
    settled: frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker may work on, as the store's leases say.

    Args:
        owned: slots leased to this worker until it releases them or stops renewing.
        surplus: those of `owned` that another worker should have: finish what is committed there, then `release`.
        exclusive: nobody else can lease them while this process lives, so that they do not run out.
    """

    owned: frozenset[int]
    surplus: frozenset[int] = frozenset()
    exclusive: bool = False


class Store(Protocol):
    """The durable side of one bus. Each instance is one worker's handle, with the epochs of what that one claimed.

    Guarantees:
    - `commit` is one atomic, durable transaction (fsynced before it returns), fenced: it fails without effect when
      another owner has claimed since;
    - what a commit wrote is read back byte for byte by `claim` and `entry` after any crash;
    - the log is insert-only;
    - methods may be called from one thread at a time, which need not be the same one.
    """

    @property
    def store_id(self) -> str:
        """Identity of this store, made once: 32 hex digits."""

    @property
    def secret(self) -> bytes:
        """Key that seals return addresses, made once: 32 bytes."""

    def ingress(self) -> Ingress:
        """Read what partitions there are; a wish to grow that was left beside the store is taken in first.

        Raises:
            StoreDown: the store cannot be reached.
        """

    def set_ingress(self, before: Ingress, after: Ingress) -> bool:
        """Replace it, durably, if it still is `before`; returns whether it was.

        Raises:
            StoreDown: the store cannot be reached; the outcome may be unknown.
        """

    def lease(self, worker: str, of: int, ttl_s: float) -> Share:
        """Renew this worker's leases, take free slots of 0..of-1 up to its fair share, and say what it may own.

        The fair share is `of` over the workers that renewed within `ttl_s`, rounded up. A lease that was not renewed
        for `ttl_s`, by the store's own clock, is free. A store that serves one process leases everything to it.

        Raises:
            StoreDown: the store cannot be reached; after `ttl_s` of that somebody else may own them.
        """

    def release(self, worker: str, slots: Collection[int] | None = None) -> None:
        """Give leases back at once; None gives back all and takes the worker off the list."""

    def claim(self, of: int, partitions: Collection[int] | None = None) -> Sequence[Claim]:
        """Take these partitions (epoch + 1), so that older owners can write nothing; None takes all of 0..of-1.

        What this instance had claimed before and is not among them is given up. After a commit that failed as
        `StoreDown` a claim succeeds only when as much as that commit had can be written: who consumes in order to find
        out that the disk is still full raises the delivery count of every message, until they are taken for poison.

        Raises:
            StoreDown: the store cannot be read or written for now.
            StoreFailed: it cannot be read at all, or a partition from `of` on has unfinished work.
        """

    def commit(self, batch: Commit) -> None:
        """Write it all or nothing.

        Raises:
            Fenced: a partition of the batch has another owner.
            StoreDown: nothing of the batch may be published; the outcome may be unknown: claim again and read.
            StoreFailed: nothing of the batch may be published, and this instance is of no more use.
        """

    def keys(self, newest: int, partitions: Collection[int] | None = None) -> Iterable[tuple[int, int, bytes]]:
        """Yield (partition, bucket, key) of the newest inbox keys, at most `newest` a partition, oldest first; None
        reads what is claimed."""

    def seen(self, partition: int, bucket: int, key: bytes) -> tuple[int, bytes] | None:
        """Return (seq, content) of an inbox key, or None."""

    def entry(self, partition: int, seq: int) -> Entry:
        """Read one entry back.

        Raises:
            KeyError: there is none.
        """

    def states(self, partition: int) -> Sequence[tuple[str, float | None]]:
        """Return (key, due) of all that a partition remembers, in no order.

        Raises:
            StoreDown: the store cannot be reached.
        """

    def recall(self, partition: int, key: str) -> bytes | None:
        """Return what a partition remembers under a key, or None.

        Raises:
            StoreDown: the store cannot be reached.
        """

    def keep_configuration(self, version: str, bundle: bytes) -> None:
        """Keep what makes a configuration, durably, as the one kept last; raises StoreDown."""

    def configuration(self, version: str) -> bytes | None:
        """Return what was kept of a configuration, or None; raises StoreDown."""

    def versions(self) -> Collection[str]:
        """Return the configurations that something remembered needs, in whatever partition; raises StoreDown."""

    def drop_configurations(self, newest: int) -> int:
        """Forget configurations that nothing remembered needs, but for those kept last; returns how many."""

    def prune(self, keep: int) -> int:
        """Forget inbox keys but the newest `keep` per partition; returns how many were dropped."""

    def close(self) -> None:
        """Flush and let go."""


# --- Blobs: where large values wait for their claim check -----------------------------------------------------------


class Blobs(Protocol):
    """Keeps bodies by the hash of their bytes: names as in bus.core.blobs.

    Guarantees:
    - what `put` has written is there when it returns, also after a crash, and `put` of the same name changes nothing;
    - `get` gives the bytes of that name or none: what was damaged counts as gone;
    - methods may be called from one thread at a time, and take a few seconds at most.
    Nothing is deleted. Who takes old ones away, by the time they were last put, has claim checks fail as `unavailable`.
    """

    def put(self, name: str, body: bytes) -> None:
        """Keep a blob.

        Raises:
            BlobsDown: it is not certain to be kept.
        """

    def get(self, name: str) -> bytes | None:
        """Read a blob; None when there is none.

        Raises:
            BlobsDown: it cannot be said.
        """

    def close(self) -> None:
        """Let go."""


# --- Meter --------------------------------------------------------------------------------------------------------


class Meter(Protocol):
    """What the worker tells of itself. Labels come from configuration only; calls are per batch, not per message."""

    def decided(self, decisions: Sequence[Decision], seconds: float) -> None:
        """A batch was decided in `seconds`."""

    def committed(self, entries: int, seconds: float) -> None:
        """A commit of so many inputs took `seconds`, from hand-over to durable."""

    def confirmed(self, outputs: int, oldest_seconds: float) -> None:
        """So many outputs were confirmed; the slowest took `oldest_seconds` from its commit."""

    def finished(self, decision: Decision, seconds: float) -> None:
        """An input is finished, `seconds` after it came."""

    def retried(self, target: str) -> None:
        """A held output is tried again."""

    def excepted(self, how: str, code: str, outputs: int) -> None:
        """So many outputs ended otherwise than delivered: `returned`, ..."""

    def in_flight(self, inputs: int, outputs: int) -> None:
        """What is unfinished now: inputs, and outputs not yet confirmed."""

    def connected(self, up: bool) -> None:
        """The broker is reached, or lost."""

    def store_up(self, up: bool) -> None:
        """The store takes commits, or is down."""

    def owns(self, partitions: int) -> None:
        """So many partitions of the generation that is served are this worker's; 0 is a standby."""

    def blocked(self, blocked: bool) -> None:
        """The broker raised or cleared an alarm that stops publishing."""

    def configured(self, catalog: Catalog) -> None:
        """Another configuration is in force; labels come from it."""
