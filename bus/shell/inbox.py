"""Idempotent Receiver: which inputs the log already holds.

The filter knows in which bucket of the store every remembered identity may lie; only a hit costs a look-up there, which
compares all 16 bytes. It is rebuilt from the store at every claim, before anything is consumed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, Protocol

from bus.core.actions import Delivery
from bus.core.message import Attribute, Message, task_of
from bus.core.replies import answer_identity, identity_of
from bus.ports import InboxKey, Store
from bus.shell.engine import ENGINE
from bus.shell.identity_filter import IdentityFilter
from bus.shell.store_rules import bucket_of, first_of

CONTENT_BYTES = 8  # the first of the body's hash: enough to tell a repeat from an id that was used twice


def inbox_key(message: Message, answers: bool, content: bytes) -> InboxKey:
    """Identity of an input, with the hash of its body."""
    key = blake2b(identity_of(message, answers).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return tuple.__new__(InboxKey, (key, content[:CONTENT_BYTES]))


def answer_key(task: str, fence: Attribute, content: bytes = b"") -> InboxKey:
    """Identity of the one answer to a try of a task."""
    identity = answer_identity(task, fence).encode("utf-8", "surrogatepass")
    return InboxKey(blake2b(identity, digest_size=16).digest(), content[:CONTENT_BYTES])


def raw_key(delivery: Delivery, content: bytes) -> InboxKey:
    """Identity of what could not be decoded, or came back from the broker: which of the two, message id and bytes."""
    kind = "bounced" if delivery.queue.endswith(".bounced") else "ingress"
    said = f"\0raw\0{kind}\0{delivery.message_id}\0{delivery.user_id}\0".encode()
    content = content[:CONTENT_BYTES]
    return InboxKey(blake2b(said + content, digest_size=16).digest(), content)


class Filter(Protocol):
    """The shape of `IdentityFilter`, and of the engine's."""

    def __len__(self) -> int: ...
    def buckets(self, key: bytes) -> Sequence[int]: ...
    def add(self, bucket: int, keys: Sequence[bytes]) -> None: ...


def new_filter(window: int) -> Filter:
    """The engine's, where it is installed."""
    if ENGINE is None:
        return IdentityFilter(window)
    made: Filter = ENGINE.Filter(window)
    return made


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
        window: identities to remember of each partition.
    """

    def __init__(self, store: Store, window: int) -> None:
        self._store = store
        self._window = window
        self._known: dict[int, Filter] = {}

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def remember(self, keys: Iterable[tuple[int, int, bytes]]) -> None:
        """Take in (partition, bucket, key), in order of partitions and buckets."""
        for (partition, bucket), rows in groupby(keys, itemgetter(0, 1)):
            known = self._known.setdefault(partition, new_filter(self._window))
            known.add(bucket, [key for _, _, key in rows])

    def earlier(self, key: InboxKey) -> Earlier | None:
        """Find an input with this identity."""
        for partition, known in self._known.items():
            for bucket in known.buckets(key.key):
                found = self._store.seen(partition, bucket, key.key)
                if found is not None:
                    return Earlier(found[0], found[1] == key.content, elder=True)
        return None


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
        self.partition = partition
        self._store = store
        self._known = new_filter(window)
        self._fresh: dict[bytes, tuple[int, bytes]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def remember(self, bucket: int, keys: Sequence[bytes]) -> None:
        """Take in keys that the store already holds; buckets come in order."""
        self._known.add(bucket, keys)

    def earlier(self, key: InboxKey) -> Earlier | None:
        """Find an earlier input with this identity, in the store or among those not yet committed."""
        fresh = self._fresh.get(key.key)
        if fresh is not None:
            return Earlier(fresh[0], fresh[1] == key.content)
        for bucket in self._known.buckets(key.key):
            found = self._store.seen(self.partition, bucket, key.key)
            if found is not None:
                return Earlier(found[0], found[1] == key.content)
        return None if self._elders is None else self._elders.earlier(key)

    def answer_to(self, message: Message) -> Earlier | None:
        """Find the answer to the try of the task that a message names, whatever it says."""
        return self.earlier(answer_key(*task_of(message)))

    def add(self, key: InboxKey, seq: int) -> None:
        """Take in an input that the next commit will record."""
        self._fresh[key.key] = (seq, key.content)

    def committed(self, keys: Sequence[tuple[bytes, int]]) -> None:
        """Move keys, in order of their numbers, from fresh to remembered once their commit is durable."""
        if len(keys) == len(self._fresh):  # all of them, as ever: there is one commit at a time
            self._fresh.clear()
        for key, _ in keys if self._fresh else ():
            self._fresh.pop(key, None)
        at = 0
        while at < len(keys):
            bucket = bucket_of(keys[at][1])
            after = bisect_left(keys, first_of(bucket + 1), lo=at, key=itemgetter(1))
            self._known.add(bucket, [key for key, _ in keys[at:after]])
            at = after
