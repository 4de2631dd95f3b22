"""Shares of messages by a stable hash: the same key always has the same place, in every bus and after every restart."""

from __future__ import annotations

from hashlib import blake2b
from math import log

import orjson

from bus.core.expression import Expression
from bus.core.work import Work

_BITS = 53  # all that a float holds exactly


def key_of(by: Expression | None, work: Work) -> bytes:
    """The key of a message: the value of `by`, or the message's id.

    Raises:
        ExpressionFailed: `by` has no value.
    """
    return orjson.dumps(work.message.id if by is None else by(work.names), option=orjson.OPT_SORT_KEYS)


def place(key: bytes, salt: str = "") -> float:
    """The place of a key, evenly spread over 0 < place <= 1; another salt gives an unrelated place."""
    digest = blake2b(key, digest_size=8, key=blake2b(salt.encode(), digest_size=16).digest()).digest()
    return ((int.from_bytes(digest, "big") >> (64 - _BITS)) + 1) / (1 << _BITS)


def chosen(key: bytes, weights: dict[str, int]) -> str:
    """The name that a key falls to, each name by its weight (weighted rendezvous hashing).

    Changing one weight moves keys only to or from its name, never between two others.

    Args:
        weights: by name; at least one is above 0.
    """
    # -log(place) / weight is exponentially distributed; the least of several falls to each in proportion to its rate.
    return min((name for name in weights if weights[name]), key=lambda name: -log(place(key, name)) / weights[name])
