"""What the core knows of expressions, contracts and documents: three small interfaces.

The engines behind them (CEL, jsonschema-rs, Jinja2) are chosen in `bus.config` when routes are compiled,
so the core evaluates routes without importing any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from bus.core.errors import Finding
from bus.core.message import Json

Names: TypeAlias = Mapping[str, Json]
"""What an expression may read: data, msg, request, vars, config, index, results, error, now."""

Path: TypeAlias = tuple[str, ...]
"""A place in the names that a step may write: ("data", "customer", "id") or ("vars", "found")."""


class Expression(Protocol):
    """A compiled CEL expression."""

    @property
    def text(self) -> str:
        """The expression as the author wrote it."""

    def __call__(self, names: Names) -> Json:
        """Evaluate.

        Raises:
            ExpressionFailed: the expression has no value here (absent field, wrong type, ...).
        """
        ...


Leaf: TypeAlias = Callable[[Names], Json]
"""A compiled YAML value: literals stay, `{{ CEL }}` leaves are evaluated. Raises ExpressionFailed."""


class Contract(Protocol):
    """A compiled JSON Schema."""

    @property
    def name(self) -> str:
        """Name and version as people say it, e.g. `inquiry.v1`."""

    def check(self, data: Json) -> tuple[Finding, ...]:
        """Return every failing field, or () when `data` keeps the contract."""
        ...


class Table(Protocol):
    """A table that has been read when the configuration was loaded."""

    @property
    def name(self) -> str:
        """The file, relative to the integration's folder."""

    def find(self, key: str) -> Json:
        """Return the row with a key, which nobody changes; null when there is none."""
        ...


class Document(Protocol):
    """A compiled, sandboxed Jinja2 template file."""

    @property
    def name(self) -> str:
        """The file, relative to the integration's folder."""

    def render(self, names: Names) -> str:
        """Render to text of bounded size.

        Raises:
            ExpressionFailed: the template failed on this message or its output is too large.
        """
        ...
