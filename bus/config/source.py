"""A configuration file's text, and positions in it as people and editors count them."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field

from bus.config.finding import ConfigFinding, Severity

_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One file.

    Args:
        path: the file as findings name it.
        text: its whole text, without a byte order mark.
    """

    path: str
    text: str
    _starts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        starts = [0, *(match.end() for match in _BREAK.finditer(self.text))]
        object.__setattr__(self, "_starts", starts)

    def position(self, index: int) -> tuple[int, int]:
        """Line and column of a character, both counted from 1."""
        line = bisect_right(self._starts, index)
        return line, index - self._starts[line - 1] + 1

    def line_of(self, index: int) -> tuple[int, str]:
        """Index of the first character of the line with `index`, and the line's text without its break."""
        line = bisect_right(self._starts, index)
        start = self._starts[line - 1]
        end = self._starts[line] if line < len(self._starts) else len(self.text)
        return start, self.text[start:end].rstrip("\r\n")

    def finding(
        self, index: int, code: str, what: str, instead: str = "", severity: Severity = "error"
    ) -> ConfigFinding:
        """Make a finding at a character of this file."""
        line, col = self.position(max(0, min(index, len(self.text))))
        return ConfigFinding(self.path, line, col, code, what, instead, severity)
