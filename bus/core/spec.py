"""The grammar of a step, as data: from it follow parsing, lint, the editor schema and the reference.

A step file exports `SPEC = Spec(...)`. Its `shape` says what may stand under the step's key; the loader reads the
YAML by the shape, reports what does not fit with its position, and hands `build` the parsed value:

    shape       parsed value given to `build`
    Expr        Expression (compiled CEL)
    Leaves      Leaf (compiled tree of YAML values with `{{ CEL }}` leaves)
    PathTo      Path, a place that a step may write: `data`, `data.*` or `vars.*`
    SchemaFile  Contract
    TemplateFile  Document
    TableFile   Table
    Text, Integer, Choice   str, int, str
    Number      float
    Duration    float, seconds (`8s`, `500ms`, `7d`)
    Rate        float, so many in a second (`20/s`, `100/m`, `5/h`)
    Size        int, bytes (`512B`, `16KiB`, `1MiB`)
    TargetShape Target
    FlowShape   Flow
    MapOf, ListOf           dict[str, parsed] (in file order), tuple[parsed, ...]
    Record      dict[str, parsed]; absent optional fields are absent
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, Union

from bus.core.work import Step

ExprType = Literal["bool", "list", "string", "any"]


@dataclass(frozen=True, slots=True)
class Expr:
    """A bare CEL slot whose checked result must be assignable to `type`."""

    type: ExprType = "any"


@dataclass(frozen=True, slots=True)
class Leaves:
    """Any YAML tree; strings may be `{{ CEL }}`."""


@dataclass(frozen=True, slots=True)
class PathTo:
    """A place in `data` or `vars`. With `inside_data`, a path below `data` written without the prefix rule."""


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """Path of a JSON Schema file, relative to the integration's folder."""


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """Path of a `*.j2` file, relative to the integration's folder."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """Path of a `*.json` or `*.csv` file, relative to the integration's folder."""


@dataclass(frozen=True, slots=True)
class Text:
    """A plain string, never evaluated."""


@dataclass(frozen=True, slots=True)
class Integer:
    minimum: int = 0


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `least` to `most`, both included."""

    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Choice:
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Duration:
    """A number with a unit: ms, s, m, h, d."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A number for each s, m, h or d."""


@dataclass(frozen=True, slots=True)
class Size:
    """A number with a unit: B, KiB, MiB."""


@dataclass(frozen=True, slots=True)
class TargetShape:
    """`agent: A | capability: C | event: TYPE | reply: ok|error`, with optional `data`.

    With `fields`, those may stand beside, and the parsed value is a dict of them with the Target under `target`. With
    `flow`, `steps` and `to` may stand in the place of a target, and the dict has them under `flow`.
    """

    fields: Mapping[str, Field] = field(default_factory=dict)
    flow: bool = False


@dataclass(frozen=True, slots=True)
class FlowShape:
    """`steps?: [STEP], to?: TARGET|[TARGET]` among the other fields of the enclosing record."""


@dataclass(frozen=True, slots=True)
class MapOf:
    value: Shape
    keys: Literal["name", "path"] = "name"


@dataclass(frozen=True, slots=True)
class ListOf:
    item: Shape


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record: its shape, whether it must be there, and a sentence for the reference."""

    shape: Shape
    doc: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping with known keys. With `flow`, the keys `steps` and `to` are allowed too and arrive as `flow`."""

    fields: Mapping[str, Field]
    flow: bool = False


Shape: TypeAlias = Union[
    Expr, Leaves, PathTo, SchemaFile, TemplateFile, TableFile, Text, Integer, Number, Choice, Duration, Rate, Size,
    TargetShape, FlowShape, MapOf, ListOf, Record,
]  # fmt: skip

JOIN = Record(
    {
        "policy": Field(
            Choice(("all", "any", "quorum", "best_effort")),
            "`all`, `any` and `quorum` close when satisfied, and fail when they cannot be; `best_effort` awaits all.",
        ),
        "n": Field(Integer(1), "Results that a quorum needs.", required=False),
        "require": Field(ListOf(Text()), "Branches that must be among the results.", required=False),
        "deadline": Field(Duration(), "When it closes at the latest."),
        "on_deadline": Field(Choice(("fail", "partial")), "What happens then; `fail` unless written.", required=False),
    }
)
"""When several results are enough: see bus.core.joins."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One Enterprise Integration Pattern as a step.

    Args:
        kind: the YAML key.
        pattern: its name in the literature.
        summary: one sentence for the reference and editor hover.
        shape: what may stand under the key.
        build: turns the parsed value into the step; it may raise ValueError(what, instead) for what the shape
            cannot say, which the loader reports at the step's position.
        example: a YAML step; the tests lint and run it.
        memory: it waits or remembers, so that its route has memory: see bus.core.instance. A function says so by the
            parsed value.
        homed: it must see all runs of its route, or of their `serial_by` key: without `serial_by` they live in one
            partition.
    """

    kind: str
    pattern: str
    summary: str
    shape: Shape
    build: Callable[[Any], Step]
    example: str
    memory: bool | Callable[[Any], bool] = False
    homed: bool = False
    writes: Callable[[Any], tuple[tuple[str, ...], ...]] = field(default=lambda parsed: ())
    """Paths under `vars` or `data` that the step makes from the parsed value, so that lint knows them."""

    def remembers(self, parsed: Any) -> bool:
        """Whether a step with this parsed value waits or remembers."""
        return self.memory(parsed) if callable(self.memory) else self.memory
