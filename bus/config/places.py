"""What each place in a route may read: the static types of `data`, `vars`, `config` and the rest.

A scope is a value: each step gives the one for the next. Where ways disagree (branches that come together, a step under
`when`) a type becomes the union of both, or `any`; lint then says less, never something wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.types import (
    ANY,
    BOOL,
    DOUBLE,
    INT,
    NEVER,
    OPEN,
    STRING,
    List,
    Object,
    Plain,
    Type,
    field_type,
    union,
    with_field,
    without_field,
)
from bus.core import message
from bus.core.expression import Path

Names: TypeAlias = Mapping[str, Type]

_TEXT_ATTRIBUTES = (
    message.ID, message.SOURCE, message.TYPE, message.SPECVERSION, message.TIME, message.SUBJECT,
    message.DATACONTENTTYPE, message.DATASCHEMA, message.CONVERSATION, message.CORRELATION, message.CAUSATION,
    message.REPLYTO, message.EXPIRY, message.ON_BEHALF_OF, message.LABELS, message.TRACEPARENT, message.TRACESTATE,
)  # fmt: skip
_COUNT_ATTRIBUTES = (message.HOPS, message.ATTEMPT, message.FENCE, message.REDRIVE)

MSG = Object(
    {**dict.fromkeys(_TEXT_ATTRIBUTES, STRING), **dict.fromkeys(_COUNT_ATTRIBUTES, INT)},
    frozenset((message.ID, message.SOURCE, message.TYPE, message.SPECVERSION, message.CONVERSATION)),
    rest=ANY,
    name="msg",
)
_FINDING = Object(
    {"pointer": STRING, "expected": STRING, "got": STRING, "excerpt": ANY, "alternatives": List(STRING)},
    frozenset(("pointer", "expected", "got")),
    exact=True,
)
ERROR = Object(
    {"class": STRING, "code": STRING, "reason": STRING, "step": STRING, "agent": STRING, "attempt": INT,
     "findings": List(_FINDING)},
    frozenset(("class", "code", "reason", "findings")),
    exact=True,
    name="error",
)  # fmt: skip
NO_VARS = Object(exact=True, name="vars")


def of_match(types: Iterable[Type], config: Mapping[str, Type]) -> Names:
    """The scope of a route's `when`.

    Args:
        types: static types of the matched message types.
        config: static types of the integration's values.
    """
    distinct: list[Type] = []
    for each in types:
        if each not in distinct:
            distinct.append(each)
    data = distinct[0] if len(distinct) == 1 else ANY
    values = Object(dict(config), frozenset(config), exact=True, name="config")
    return {"data": data, "request": data, "msg": MSG, "config": values}


def with_vars(names: Names) -> Names:
    """The scope at the start of a route's flow."""
    return {**names, "vars": NO_VARS}


def with_error(names: Names) -> Names:
    """The scope of an error rule: what was there when the step failed is not known exactly."""
    return {**names, "data": ANY, "vars": OPEN, "error": ERROR}


def unknown(names: Names) -> Names:
    """The scope after a step that could not be read."""
    return {**names, "data": ANY, "vars": OPEN}


def unsure(names: Names, kind: str, node: Node) -> Names:
    """The scope after a step with findings: what it may have written is open, the rest is still known and checked."""
    keys = [key.text for key, _ in node.pairs] if kind == "set" and isinstance(node, MappingNode) else _texts(node)
    touched = {text.split(".")[0] for text in keys}
    if kind == "translate" or (kind == "keep" and touched):
        touched.add("data")
    if kind not in AFTER or kind == "contract":
        return names
    found = dict(names)
    if "data" in touched:
        found["data"] = ANY
    if "vars" in touched:
        found["vars"] = OPEN
    return found


def _texts(node: Node) -> Iterator[str]:
    if isinstance(node, Scalar):
        yield node.text
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from _texts(item)
    else:
        for key, value in node.pairs:
            yield key.text
            yield from _texts(value)


