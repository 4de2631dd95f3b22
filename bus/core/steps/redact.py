"""Content Filter for what is confidential: fields become a mask or a keyed hash, or go."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import orjson

from bus.core.expression import Path
from bus.core.message import Json
from bus.core.spec import Choice, MapOf, Spec
from bus.core.work import Ended, Step, Work

MASK = "***"
_HASH_BYTES = 16


def build(parsed: dict[Path, str]) -> Step:
    for path in parsed:
        if len(path) < 2:
            raise ValueError(f"`{path[0]}` is everything", f"a field in it, such as `{path[0]}.email`")

    def step(work: Work) -> Ended | None:
        for path, how in parsed.items():
            change = None if how == "drop" else _hash(work.secret) if how == "hash" else _mask
            work.names[path[0]] = _redacted(work.names[path[0]], path[1:], change)
        work.notes.append("redact " + ", ".join(".".join(path) for path in parsed))
        return None

    return step


def _mask(value: Json) -> Json:
    return MASK


def _hash(secret: bytes) -> Callable[[Json], Json]:
    # `person` keeps it apart from the seals of return addresses, which the same key makes: what an agent lets the bus
    # hash must never be good as a seal.
    keyed = blake2b(key=secret, digest_size=_HASH_BYTES, person=b"redact")

    def change(value: Json) -> Json:
        digest = keyed.copy()
        digest.update(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
        return digest.hexdigest()

    return change


def _redacted(value: Json, path: Path, change: Callable[[Json], Json] | None) -> Json:
    """A copy with what is at `path` changed, or dropped without `change`; a list on the way means each of its items."""
    if isinstance(value, list):
        return [_redacted(item, path, change) for item in value]
    if not isinstance(value, dict) or path[0] not in value:
        return value
    if len(path) == 1 and change is None:
        return {key: item for key, item in value.items() if key != path[0]}
    inner = value[path[0]]
    return {**value, path[0]: _changed(inner, change) if len(path) == 1 else _redacted(inner, path[1:], change)}


def _changed(value: Json, change: Callable[[Json], Json] | None) -> Json:
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    return value if value is None or change is None else change(value)


SPEC = Spec(
    kind="redact",
    pattern="Content Filter",
    summary=f"Makes fields of `data` or `vars` unreadable: `mask` writes `{MASK}`, `drop` removes the field, `hash` "
    "writes 32 hex digits that are the same for the same value in this namespace and cannot be guessed elsewhere, as "
    "they are keyed by a secret of its store. A list means each of its items; what is absent or null stays so. "
    "`request` still has the message as it came.",
    shape=MapOf(Choice(("mask", "hash", "drop")), keys="path"),
    build=build,
    example="redact: {data.name: mask, data.id: hash, data.internal_notes: drop}",
)
