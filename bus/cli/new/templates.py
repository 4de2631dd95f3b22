"""What `bus new` writes, as texts; NAME and the like are replaced. Nothing here touches a disk."""

from __future__ import annotations

import re

from bus.config.nodes import Mapping, parse

MODELINE = "# yaml-language-server: $schema=../.schema.json\n"

_INTEGRATION = {
    "integration.yaml": """\
integration: NAME
types:
  NAME.asked: {contract: schemas/NAME.v1.json}
""",
    "agents.yaml": """\
agents:
  AGENT: {adapter: sdk, run: "FILE.py:agent", capabilities: [CAPABILITY]}
capabilities:
  CAPABILITY: {request: schemas/CAPABILITY.request.v1.json, reply: schemas/CAPABILITY.reply.v1.json}
""",
    "NAME.yaml": """\
route: NAME
match: {type: NAME.asked}
to: {capability: CAPABILITY, data: {name: "{{ data.name.trim() }}"}}
""",
    "NAME.test.yaml": """\
tests:
- test: whoever asks is greeted
  agents: {CAPABILITY: {reply: {text: Hello Ada}}}
  do: [{send: {type: NAME.asked, data: {name: " Ada "}}}]
  expect:
  - {sent: {capability: CAPABILITY}, data: {name: Ada}}
  - {reply: ok, data: {text: Hello Ada}}
- test: a message without a name is refused, field by field
  do: [{send: {type: NAME.asked, data: {}}}]
  expect: [{channel: invalid, error: {findings: [{pointer: /name}]}}]
""",
    "schemas/NAME.v1.json": "",
    "schemas/CAPABILITY.request.v1.json": "",
    "schemas/CAPABILITY.reply.v1.json": "",
    "FILE.py": '''\
"""The agent AGENT: a function that answers the requests of one capability."""

from adapters import Agent, Message

agent = Agent("AGENT")


@agent.capability("CAPABILITY")
async def greet(request: Message) -> dict[str, str]:
    return {"text": f"Hello {request.data['name']}"}  # the bus has checked the request against its contract


if __name__ == "__main__":
    agent.run()
''',
}

_ROUTE = {
    "NAME.yaml": """\
route: NAME
match: {type: NAME.asked}
steps:
- filter: data.text != ""
to: {reply: ok, data: {text: "{{ data.text.trim() }}"}}
""",
    "NAME.test.yaml": """\
tests:
- test: whoever asks is answered
  do: [{send: {type: NAME.asked, data: {text: " hello "}}}]
  expect: [{reply: ok, data: {text: hello}}]
- test: an empty text goes nowhere
  do: [{send: {type: NAME.asked, data: {text: ""}}}]
  expect: [{channel: filtered}]
""",
    "schemas/NAME.v1.json": "",
}

_AGENT = {
    "NAME.agent.yaml": """\
agents:
  NAME: {adapter: sdk, run: "FILE.py:agent", capabilities: [NAME]}
capabilities:
  NAME: {request: schemas/NAME.request.v1.json, reply: schemas/NAME.reply.v1.json}
""",
    "FILE.py": '''\
"""The agent NAME: a function that answers the requests of one capability."""

from adapters import Agent, AgentError, Message

agent = Agent("NAME")


@agent.capability("NAME")
async def answer(request: Message) -> dict[str, str]:
    text = request.data["text"]  # the bus has checked the request against its contract
    if not text:
        raise AgentError("refusal", "there is no text")
    return {"text": text}


if __name__ == "__main__":
    agent.run()
''',
    "schemas/NAME.request.v1.json": "",
    "schemas/NAME.reply.v1.json": "",
}


def _schema(field: str) -> str:
    return f"""\
{{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["{field}"],
  "properties": {{
    "{field}": {{"type": "string"}}
  }}
}}
"""


def integration_files(name: str, agent: str, capability: str) -> dict[str, str]:
    """The files of an integration: relative path to text."""
    fields = {"schemas/NAME.v1.json": "name", "schemas/CAPABILITY.request.v1.json": "name"}
    return _filled(_INTEGRATION, fields, name, agent, capability)


def route_files(name: str) -> dict[str, str]:
    """The files of a route; its type `NAME.asked` is for the integration document."""
    return _filled(_ROUTE, {}, name, name, name)


def agent_files(name: str) -> dict[str, str]:
    """The files of an agent with a capability of its own name."""
    return _filled(_AGENT, {}, name, name, name)


def _filled(texts: dict[str, str], fields: dict[str, str], name: str, agent: str, capability: str) -> dict[str, str]:
    words = {"NAME": name, "AGENT": agent, "CAPABILITY": capability, "FILE": agent.replace("-", "_")}

    def fill(text: str) -> str:
        return re.sub(r"\b(NAME|AGENT|CAPABILITY|FILE)\b", lambda found: words[found[1]], text)

    found = {}
    for path, text in texts.items():
        body = text or _schema(fields.get(path, "text"))
        found[fill(path)] = (MODELINE if path.endswith(".yaml") else "") + fill(body)
    return found


def with_type(path: str, text: str, type_: str, contract: str) -> str | None:
    """An integration document with one type more, on a line of its own before the others.

    Returns:
        The text, or None when its `types` are not written one on a line: then a person must do it.
    """
    for document in parse(path, text.encode()).documents:
        types = document.get("types") if isinstance(document, Mapping) and document.get("integration") else None
        if isinstance(types, Mapping) and types.pairs and not types.flow:
            start, line = types.source.line_of(types.pairs[0][0].start)
            indent = line[: len(line) - len(line.lstrip())]
            return f"{text[:start]}{indent}{type_}: {{contract: {contract}}}\n{text[start:]}"
    return None
