"""A configuration as AsyncAPI 3.0: what the bus takes and sends, over which exchanges and queues.

The application that it describes is the bus. It receives on `NS.in` what agents publish and answer. It sends requests
to the queue of each capability, with their answers as `reply`, and events and `bus.failed` to the inbox of each agent.
Payloads are CloudEvents in structured mode, whose `data` is the type's contract.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bus.config.pages.gather import Book, file_of
from bus.config.pages.schemas import SchemaParts
from bus.core import message, naming
from bus.core.expression import Contract
from bus.core.identity import GATEWAY
from bus.core.message import FAILED, Json
from bus.core.route import Agent
from bus.core.table import fits

_IN = "in"
_CONTENT = "application/cloudevents+json"

_ATTRIBUTES: dict[str, tuple[str, str]] = {
    message.SPECVERSION: ("string", "Version of CloudEvents: `1.0`."),
    message.ID: ("string", "Unique with `source`; a repeat of the same id is taken once."),
    message.SOURCE: ("string", "The agent that sends it."),
    message.TYPE: ("string", "The message type."),
    message.TIME: ("string", "When it was made, RFC 3339."),
    message.SUBJECT: ("string", "What it is about."),
    message.DATACONTENTTYPE: ("string", "`application/json`."),
    message.CONVERSATION: (
        "string",
        "The conversation, which keeps its order; the id of its first message without one.",
    ),
    message.CORRELATION: ("string", "The id of the request that this answers."),
    message.CAUSATION: ("string", "The id of the message that caused this one."),
    message.REPLYTO: ("string", "Return address inside the bus; an answer gives it back as it came."),
    message.EXPIRY: ("string", "Deadline, RFC 3339: past it the message is not delivered."),
    message.HOPS: ("integer", "Counts down at every hop; 0 means stop."),
    message.ATTEMPT: ("integer", "Which try of a task this is."),
    message.FENCE: ("integer", "Which dispatch of a task this is; an answer gives it back."),
    message.LABELS: ("string", "Labels, comma-separated."),
    message.TRACEPARENT: ("string", "W3C trace context."),
}


def asyncapi(book: Book, namespace: str, title: str) -> dict[str, Any]:
    """Write the document.

    Args:
        namespace: prefix of exchanges and queues.
        title: what it is called.
    """
    return _Writer(book, namespace).document(title)


@dataclass(slots=True)
class _Writer:
    book: Book
    namespace: str
    schemas: SchemaParts = field(default_factory=lambda: SchemaParts("#/components/schemas"))
    channels: dict[str, Any] = field(default_factory=dict)
    operations: dict[str, Any] = field(default_factory=dict)
    messages: dict[str, Any] = field(default_factory=dict)

    def document(self, title: str) -> dict[str, Any]:
        self.schemas.parts |= {"cloudevent": _cloudevent(), FAILED: _failed()}
        self._ingress()
        for chapter in self.book.chapters:
            for type_, description in chapter.types:
                self._message(type_.name, type_.contract, description)
            for capability, description in chapter.capabilities:
                self._capability(capability.name, capability.request, capability.reply, description)
        self._message(FAILED, None, "What became of a message that was refused or could not be delivered.")
        for chapter in self.book.chapters:
            for agent, description in chapter.agents:
                self._published(agent.name, agent.publishes)
                self._inbox(agent, description)
        if GATEWAY in self.book.catalog.agents:
            self._published(GATEWAY, self.book.catalog.agents[GATEWAY].publishes)
        return {
            "asyncapi": "3.0.0",
            "info": {
                "title": title,
                "version": self.book.version,
                "description": "\n\n".join(
                    f"**{each.name}**: {each.description or 'an integration'}" for each in self.book.chapters
                ),
            },
            "defaultContentType": _CONTENT,
            "channels": self.channels,
            "operations": self.operations,
            "components": {"messages": self.messages, "schemas": self.schemas.parts},
        }

    # --- messages ---

    def _message(self, type_: str, contract: Contract | None, description: str = "") -> None:
        path = file_of(contract)
        if type_ == FAILED:
            data: dict[str, Json] = {"$ref": f"{self.schemas.root}/{FAILED}"}
        else:
            data = {"description": "Anything."} if path is None else self.schemas.ref(path)
        event: dict[str, Json] = {"type": "object", "properties": {message.TYPE: {"const": type_}, "data": data}}
        found: dict[str, Any] = {
            "name": type_,
            "title": type_,
            "contentType": _CONTENT,
            "payload": {"allOf": [{"$ref": f"{self.schemas.root}/cloudevent"}, event]},
            "correlationId": {"location": f"$message.payload#/{message.CONVERSATION}"},
        }
        self.messages[type_] = found | ({"summary": description} if description else {})

    def _carry(self, channel: str, types: Iterable[str]) -> list[dict[str, str]]:
        """Have a channel carry these types; returns the references that an operation needs."""
        carried = self.channels[channel]["messages"]
        names = list(types)
        for name in names:
            carried[name] = {"$ref": f"#/components/messages/{name}"}
        return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]

    # --- channels and operations ---

    def _ingress(self) -> None:
        name = naming.ingress_exchange(self.namespace)
        self.channels[_IN] = {
            "address": name,
            "description": "The only exchange that agents write. The routing key is the conversation.",
            "messages": {},
            "bindings": {"amqp": {"is": "routingKey", "exchange": {"name": name, "durable": True}}},
        }

    def _queue(self, channel: str, name: str, description: str) -> None:
        self.channels[channel] = {
            "address": name,
            "description": description,
            "messages": {},
            "bindings": {"amqp": {"is": "queue", "queue": {"name": name, "durable": True, "exclusive": False}}},
        }

    def _operation(self, name: str, action: str, channel: str, messages: list[dict[str, str]], summary: str) -> None:
        self.operations[name] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": messages,
            "summary": summary,
        }

    def _capability(self, name: str, request: Contract, reply: Contract, description: str) -> None:
        asked, replied, failed = f"{name}.requested", f"{name}.replied", f"{name}.failed"
        self._message(asked, request, description)
        self._message(replied, reply)
        self._message(failed, None, "Why an agent could not answer.")
        channel = f"capability.{name}"
        agents = [each.name for each in self.book.catalog.agents.values() if name in each.capabilities]
        served = f"Work for any agent that has the capability: {', '.join(agents) or 'none has'}."
        self._queue(channel, naming.capability_queue(self.namespace, name), served)
        self._operation(
            f"ask-{name}", "send", channel, self._carry(channel, [asked]), description or f"Ask for {name}."
        )
        answers = self._carry(_IN, [replied, failed])
        self.operations[f"ask-{name}"]["reply"] = {"channel": {"$ref": f"#/channels/{_IN}"}, "messages": answers}

    def _published(self, agent: str, types: tuple[str, ...]) -> None:
        if types:
            self._operation(f"receive-from-{agent}", "receive", _IN, self._carry(_IN, types), f"What {agent} may send.")

    def _inbox(self, agent: Agent, description: str) -> None:
        """What an agent's own queue brings: events, requests that are for it alone, and word of what was refused."""
        channel = f"agent.{agent.name}"
        asked = [f"{name}.requested" for name in agent.capabilities]
        wanted = [type_ for type_ in self.messages if any(fits(pattern, type_) for pattern in agent.subscribes)]
        self._queue(channel, naming.agent_queue(self.namespace, agent.name), description or f"Inbox of {agent.name}.")
        carried = self._carry(channel, dict.fromkeys([*asked, *wanted, FAILED]))
        self._operation(f"deliver-to-{agent.name}", "send", channel, carried, f"What {agent.name} gets.")


def _cloudevent() -> Json:
    return {
        "type": "object",
        "description": "A CloudEvent 1.0 in structured mode. Binary mode, with `ce-` headers, is taken as well.",
        "required": [message.SPECVERSION, message.ID, message.SOURCE, message.TYPE],
        "properties": {name: {"type": kind, "description": doc} for name, (kind, doc) in _ATTRIBUTES.items()},
    }


def _failed() -> Json:
    finding: Json = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in ("pointer", "expected", "got")},
    }
    return {
        "type": "object",
        "required": ["class", "code", "reason", "findings"],
        "properties": {
            **{key: {"type": "string"} for key in ("class", "code", "reason", "step", "agent")},
            "findings": {"type": "array", "items": finding, "description": "Every failing field."},
        },
    }


__all__ = ["asyncapi"]
