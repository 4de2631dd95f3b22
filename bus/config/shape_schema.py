"""Shapes of steps as JSON Schema (2020-12): what an editor checks and offers while a route is written.

It says less than `bus lint`, never more: what lint accepts, the schema accepts. Expressions are texts to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bus.config.nodes import parse, to_json
from bus.core.message import Json
from bus.core.spec import (
    Choice,
    Duration,
    Expr,
    Field,
    FlowShape,
    Integer,
    Leaves,
    ListOf,
    MapOf,
    Number,
    PathTo,
    Rate,
    Record,
    SchemaFile,
    Shape,
    Size,
    Spec,
    TableFile,
    TargetShape,
    TemplateFile,
    Text,
)

Schema = dict[str, Json]

_DEFINED: Mapping[type, str] = {
    Expr: "expression",
    Leaves: "value",
    PathTo: "path",
    SchemaFile: "schemaFile",
    TemplateFile: "templateFile",
    TableFile: "tableFile",
    Duration: "duration",
    Rate: "rate",
    Size: "size",
}
"""Shapes that stand under `$defs`, because many places use them."""


def ref(name: str, doc: str = "") -> Schema:
    """A reference to a definition, with what it means here."""
    found: Schema = {"$ref": f"#/$defs/{name}"}
    return {**found, "description": doc} if doc else found


def closed(properties: Mapping[str, Json], required: tuple[str, ...] = (), doc: str = "") -> Schema:
    """An object with known keys; as everywhere, it may have a `description`."""
    described: Schema = {"type": "string", "description": "For people; the bus does not read it."}
    found: Schema = {
        "type": "object",
        "properties": {**properties, "description": described},
        "additionalProperties": False,
    }
    if required:
        found["required"] = list(required)
    return {**found, "description": doc} if doc else found


def map_of(keys: str, value: Json, doc: str = "") -> Schema:
    """An object whose keys are names of the definition `keys`."""
    found: Schema = {"type": "object", "propertyNames": ref(keys), "additionalProperties": value}
    return {**found, "description": doc} if doc else found


FLOW: Mapping[str, Json] = {
    "steps": {"type": "array", "items": ref("step"), "description": "What happens to the message, in this order."},
    "to": ref("to", "Where the message goes then; it ends the route."),
}
"""The keys of a flow."""


TARGET_KINDS: Mapping[str, Json] = {
    "agent": {"type": "string", "description": "An agent with exactly one capability."},
    "capability": {"type": "string", "description": "Any agent that has the capability."},
    "event": {"type": "string", "description": "The route of this type, and all who subscribe to it."},
    "reply": {"enum": ["ok", "error"], "description": "Whoever asked."},
}
TARGET: Mapping[str, Json] = {
    **TARGET_KINDS,
    "data": ref("value", "What is sent; without it, the data as it is."),
    "version": {"type": ["string", "number"], "description": "Only agents of this version: `2.1`, or `^2`."},
    "where": {"type": "object", "description": "Only agents with these attributes; of a list one will do."},
    "allow": {
        "type": "array",
        "items": {"type": "string"},
        "description": "The names that the message may give, where the target is `{{ CEL }}`.",
    },
}
"""The keys of a target."""


def known(described: Mapping[str, Json], keys: Iterable[str]) -> Schema:
    """What a reader knows, as it is described; what nobody has described takes anything."""
    return {key: described.get(key, True) for key in keys if key != "description"}


def one_of(keys: Iterable[str]) -> Schema:
    """Exactly one of these keys must be there."""
    return {"oneOf": [{"required": [key]} for key in keys]}


def of_shape(shape: Shape) -> Schema:
    """What a shape takes, as JSON Schema; references lead into `$defs` of the whole document."""
    match shape:
        case Text():
            return {"type": "string"}
        case Integer(minimum=minimum):
            return {"type": "integer", "minimum": minimum}
        case Number(least=least, most=most):
            return {"type": "number", "minimum": least, "maximum": most}
        case Choice(values=values):
            return {"enum": list(values)}
        case ListOf(item=item):
            return {"type": "array", "items": of_shape(item)}
        case MapOf(value=value, keys=keys):
            return map_of("path" if keys == "path" else "expressionName", of_shape(value))
        case FlowShape():
            return closed(FLOW)
        case TargetShape(fields=fields, flow=flow):
            if not fields and not flow:
                return ref("target")
            kinds = (*TARGET_KINDS, *(["steps"] if flow else []))
            return _fields(fields, {**TARGET, **(FLOW if flow else {})}) | one_of(kinds)
        case Record(fields=fields, flow=flow):
            return _fields(fields, FLOW if flow else {})
        case _:
            return ref(_DEFINED[type(shape)])


def _fields(fields: Mapping[str, Field], beside: Mapping[str, Json]) -> Schema:
    properties = {name: of_field(field) for name, field in fields.items()}
    return closed({**properties, **beside}, tuple(name for name, field in fields.items() if field.required))


def of_field(field: Field) -> Schema:
    """A field of a record, with its sentence."""
    return {**of_shape(field.shape), "description": field.doc}


def of_step(spec: Spec) -> Schema:
    """What stands under a step's key, with its pattern, its summary and its example."""
    return {
        **of_shape(spec.shape),
        "description": f"{spec.pattern}. {spec.summary}",
        "examples": [example_of(spec)],
    }


def example_of(spec: Spec) -> Json:
    """The value under the step's key in its example."""
    (document,) = parse(f"{spec.kind} example", spec.example.encode()).documents
    example = to_json(document)
    assert isinstance(example, dict)
    return example[spec.kind]