def written(names: Names, path: Path, value: Type) -> Names:
    """The scope after `value` was written at `path`."""
    return {**names, path[0]: with_field(names[path[0]], path[1:], value)} if path[0] in names else names


def merged(scopes: Iterable[Names]) -> Names:
    """The scope where several ways come together."""
    found = list(scopes)
    first = found[0]
    for each in found[1:]:
        first = {name: _joined(name, type_, each.get(name, ANY)) for name, type_ in first.items()}
    return first


def _joined(name: str, one: Type, other: Type) -> Type:
    if one == other:
        return one
    if name != "vars" or not isinstance(one, Object) or not isinstance(other, Object):
        return ANY if name != "vars" else OPEN
    # A variable of one way counts as there after both: whether it is depends on the same conditions as its use.
    fields = {**one.fields, **other.fields}
    both = one.fields.keys() & other.fields.keys()
    fields.update({key: union((one.fields[key], other.fields[key])) for key in both})
    rest = None if one.rest is None and other.rest is None else ANY
    return Object(fields, frozenset(fields), rest, one.exact and other.exact, "vars")


TypeOf: TypeAlias = Callable[[object], Type]
"""Static type of a parsed leaf or contract."""


def _after_translate(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    return {**names, "data": type_of(parsed["data"])}


def _after_set(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    for path, leaf in parsed.items():
        names = written(names, path, type_of(leaf))
    return names


def _after_keep(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    data = names["data"]
    kept = {path[1] for path in parsed if len(path) > 1}
    if not isinstance(data, Object) or any(len(path) != 2 for path in parsed):
        return {**names, "data": ANY}
    fields = {name: each for name, each in data.fields.items() if name in kept}
    missing = dict.fromkeys(kept - fields.keys(), data.rest or ANY)
    return {**names, "data": Object({**fields, **missing}, data.required & kept, None, True, data.name)}


def _after_remove(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    for path in parsed:
        inner = without_field(names[path[0]], path[1:]) if len(path) > 1 else OPEN
        names = {**names, path[0]: inner}
    return names


def _after_contract(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    return {**names, "data": type_of(parsed)}


def _after_render(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    return written(names, parsed["into"], STRING)


def _after_label(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    return written(names, ("msg", message.LABELS), STRING)


def _after_redact(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    for path, how in parsed.items():
        names = {**names, path[0]: _redacted(names[path[0]], path[1:], how == "drop")}
    return names


def _redacted(type_: Type, path: Path, drop: bool) -> Type:
    """The type after a redaction: lists are gone through, and what may be absent stays so."""
    if isinstance(type_, List):
        return List(_redacted(type_.item, path, drop))
    if not isinstance(type_, Object) or not path:
        return ANY
    if path[0] not in type_.fields:
        return type_
    fields = dict(type_.fields)
    required = type_.required
    if len(path) > 1:
        fields[path[0]] = _redacted(fields[path[0]], path[1:], drop)
    elif drop:
        del fields[path[0]]
        required -= {path[0]}
    else:
        # A list has each item redacted, and null stays null.
        fields[path[0]] = STRING if isinstance(fields[path[0]], (Plain, Object)) else ANY
    return Object(fields, required, type_.rest, type_.exact, type_.name)


def _after_enrich(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    return written(names, parsed["into"], type_of(parsed["from"]))


def _after_wrap(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    msg = names["msg"]
    fields = {**msg.fields, "data": names["data"]} if isinstance(msg, Object) else {"data": names["data"]}
    always = msg.required if isinstance(msg, Object) else frozenset()
    return {**names, "data": Object(fields, always | {"data"}, rest=ANY, name="envelope")}


def _after_unwrap(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    return {**names, "data": field_type(names["data"], "data")}


def _after_use(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    return {**names, "data": type_of(parsed), "msg": MSG}


def _as_before(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    return names


def _after_call(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    return written(names, parsed["into"], type_of(parsed["target"].reply)) if "into" in parsed else names


def _after_scatter(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    if "compose" in parsed:
        return written(names, parsed["into"], type_of(parsed["compose"]))
    return written(names, parsed["into"], joined(results_of(parsed, type_of), STRING))


def results_of(parsed: Mapping[str, Any], type_of: TypeOf) -> Type:
    """The type of the results of branches; those that the join does not need may be missing."""
    branches, join = parsed["branches"], parsed["join"]
    results = {
        name: type_of(branch["flow"] if branch.get("target") is None else branch["target"].reply)
        for name, branch in branches.items()
    }
    all_ = {name for name, branch in branches.items() if _is_whole(join) and "when" not in branch}
    return Object(results, frozenset(all_.union(join.get("require", ()))), None, True, "results")


def _is_whole(join: Mapping[str, Any]) -> bool:
    """Whether a join goes on only with all results."""
    return join["policy"] == "all" and join.get("on_deadline") != "partial"


def joined(results: Type, missing: Type) -> Type:
    """The type of what a join gives."""
    fields = {"results": results, "completeness": DOUBLE, "missing": List(missing), "degraded": BOOL}
    return Object(fields, frozenset(fields), None, True, "the outcome")


def _after_split(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    if "into" not in parsed or "join" not in parsed:
        return names
    item = type_of(parsed["flow"]) if _is_whole(parsed["join"]) else ANY  # null in the place of one that is missing
    return written(names, parsed["into"], joined(List(item), INT))


def _after_aggregate(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    return written(names, parsed["into"], joined(List(names["data"]), INT))


def _after_slip(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    replies = [type_of(each["target"].reply) for each in parsed["allow"]]
    return {**names, "data": union((names["data"], *replies))}


AFTER: Mapping[str, Callable[[Names, Any, TypeOf], Names]] = {
    "translate": _after_translate,
    "set": _after_set,
    "keep": _after_keep,
    "remove": _after_remove,
    "contract": _after_contract,
    "render": _after_render,
    "split": _after_split,
    "aggregate": _after_aggregate,
    "routing_slip": _after_slip,
    "dynamic_router": _after_slip,
    "resequence": _as_before,
    "idempotent": _as_before,
    "throttle": _as_before,
    "label": _after_label,
    "use": _after_use,
    "redact": _after_redact,
    "enrich": _after_enrich,
    "wrap": _after_wrap,
    "unwrap": _after_unwrap,
    "call": _after_call,
    "scatter_gather": _after_scatter,
}
"""How a step changes the scope, for the kinds of which more is known than the paths they write."""


def _within_split(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    item: Type = STRING if "lines" in parsed else ANY
    given = type_of(parsed.get("each"))
    if isinstance(given, List) and given.item != NEVER:
        item = given.item
    return {**names, "data": item, "index": INT}


def _with_results(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    return {**names, "results": results_of(parsed, type_of)}


def _later(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    """Not read when the step begins: the data is then what an agent has answered."""
    return {**names, "data": ANY, "index": INT}


def _in_rounds(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    """What an earlier round has written may be there or not."""
    return {**unknown(names), "index": INT}


def _counted(names: Names, parsed: Any, type_of: TypeOf) -> Names:
    return {**names, "index": INT}


WITHIN: Mapping[str, Mapping[str, Callable[[Names, Any, TypeOf], Names]]] = {
    "split": {"flow": _within_split},
    "scatter_gather": {"compose": _with_results},
    "loop": {"while": _in_rounds, "flow": _in_rounds},
    "routing_slip": {"allow": _later},
    "dynamic_router": {"ask": _later, "allow": _later},
    "aggregate": {"complete": _counted},
}
"""The scopes of a step's fields, for those in which it is not the step's own; `flow` is that of its nested steps."""

PARTS = frozenset(("split", "scatter_gather"))
"""Kinds whose flows run beside each other, on copies of the message: what ends one of them does not end the route, and
the copies carry no return address."""
