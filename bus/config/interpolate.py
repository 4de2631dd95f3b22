"""Secrets in agents and integration documents: `${VAR}`, `${VAR:-x}` and `${file:/path}`.

They are filled in after parsing, so a secret can never change the shape of a file, and only into values that are handed
to adapters or become `config`. Findings and the version are made from the text as written: no secret reaches either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_MAX_SECRET = 64 * 1024  # bytes; a key or a certificate chain, not a data set


@dataclass(frozen=True, slots=True)
class Unfilled:
    """A reference without a value: its offset in the text, and what to say about it."""

    offset: int
    what: str
    instead: str


def references(text: str) -> tuple[tuple[int, str], ...]:
    """Offset and text of every `${...}`."""
    return tuple((match.start(), match.group()) for match in _REFERENCE.finditer(text))


def variables(text: str) -> set[str]:
    """Names of the variables that a text refers to."""
    found = (_VARIABLE.fullmatch(match.group(1)) for match in _REFERENCE.finditer(text))
    return {match.group(1) for match in found if match is not None}


def fill(text: str, environment: Mapping[str, str]) -> tuple[str, tuple[Unfilled, ...]]:
    """Replace every reference by its value.

    Args:
        text: as written.
        environment: the variables.

    Returns:
        The text with values, and the references that have none (they stay as written).
    """
    unfilled: list[Unfilled] = []

    def value(match: re.Match[str]) -> str:
        found = _value(match.group(1), environment)
        if isinstance(found, str):
            return found
        unfilled.append(Unfilled(match.start(), *found))
        return match.group()

    return _REFERENCE.sub(value, text), tuple(unfilled)


def _value(inner: str, environment: Mapping[str, str]) -> str | tuple[str, str]:
    if inner.startswith("file:"):
        return _from_file(inner.removeprefix("file:"))
    match = _VARIABLE.fullmatch(inner)
    if match is None:
        return f"`${{{inner}}}` is no reference", "`${NAME}`, `${NAME:-default}` or `${file:/path}`"
    name, default = match.groups()
    given = environment.get(name, "")
    if given or default is not None:
        return given or str(default)  # as in a shell, `:-` also replaces an empty value
    if name in environment:
        return given
    return f"the variable {name} is not set", f"`${{{name}:-default}}`, or set it"


def _from_file(name: str) -> str | tuple[str, str]:
    path = Path(name)
    if not path.is_absolute():
        return f"`{name}` is no absolute path", "`${file:/run/secrets/NAME}`"
    try:
        if not path.is_file() or path.stat().st_size > _MAX_SECRET:
            return f"there is no file {name} of at most {_MAX_SECRET} bytes", "the path of a readable file"
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError):
        return f"the file {name} cannot be read as text", "the path of a readable file"
