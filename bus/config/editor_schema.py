"""The JSON Schema of all YAML documents, for editors: `bus schema`.

Steps come from their specs. The keys of the other documents come from the readers of those documents, which know no
more of a key than its name; what it takes is said here, and a test holds the two together. The kind of a document is
the key that it has, so an editor shows what is wrong in terms of that kind and not of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bus.config.agents import ADAPTERS, AGENT_KEYS, CAPABILITY_KEYS, RESTART_KEYS
from bus.config.flows import RETRY_KEYS, RULE_KEYS, STEP_KEYS, WORDS
from bus.config.fragments import KEYS as FRAGMENT_KEYS
from bus.config.integrations import CONFIG_KEYS, CONFIG_TYPES, TYPE_KEYS
from bus.config.integrations import KEYS as INTEGRATION_KEYS
from bus.config.reader import PATTERNS
from bus.config.routes import KEYS as ROUTE_KEYS
from bus.config.routes import MATCH_KEYS
from bus.config.shape_schema import FLOW, TARGET, TARGET_KINDS, Schema, closed, known, map_of, of_step, one_of, ref
from bus.config.tests_schema import tests_document
from bus.core.errors import FAILURE_CLASSES
from bus.core.spec import Spec
from bus.core.steps.use import PARAMETER_TYPES

_SECRET = r"\$\{[^{}]*\}"


def editor_schema(steps: Mapping[str, Spec]) -> Schema:
    """Make the schema.

    Args:
        steps: the table of steps.
    """
    kinds = {
        ("integration",): "integrationDocument",
        ("agents", "capabilities"): "agentsDocument",
        ("route",): "routeDocument",
        ("fragment",): "fragmentDocument",
        ("tests",): "testsDocument",
    }
    first: Schema = {key: {"description": _DOCUMENTS[key]} for keys in kinds for key in keys}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "agentbus",
        "description": "A document of an integration: its first key says what it is.",
        "type": "object",
        "properties": first,
        "anyOf": [{"required": [key]} for key in first],
        "allOf": [{"if": _any_of(keys), "then": ref(name)} for keys, name in kinds.items()],
        "$defs": {**_WORDS, **_flow(steps), **_documents()},
    }


def _any_of(keys: Iterable[str]) -> Schema:
    return {"anyOf": [{"required": [key]} for key in keys]}


_DOCUMENTS: Mapping[str, str] = {
    "integration": "The integration of this folder, which bears the folder's name: types, configuration, defaults.",
    "agents": "Agents, and the capabilities that they offer.",
    "capabilities": "What agents may be asked to do, with the contracts of request and reply.",
    "route": "A route: which messages it takes, and what happens to them.",
    "fragment": "Steps with a name and parameters, which routes take in with `use`.",
    "tests": "Tests of the integration's routes, in a file `*.test.yaml`.",
}


def _text(pattern: str, doc: str) -> Schema:
    return {"type": "string", "pattern": f"^(?:{pattern})$", "description": doc}


_WORDS: Schema = {
    "name": _text(PATTERNS["name"], "Small letters, digits, `_` and `-`, a letter first."),
    "expressionName": _text(PATTERNS["expression"], "Small letters, digits and `_`, a letter first."),
    "typeName": _text(PATTERNS["type"], "A message type, e.g. `order.placed`."),
    "typeGlob": _text(PATTERNS["glob"], "A message type; `*` is one segment, `**` at the end the rest."),
    "size": _text(PATTERNS["size"], "A size with its unit: `512B`, `16KiB`, `1MiB`."),
    "duration": _text(PATTERNS["duration"], "A time with its unit: `500ms`, `8s`, `2m`, `1h`, `7d`."),
    "rate": _text(PATTERNS["rate"], "So many in a time: `20/s`, `100/m`, `5/h`."),
    "path": _text(r"(data|vars)(\.[A-Za-z_][A-Za-z0-9_]*)*", "A place in `data` or `vars`, e.g. `vars.found`."),
    "schemaFile": _text(r".+", "A JSON Schema file, relative to the integration's folder."),
    "templateFile": _text(r".+\.j2", "A `*.j2` file, relative to the integration's folder."),
    "tableFile": _text(r".+\.(json|csv)", "A JSON or CSV file, relative to the integration's folder."),
    "expression": {
        "type": ["string", "boolean", "number"],
        "description": "CEL, without braces: `data.amount > 3.0`.",
    },
    "value": {"description": "Any value; a string may be one `{{ CEL }}`, which gives the typed result, or hold some."},
    "text": {"type": "string"},
}


# --- flows ----------------------------------------------------------------------------------------------------------


def _flow(steps: Mapping[str, Spec]) -> Schema:
    of_rule: Schema = {
        "class": _one_or_many({"enum": list(FAILURE_CLASSES)}, "Failure classes; without it, any."),
        "when": ref("expression", "The rule holds only then; `error` tells what happened."),
        "then": {
            "anyOf": [{"enum": list(WORDS)}, closed(FLOW)],
            "description": "What follows: a flow, or a word. A flow without `to` and `continue` resume after the step.",
        },
    }
    of_step_: Schema = {
        "id": ref("name", "Its name in traces; without one, the kind and a number."),
        "when": ref("expression", "The step runs only then."),
        "on_error": ref("rules", "What follows when this step fails; before the route's rules."),
    }
    of_retry: Schema = {
        "attempts": {"type": "integer", "minimum": 2, "description": "All attempts, the first among them."},
        "initial": ref("duration", "The wait before the second attempt."),
        "factor": {"type": "number", "description": "By how much each wait is longer than the one before."},
        "max": ref("duration", "The longest wait."),
        "jitter": {"type": "number", "description": "The share of a wait that is left to chance, 0 to 1."},
    }
    of_rule["retry"] = closed(known(of_retry, RETRY_KEYS), ("attempts",), "The step is run again, before `then`.")
    kinds: Schema = {kind: of_step(spec) for kind, spec in steps.items()}
    step = closed({**kinds, **known(of_step_, STEP_KEYS)}, doc="One step: its kind, and what belongs to it.")
    return {
        "step": step | one_of(kinds),
        "target": closed(TARGET) | one_of(TARGET_KINDS),
        "to": _one_or_many(ref("target"), "One target, or a list with at most one that is not an event."),
        "rules": {"type": "array", "items": closed(known(of_rule, RULE_KEYS), ("then",))},
    }


def _one_or_many(item: Schema, doc: str) -> Schema:
    return {"anyOf": [item, {"type": "array", "items": item}], "description": doc}


# --- documents ------------------------------------------------------------------------------------------------------


def _documents() -> Schema:
    return {
        "integrationDocument": closed(known(_integration(), INTEGRATION_KEYS), ("integration",)),
        "agentsDocument": closed({"agents": map_of("name", ref("agent")), "capabilities": _capabilities()}),
        "agent": _agent(),
        "routeDocument": closed(known(_route(), ROUTE_KEYS), ("route", "match")),
        "fragmentDocument": closed(known(_fragment(), FRAGMENT_KEYS), ("fragment", "steps")),
        **tests_document(),
    }


def _integration() -> Schema:
    value: Schema = {
        "type": {"enum": list(CONFIG_TYPES)},
        "default": {"type": ["string", "number", "boolean"], "description": "The value when nothing else says one."},
        "env": {"type": "string", "description": "The environment variable that overrides `default`."},
    }
    type_: Schema = {
        "contract": _one_or_many({"type": "string"}, "A schema file, its versions with the oldest first, or `any`."),
        "upcast": {
            "type": "object",
            "patternProperties": {
                r"^v[0-9]+$": closed(
                    {"data": ref("value", "The data of the next version, from `data` and `msg`.")}, ("data",)
                )
            },
            "additionalProperties": False,
            "description": "How the data of each older version becomes that of the next.",
        },
        "unrouted": {"enum": ["ok"], "description": "Nobody need own it or subscribe to it."},
    }
    label: Schema = {"requires": {"type": "object", "description": "Attributes of whoever gets such a message."}}
    rules = closed({"on_error": ref("rules", "Rules after those of a step and of its route.")})
    return {
        "integration": ref("name", _DOCUMENTS["integration"]),
        "uses": {"type": "array", "items": ref("name"), "description": "Integrations beside this one."},
        "config": map_of("expressionName", closed(known(value, CONFIG_KEYS), ("type",)), "Values that routes read."),
        "types": map_of("typeName", closed(known(type_, TYPE_KEYS), ("contract",)), "Types, with their contracts."),
        "labels": map_of("name", closed(label), "Labels, and what they require of whoever gets a message."),
        "defaults": rules,
        "gateway": map_of(
            "name",
            closed(
                {
                    "http": _text(r"(POST|PUT|PATCH) /\S*", "Verb and path: `POST /orders`."),
                    "type": ref("typeName", "What the request becomes."),
                    "wait": ref("duration", "How long the client is held for the answer."),
                    "on_timeout": {"enum": ["accepted", "fail"], "description": "202 with a place to ask, or 504."},
                },
                ("http", "type"),
            ),
            "HTTP requests that become messages.",
        ),
        "schedules": map_of(
            "name",
            closed(
                {
                    "cron": {"type": "string", "description": "Minute, hour, day, month, weekday."},
                    "zone": {"type": "string", "description": "The time zone, `UTC` unless named: `Europe/Berlin`."},
                    "type": ref("typeName", "What is sent."),
                    "data": ref("value", "Its data, as written."),
                },
                ("cron", "type"),
            ),
            "Messages by the clock.",
        ),
        "coverage": closed(
            {name: {"type": "integer", "minimum": 0, "maximum": 100} for name in ("routes", "steps", "branches")},
            doc="What share of its routes `bus test --coverage` must have seen, in percent.",
        ),
    }


def _capabilities() -> Schema:
    keys: Schema = {
        "request": ref("schemaFile", "The contract of `<capability>.requested`."),
        "reply": ref("schemaFile", "The contract of `<capability>.replied`."),
        "idempotent": {"type": "boolean", "description": "Asking again changes nothing, so a retry is safe."},
        "lease": ref("duration", "Work takes long: an agent accepts it, and may be silent for so long. At least 3s."),
    }
    body = closed(known(keys, CAPABILITY_KEYS), ("request", "reply"))
    return map_of("name", body, _DOCUMENTS["capabilities"])


def _agent() -> Schema:
    """An agent: what all have, and what its adapter may be told."""
    every: Schema = {
        "adapter": {"enum": list(ADAPTERS), "description": "How it is connected."},
        "capabilities": {"type": "array", "items": ref("name"), "description": "What it may be asked to do."},
        "version": {"type": ["string", "number"]},
        "attributes": {"type": "object", "description": "What is to be known of it, e.g. `region: eu`."},
        "subscribes": {"type": "array", "items": ref("typeGlob"), "description": "Events that it gets."},
        "publishes": {"type": "array", "items": ref("typeName"), "description": "Types that it may send."},
        "concurrency": _filled({"type": "integer", "minimum": 1}, "How many messages it works on at once."),
        "timeout": _filled(ref("duration"), "How long it may work on one."),
    }
    return {
        "type": "object",
        "required": ["adapter"],
        "properties": {"adapter": every["adapter"]},
        "allOf": [
            {
                "if": {"properties": {"adapter": {"const": name}}, "required": ["adapter"]},
                "then": closed({**known(every, AGENT_KEYS), **known(_SETTINGS, keys)}, _REQUIRED.get(name, ())),
            }
            for name, keys in ADAPTERS.items()
        ],
    }


def _filled(schema: Schema, doc: str) -> Schema:
    return {"anyOf": [schema, {"type": "string", "pattern": _SECRET}], "description": doc}


_REQUIRED: Mapping[str, tuple[str, ...]] = {"sdk": ("run",), "stdio": ("command",), "bridge": ("url",)}
_SETTINGS: Schema = {
    "run": _text(r".+\.py:[A-Za-z_]\w*", "The agent's file and the agent in it: `file.py:agent`."),
    "url": {"type": "string", "description": "The other bus's broker: `${OTHER_BUS}`."},
    "namespace": {"type": "string", "description": "The other bus's namespace."},
    "as": ref("name", "The agent that it is over there."),
    "command": {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "description": "The program and its arguments; `{python}` is the bus's own interpreter.",
    },
    "env": {"type": "array", "items": _text(r"[A-Za-z_]\w*", "A variable."), "description": "Variables it may see."},
    "restart": closed(
        known(
            {
                "attempts": {"type": "integer", "minimum": 0},
                "initial": ref("duration"),
                "max": ref("duration"),
            },
            RESTART_KEYS,
        ),
        doc="How it is started again after it has died.",
    ),
}


def _route() -> Schema:
    match: Schema = {
        "type": _one_or_many(ref("typeGlob"), "The types that it takes."),
        "source": ref("typeGlob", "Only from this agent."),
        "labels": {"type": "array", "items": {"type": "string"}, "description": "Only with all of these labels."},
        "when": ref("expression", "Only then; when it is false, the next route is asked."),
    }
    return {
        "route": ref("name", _DOCUMENTS["route"]),
        "match": closed(known(match, MATCH_KEYS), ("type",)),
        "observe": {"type": "boolean", "description": "It gets a copy, and its failure touches nobody."},
        "serial_by": ref("expression", "Messages with the same value run one after the other, from start to end."),
        "deadline": ref("duration", "What it sends expires then."),
        "on_error": ref("rules", "What follows when a step fails that has no rule for it."),
        **FLOW,
    }


def _fragment() -> Schema:
    parameter: Schema = {
        "type": {"enum": list(PARAMETER_TYPES)},
        "default": ref("value", "The value when none is given."),
    }
    return {
        "fragment": ref("name", _DOCUMENTS["fragment"]),
        "with": map_of("expressionName", closed(parameter, ("type",)), "Its parameters, which it reads as `vars`."),
        "steps": FLOW["steps"],
    }
