"""Claim checks: a large value waits in the blob store, and a small reference to it travels.

A blob is named by the hash of its bytes, so writing it again changes nothing, and what is read can be checked. `decide`
stays pure: a step that stores adds a change (bus.core.actions.Change) whose key names the blob, and the shell writes
it before it commits; a step that fetches reads it by `facts.recall`, like anything else that the bus remembers.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

from bus.core.message import Json

BLOB = "blob:"
"""What a key begins with under which a blob is remembered."""

MOST_BLOB_BYTES = 16 * 1024 * 1024
"""Largest blob; it has to pass through memory, and to fit into a message once it is fetched."""

_NAME = re.compile(r"sha256:[0-9a-f]{64}")
_REFERENCE, _SIZE = "$blob", "size"


def name_of(body: bytes) -> str:
    """Name of a blob: `sha256:` and 64 hex digits."""
    return f"sha256:{sha256(body).hexdigest()}"


def is_name(text: str) -> bool:
    """Whether this could be the name of a blob."""
    return _NAME.fullmatch(text) is not None


def reference(body: bytes) -> dict[str, Json]:
    """What stands in the place of the value: `{"$blob": "sha256:...", "size": bytes}`."""
    return {_REFERENCE: name_of(body), _SIZE: len(body)}


def referred(value: Json) -> str | None:
    """The name of the blob that a value refers to; None when it is no reference."""
    if not isinstance(value, dict) or value.keys() != {_REFERENCE, _SIZE}:
        return None
    name: Any = value[_REFERENCE]
    return name if isinstance(name, str) and is_name(name) else None
