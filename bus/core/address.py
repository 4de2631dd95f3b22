"""Return addresses that an agent can carry but not make.

A sender asks with `replyto: agent:NAME` (its own inbox) or `client:ID`. The bus keeps no table of open requests; it
sends the address along with each request, sealed: who asked, under which message id, and a keyed hash that binds both
to the one request id and conversation that it was sent with. The agent echoes it in its reply. What does not open was
not made by this bus for this request, and is refused. Rules R2 (the last agent answers the asker) and R5 (one final
answer) rest on it.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from bus.core.message import Attribute

_MAC_BYTES = 12  # 96 bits: forging needs more tries than any broker could carry


class ReturnAddress(NamedTuple):
    """Args:
    address: `agent:NAME` or `client:ID`.
    asked: id of the asker's own message, which the answer's correlationid will name.
    """

    address: str
    asked: str


@lru_cache(maxsize=16)  # a bus has one key
def _keyed(key: bytes) -> blake2b:
    return blake2b(key=key, digest_size=_MAC_BYTES)


def _mac(key: bytes, address: str, asked: str, request: str, conversation: str) -> str:
    mac = _keyed(key).copy()  # has the key hashed in already
    mac.update(f"{address}\0{asked}\0{request}\0{conversation}".encode("utf-8", "surrogatepass"))
    return mac.hexdigest()


def seal(key: bytes, back: ReturnAddress, request: str, conversation: str) -> str:
    """Write the return address for the request with id `request` in a conversation.

    The conversation is bound because the partition follows from it: an answer under another one would be looked for in
    another inbox, and be a second answer there.
    """
    return f"{back.address}!{back.asked}!{_mac(key, back.address, back.asked, request, conversation)}"


def unseal(key: bytes, text: Attribute | None, request: str, conversation: str) -> ReturnAddress | None:
    """Read a return address that this bus sealed for `request` in this conversation; None when it did not."""
    if not isinstance(text, str):
        return None
    address, first, rest = text.partition("!")
    asked, last, mac = rest.rpartition("!")
    if not first or not last or mac != _mac(key, address, asked, request, conversation):
        return None
    return ReturnAddress(address, asked)
