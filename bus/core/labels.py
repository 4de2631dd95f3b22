"""Labels: provenance and trust, as names on a message that stay with all that is made of it.

They travel as one attribute: names sorted and separated by commas. An agent cannot shed them: a request's labels are
part of its sealed return address, which comes back with the answer (`bus.core.address`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_LABELS = 32
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def names_of(text: str) -> tuple[str, ...]:
    """The labels of the attribute's text."""
    return tuple(text.split(",")) if text else ()


def text_of(labels: Iterable[str]) -> str:
    """The attribute's text of labels, each once.

    Raises:
        ValueError: a name is none, or there are more than 32.
    """
    found = sorted(set(labels))
    for label in found:
        if not _NAME.fullmatch(label):
            raise ValueError(f"`{label[:64]}` is no label; small letters, digits, `_` and `-`, a letter first")
    if len(found) > MOST_LABELS:
        raise ValueError(f"{len(found)} labels; a message has at most {MOST_LABELS}")
    return ",".join(found)
