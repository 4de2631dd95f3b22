"""Did you mean: the nearest known name to one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_NEAR = 0.6  # share of equal characters below which a suggestion confuses more than it helps
_SHOWN = 8  # names listed when none is near


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `word`, or None when none is near."""
    names = sorted(known)
    folded = {name.casefold().replace("-", "_"): name for name in reversed(names)}
    near = get_close_matches(word.casefold().replace("-", "_"), folded, n=1, cutoff=_NEAR)
    return folded[near[0]] if near else None


def instead_of(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Say what to write for an unknown `word`: the nearest name, else `otherwise`, else the names there are."""
    names = sorted(known)
    near = nearest(word, names)
    if near is not None:
        return f"`{near}`"
    if otherwise or not names:
        return otherwise
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    more = ", ..." if len(names) > _SHOWN else ""
    return f"one of {shown}{more}" if len(names) > 1 else shown
