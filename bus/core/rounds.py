"""Rounds: what a step does over and over. Those that are done are folded into what they have left.

So a flow that comes by here again does not run them again, and the memory of its run does not grow with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from bus.core.message import Json
from bus.core.work import Work


@contextmanager
def rounds(work: Work) -> Iterator[str]:
    """Around all rounds of a step: gives its path, and leaves place and `index` as they were."""
    at, prefix = work.at, work.prefix
    index = {"index": work.names["index"]} if "index" in work.names else {}
    try:
        yield at
    finally:
        work.at, work.prefix = at, prefix
        work.names.pop("index", None)
        work.names.update(index)


def resume(work: Work, at: str) -> int:
    """Give the work what the rounds of a step that are done have left.

    Args:
        at: path of the step.

    Returns:
        How many they are.
    """
    left = cast("dict[str, Any] | None", work.remembering.known(f"{at}#rounds"))
    if left is None:
        return 0
    work.names.update({"data": left["data"], "vars": left["vars"]})
    work.gain(left["labels"])
    work.items_left = left["items"]
    return int(left["done"])


def fold(work: Work, at: str, done: int) -> None:
    """A round is over: remember what it has left, and forget the way to it.

    Args:
        at: path of the step; the round's own is `at[done - 1]`.
        done: how many rounds are over.
    """
    memory = work.remembering
    memory.close(f"{at}[{done - 1}]")
    left: dict[str, Json] = {"done": done, "data": work.names["data"], "vars": work.names.get("vars")}
    memory.keep(f"{at}#rounds", {**left, "labels": work.label_text, "items": work.items_left})
