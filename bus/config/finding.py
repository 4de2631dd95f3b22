"""What is wrong in a configuration, as a value: where, which rule, what, and what to write instead.

Findings are collected, never raised: a load reports all of them, sorted, and only then refuses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from bus.core.message import Json

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class ConfigFinding:
    """One finding.

    Args:
        path: the file, as the user named it or relative to the working directory.
        line: counted from 1.
        col: counted from 1, in characters; the token inside the scalar where that is known.
        code: short stable code, e.g. `unknown-key`.
        what: what is wrong, one clause.
        instead: what to write instead, without the word `write`; "" when there is nothing to offer.
        severity: an error refuses the configuration, a warning does not.
    """

    path: str
    line: int
    col: int
    code: str
    what: str
    instead: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        tail = f"; write {self.instead}" if self.instead else ""
        return f"{self.path}:{self.line}:{self.col}: {self.severity}[{self.code}]: {self.what}{tail}"

    def as_dict(self) -> dict[str, Json]:
        """The finding for `--output json`."""
        return {
            "path": self.path,
            "line": self.line,
            "col": self.col,
            "severity": self.severity,
            "code": self.code,
            "what": self.what,
            "instead": self.instead,
        }

    def as_github(self) -> str:
        """The finding as a workflow command, which GitHub shows at the line of a change."""
        tail = f"; write {self.instead}" if self.instead else ""
        return as_command(self.severity, self.path, self.line, self.col, self.code, self.what + tail)


def as_command(severity: Severity, path: str, line: int, col: int, title: str, text: str) -> str:
    """A workflow command of GitHub: an annotation at a line of a file."""
    place = f"file={_property(path)},line={line},col={col},title={_property(title)}"
    return f"::{severity} {place}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


@dataclass(slots=True)
class Findings:
    """Collects findings while a configuration is read; the same one twice counts once."""

    _all: set[ConfigFinding] = field(default_factory=set)

    def add(self, finding: ConfigFinding) -> None:
        self._all.add(finding)

    def __len__(self) -> int:
        return len(self._all)

    def extend(self, findings: Iterable[ConfigFinding]) -> None:
        self._all.update(findings)

    def sorted(self) -> tuple[ConfigFinding, ...]:
        """All findings by file, line and column."""
        return tuple(sorted(self._all))


def has_errors(findings: Iterable[ConfigFinding]) -> bool:
    return any(each.severity == "error" for each in findings)
