"""Claim Check: a large value is left behind under its hash, and taken up again where it is needed."""

from __future__ import annotations

from functools import partial
from typing import Any

from bus.core import strict_json
from bus.core.actions import Change
from bus.core.blobs import BLOB, MOST_BLOB_BYTES, reference, referred
from bus.core.errors import Refused, StepFailed
from bus.core.expression import Path
from bus.core.facts import Limits
from bus.core.paths import find, put
from bus.core.spec import Field, PathTo, Record, Size, Spec
from bus.core.work import Ended, Step, Work

OVER_BYTES = 16 * 1024
"""What is stored unless the step says: a reference costs a few hundred bytes and two trips to the blob store."""

_WRITTEN = Limits(body_bytes=MOST_BLOB_BYTES)


def build(parsed: dict[str, Any]) -> Step:
    store: Path | None = parsed.get("store")
    fetch: Path | None = parsed.get("fetch")
    if (store is None) == (fetch is None):
        raise ValueError("a claim check stores a value or fetches one", "`claim_check: {store: data.document}`")
    if fetch is not None:
        if "over" in parsed:
            raise ValueError("`over` is for `store`", "`fetch` without it: what is no reference stays as it is")
        return partial(_fetch, fetch)
    assert store is not None
    return partial(_store, store, parsed.get("over", OVER_BYTES))


def _store(path: Path, over: int, work: Work) -> Ended | None:
    noted = f"{work.at}#blob"
    if work.memory is not None and (before := work.memory.known(noted)) is not None:
        put(work.names, path, before)  # stored in an earlier turn, whether or not it could be stored now
        return None
    found, value = find(work.names, path)
    body = strict_json.dump(value) if found else b""
    if len(body) <= over:
        work.notes.append(f"{'.'.join(path)} stays: {len(body)} bytes")
        return None
    if len(body) > MOST_BLOB_BYTES:
        raise StepFailed("internal", f"{'.'.join(path)} has {len(body)} bytes, and {MOST_BLOB_BYTES} are the most")
    if not work.stores_blobs:
        raise StepFailed("unavailable", "the blob store cannot be written now")
    made = reference(body)
    work.changes.append(Change(f"{BLOB}{made['$blob']}", body))
    put(work.names, path, made)
    if work.memory is not None:
        work.memory.keep(noted, made)
    work.notes.append(f"{'.'.join(path)} stored: {len(body)} bytes")
    return None


def _fetch(path: Path, work: Work) -> Ended | None:
    _, value = find(work.names, path)
    name = referred(value)
    if name is None:
        work.notes.append(f"{'.'.join(path)} is no reference")
        return None
    put(work.names, path, _read(name, work))
    work.notes.append(f"{'.'.join(path)} fetched")
    return None


def _read(name: str, work: Work) -> Any:
    key = BLOB + name
    body = next((each.body for each in work.changes if each.key == key), None) or work.recall(key)
    if body is None:
        raise StepFailed("unavailable", f"the blob {name[:19]}... is gone, or cannot be read now")
    try:
        return strict_json.parse(body, _WRITTEN)
    except Refused as refused:
        raise StepFailed("unavailable", f"the blob {name[:19]}... holds no value of this bus") from refused


SPEC = Spec(
    kind="claim_check",
    pattern="Claim Check",
    summary=(
        "Puts the value at a path into the blob store, with `{$blob, size}` in its place, or takes it up again. "
        "Whoever has the reference may fetch it; what is gone is a failure `unavailable`."
    ),
    shape=Record(
        {
            "store": Field(PathTo(), "What is stored, if it is large.", required=False),
            "fetch": Field(PathTo(), "What is fetched, if a reference stands there.", required=False),
            "over": Field(Size(), "From which size on it is stored; `16KiB` unless written.", required=False),
        }
    ),
    build=build,
    example="claim_check: {store: data.text, over: 64KiB}",
    writes=lambda parsed: tuple(parsed[each] for each in ("store", "fetch") if each in parsed),
)
