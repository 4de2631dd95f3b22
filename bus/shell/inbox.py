"""Idempotent Receiver: which inputs the log already holds.

The filter knows every remembered identity by its first 8 bytes and the bucket it lies in; only a hit costs a look-up
in the store, which then compares all 16. It is rebuilt from the store at start, before anything is consumed.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from bus.core.actions import Delivery
from bus.core.message import Message
from bus.core.replies import identity_of
from bus.ports import InboxKey, Store
from bus.shell.store_rules import bucket_of

CONTENT_BYTES = 8  # the first of the body's hash: enough to tell a repeat from an id that was used twice


def inbox_key(message: Message, answers: bool, content: bytes) -> InboxKey:
    """Identity of an input, with the hash of its body."""
    key = blake2b(identity_of(message, answers).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return InboxKey(key, content[:CONTENT_BYTES])


def raw_key(delivery: Delivery, content: bytes) -> InboxKey:
    """Identity of what could not be decoded, or came back from the broker: which of the two, message id and bytes."""
    kind = "bounced" if delivery.queue.endswith(".bounced") else "ingress"
    said = f"\0raw\0{kind}\0{delivery.message_id}\0{delivery.user_id}\0".encode()
    content = content[:CONTENT_BYTES]
    return InboxKey(blake2b(said + content, digest_size=16).digest(), content)


class Earlier(NamedTuple):
    """An input that was recorded before under the same identity."""

    seq: int
    same: bool
    elder: bool = False  # in a partition of an earlier generation


class Elders:
    """What partitions of earlier generations hold: a message that its sender repeats after the namespace has grown
    comes to another partition than before. Shared by the inboxes that are too young to have a window of their own.

    Args:
        store: where exact keys lie.
        keys: (partition, bucket, key).
    """

    def __init__(self, store: Store, keys: Iterable[tuple[int, int, bytes]]) -> None:
        self._store = store
        self._places = {key[:8]: (partition, bucket) for partition, bucket, key in keys}

    def earlier(self, key: InboxKey) -> Earlier | None:
        """Find an input with this identity."""
        place = self._places.get(key.key[:8])
        found = None if place is None else self._store.seen(*place, key.key)
        return None if found is None else Earlier(found[0], found[1] == key.content, elder=True)


class Inbox:
    """The duplicates filter of one partition.

    Args:
        partition: which.
        store: where exact keys lie.
        window: identities to remember; the oldest are forgotten beyond it, by the store and here alike.
        elders: what earlier generations remember.
    """

    def __init__(self, partition: int, store: Store, window: int, elders: Elders | None = None) -> None:
        self._elders = elders
        self._partition = partition
        self._store = store
        self._window = window
        self._buckets: dict[bytes, int] = {}
        self._fresh: dict[bytes, tuple[int, bytes]] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def remember(self, bucket: int, key: bytes) -> None:
        """Take in a key that the store already holds."""
        self._buckets[key[:8]] = bucket

    def earlier(self, key: InboxKey) -> Earlier | None:
        """Find an earlier input with this identity, in the store or among those not yet committed."""
        fresh = self._fresh.get(key.key)
        if fresh is not None:
            return Earlier(fresh[0], fresh[1] == key.content)
        bucket = self._buckets.get(key.key[:8])
        found = None if bucket is None else self._store.seen(self._partition, bucket, key.key)
        if found is not None:
            return Earlier(found[0], found[1] == key.content)
        return None if self._elders is None else self._elders.earlier(key)

    def add(self, key: InboxKey, seq: int) -> None:
        """Take in an input that the next commit will record."""
        self._fresh[key.key] = (seq, key.content)

    def committed(self, keys: list[tuple[bytes, int]]) -> None:
        """Move keys from fresh to remembered once their commit is durable."""
        for key, seq in keys:
            self._fresh.pop(key, None)
            self._buckets[key[:8]] = bucket_of(seq)
        excess = len(self._buckets) - 2 * self._window
        if excess > 0:
            # Insertion order is age. Forgetting at twice the window keeps this rare, and the store keeps the window.
            for old in list(self._buckets)[: excess + self._window]:
                del self._buckets[old]
