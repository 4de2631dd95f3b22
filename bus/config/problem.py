"""A problem found in one text: an expression, a leaf, a schema or a template. The loader gives it a file and line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NoReturn

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a text, where in it, and what to write instead.

    Args:
        offset: characters from the start of the text to the offending token.
        code: stable code, e.g. `unknown-field`.
        what: what is wrong, one clause without a full stop.
        instead: what to write, without the word "write"; "" when there is nothing to say.
        severity: an error refuses the configuration, a warning does not.
        pointer: JSON pointer to the part of a value tree that is meant (`mismatches` only).
        file: the file whose text is meant, when it is not the one that was asked for (a schema behind `$ref`).
    """

    offset: int
    code: str
    what: str
    instead: str = ""
    severity: Severity = "error"
    pointer: str = ""
    file: Path | None = None


class Found(Exception):
    """Carries the problems that end a compilation up to the function that returns them."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(problems[0].what)
        self.problems = problems


def stop(offset: int, code: str, what: str, instead: str = "", file: Path | None = None) -> NoReturn:
    """End a compilation with one error.

    Raises:
        Found: always.
    """
    raise Found(Problem(offset, code, what, instead, file=file))


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` most likely is a misspelling of, or None."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else None
