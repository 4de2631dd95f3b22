"""Return addresses that an agent can carry but not make.

A sender asks with `replyto: agent:NAME` (its own inbox) or `client:ID`. The bus keeps no table of open requests; it
sends the address along with each request, sealed: who asked, under which message id, until when, and a keyed hash that
binds all of it to the one request that it was sent with. The agent echoes it in its reply. What does not open was not
made by this bus for this request, and is refused. Rules R2 (the last agent answers the asker) and R5 (one final answer)
rest on it.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from bus.core.message import CORRELATION, REPLYTO, Attribute, Message

_MAC_BYTES = 12  # 96 bits: forging needs more tries than any broker could carry


class ReturnAddress(NamedTuple):
    """Args:
    address: `agent:NAME` or `client:ID`.
    asked: id of the asker's own message, which the answer's correlationid will name.
    until_ms: epoch milliseconds after which the asker wants no answer any more, or None.
    """

    address: str
    asked: str
    until_ms: int | None = None


@lru_cache(maxsize=16)  # a bus has one key
def _keyed(key: bytes) -> blake2b:
    return blake2b(key=key, digest_size=_MAC_BYTES)


def _mac(key: bytes, address: str, request: str, type_: str, conversation: str, fence: Attribute) -> str:
    mac = _keyed(key).copy()  # has the key hashed in already
    said = f"{address}\0{request}\0{type_}\0{conversation}"
    if fence:
        said = f"{said}\0{fence!s}"
    mac.update(said.encode("utf-8", "surrogatepass"))
    return mac.hexdigest()


def seal(
    key: bytes, back: ReturnAddress, request: str, type_: str, conversation: str, fence: int = 0, labels: str = ""
) -> str:
    """Write the return address for the request with this id, type and fence in a conversation.

    The type is bound, or the answer to a request for one capability could be given as another's. The conversation is
    bound because the partition follows from it: an answer under another one would be looked for in another inbox, and
    be a second answer there. The fence is bound because the identity of the answer follows from it, too. The deadline
    is in it because an agent need not bring back the request's own, and neither its labels.
    """
    address = f"{back.address}!{back.asked}!{'' if back.until_ms is None else back.until_ms}"
    if labels:
        address = f"{address};{labels}"
    return f"{address}!{_mac(key, address, request, type_, conversation, fence)}"


def brought_back(message: Message) -> bool:
    """Whether an agent's message brings back a sealed address, not its own to be answered at: it belongs to a task."""
    text = message.attributes.get(REPLYTO)
    return isinstance(text, str) and "!" in text and CORRELATION in message.attributes


def labels_within(text: Attribute | None) -> str:
    """The labels in a sealed address, whether or not the seal is good; "" when there are none."""
    if not isinstance(text, str) or ";" not in text:
        return ""
    return text.rpartition("!")[0].rpartition("!")[2].partition(";")[2]


def unseal(
    key: bytes, text: Attribute | None, request: str, type_: str, conversation: str, fence: Attribute = 0
) -> ReturnAddress | None:
    """Read a return address that this bus sealed for just this request; None when it did not."""
    if not isinstance(text, str):
        return None
    address, _, mac = text.rpartition("!")
    if mac != _mac(key, address, request, type_, conversation, fence):
        return None
    whom, _, rest = address.partition("!")
    asked, _, until = rest.rpartition("!")
    until = until.partition(";")[0]
    return ReturnAddress(whom, asked, int(until) if until else None)
