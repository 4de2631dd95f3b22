"""Where a character of a scalar's value stands in the file.

YAML folds lines, drops indentation and reads escapes, so the n-th character of a value is not the n-th character after
the scalar's start. `align` walks value and source side by side: whatever is not white space or an escape stands in both
in the same order. White space only has to end at the right place, since no token of an expression starts with it.
"""

from __future__ import annotations

from typing import Literal

Style = Literal["plain", "single", "double", "literal", "folded"]

_SPACE = " \t\r\n"
_HEX = {"x": 2, "u": 4, "U": 8}
_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b",
    " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip


def align(source: str, start: int, end: int, style: Style, value: str) -> list[int] | None:
    """Map each character of `value`, and the end after it, to an index in `source`.

    Args:
        source: text of the whole file.
        start, end: the scalar's marks: from its quote or block header to past its last character.
        style: how it is written.
        value: its value as YAML reads it.

    Returns:
        len(value) + 1 indices, or None when the two do not fit.
    """
    at = _content_start(source, start, end, style)
    places: list[int] = []
    for char in value:
        if char in _SPACE:
            places.append(-1)  # known when the next other character is
            continue
        found = _next(source, at, end, style, char)
        if found is None:
            return None
        _fill_spaces(places, found[0], at)
        places.append(found[0])
        at = found[1]
    _fill_spaces(places, min(at + _trailing(places), end), at)
    places.append(min(places[-1] + 1 if places else at, end))
    return places


def _content_start(source: str, start: int, end: int, style: Style) -> int:
    if style == "plain":
        return start
    if style in ("single", "double"):
        return start + 1
    newline = source.find("\n", start, end)
    return end if newline < 0 else newline + 1


def _next(source: str, at: int, end: int, style: Style, char: str) -> tuple[int, int] | None:
    """Find where `char` is written, past white space: its index and the index after it."""
    while at < end:
        here = source[at]
        if style == "double" and here == "\\":
            read, after = _escape(source, at)
            if read == char:
                return at, after
            if read != "" and read not in _SPACE:
                return None
            at = after
        elif style == "single" and here == char == "'":
            return at, at + 2
        elif here == char:
            return at, at + 1
        elif here in _SPACE:
            at += 1
        else:
            return None
    return None


def _escape(source: str, at: int) -> tuple[str, int]:
    """Read the escape at `at`: what it stands for ("" for a line continuation) and the index after it."""
    kind = source[at + 1 : at + 2]
    if kind in _HEX:
        after = at + 2 + _HEX[kind]
        try:
            return chr(int(source[at + 2 : after], 16)), after
        except ValueError:
            return "", after
    return _ESCAPES.get(kind, ""), at + 2


def _trailing(places: list[int]) -> int:
    count = 0
    while count < len(places) and places[-1 - count] < 0:
        count += 1
    return count


def _fill_spaces(places: list[int], before: int, floor: int) -> None:
    """Give the white space just seen the places right before `before`, but none below `floor`."""
    count = _trailing(places)
    for back in range(1, count + 1):
        places[len(places) - back] = max(floor, before - back)
