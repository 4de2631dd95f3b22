"""`bus send`: put a message into the bus as the client `cli`, and wait for what becomes of it."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import Printer, dumps, duration_s, output_option, read_json, settings_of, settings_options
from bus.cli.dlq import finding_text
from bus.core.message import (
    CONVERSATION,
    CORRELATION,
    FAILED,
    ID,
    REPLYTO,
    SOURCE,
    SPECVERSION,
    TASK_CLAIMED,
    TIME,
    TYPE,
    Attribute,
    Json,
    Message,
)

if TYPE_CHECKING:
    from bus.ports import AgentLink, Inbound

_CONNECT_S = 10.0


@click.command()
@click.argument("message_type", metavar="TYPE")
@click.argument("data", required=False, metavar="[JSON|@FILE|-]")
@click.option("--wait", is_flag=True, help="Wait for the answer and print it.")
@click.option("--timeout", default="10s", show_default=True, help="How long to wait.")
@click.option("--conversation", metavar="ID", help="Conversation to send in; without it, a new one.")
@click.option("--source", default="cli", show_default=True, help="Who says so; `cli` may be anyone's.")
@settings_options
@output_option()
def send(
    message_type: str,
    data: str | None,
    wait: bool,
    timeout: str,
    conversation: str | None,
    source: str,
    printer: Printer,
    **flags: Any,
) -> int:
    """Send one message and, with --wait, print the answer.

    Exit code 1 when the bus or an agent answers with a failure, with each failing field, or when no answer
    comes in time.

    \b
    Examples:
      bus send hello.asked '{"name": "Ada"}' --wait
      bus send customer.inquiry.received @inquiry.json
      echo '{"text": "I lost my card"}' | bus send customer.inquiry.received - --wait --timeout 30s
    """
    import asyncio

    from bus import bootstrap

    if wait and source != "cli":
        raise click.UsageError("only the client `cli` has an inbox of its own to wait at; leave out --source or --wait")
    message = new_message(message_type, None if data is None else read_json(data), source, conversation)
    limit_s = duration_s(timeout)
    settings = bootstrap.running(settings_of(flags))
    # A person waits: what does not answer soon is not there.
    settings = dataclasses.replace(settings, connect_timeout_s=min(settings.connect_timeout_s, _CONNECT_S))
    link = bootstrap.agent_link(settings, source)
    answer = asyncio.run(exchange(link, message, limit_s if wait else None))
    if not wait:
        printer.emit(
            {"id": message.id, "conversation": message.conversation}, f"sent   conversation {message.conversation}"
        )
        return 0
    return _show(message, answer, timeout, printer)


def new_message(type_: str, data: Json, source: str, conversation: str | None) -> Message:
    """Make a message of today, with a random id that starts a conversation unless one is named."""
    from bus.core.times import rfc3339

    identity = secrets.token_hex(16)
    attributes: dict[str, Attribute] = {
        SPECVERSION: "1.0",
        ID: identity,
        SOURCE: source,
        TYPE: type_,
        TIME: rfc3339(time.time()),
        CONVERSATION: conversation or identity,
    }
    return Message(attributes, data)


async def exchange(link: AgentLink, message: Message, limit_s: float | None) -> Message | None:
    """Send a message; with a limit, wait for its answer.

    Args:
        link: not yet open; closed when this returns.
        message: without a return address.
        limit_s: seconds to wait for the answer, or None to return after the broker's confirm.

    Returns:
        The answer, or None when none was asked for or none came in time.
    """
    import asyncio

    answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def hear(inbound: Inbound) -> None:
        said = inbound.message
        # A verdict on a claim is no answer, though an agent may have it sent here, under an id that it chose.
        if said.text(CORRELATION) == message.id and said.type != TASK_CLAIMED and not answered.done():
            answered.set_result(said)
        await inbound.settle(True)

    await link.open()
    try:
        if limit_s is None:
            await link.send(message)
            return None
        address = await link.open_client(hear)
        await link.send(Message({**message.attributes, REPLYTO: address}, message.data))
        return await asyncio.wait_for(answered, limit_s)
    except TimeoutError:
        return None
    finally:
        await link.close()


def _show(message: Message, answer: Message | None, timeout: str, printer: Printer) -> int:
    conversation = message.conversation
    record: dict[str, Any] = {"id": message.id, "conversation": conversation}
    if answer is None:
        hint = f"no answer within {timeout}; `bus trace {conversation}` shows how far it came"
        printer.emit({**record, "error": "timeout"}, hint)
        return 1
    record |= {"type": answer.type, "data": answer.data}
    if answer.type == FAILED:
        data = answer.data if isinstance(answer.data, dict) else {}
        printer.emit(record, f"{failure_text(data)}\nconversation {conversation}")
        return 1
    printer.emit(record, f"{dumps(answer.data)}   conversation {conversation}")
    return 0


def failure_text(data: Mapping[str, Json]) -> str:
    """A `bus.failed` as people read it: each failing field, or the reason."""
    findings = data.get("findings")
    if isinstance(findings, list) and findings:
        return "\n".join(f"invalid: {finding_text(each)}" for each in findings)
    return f"{data.get('class', 'failed')}: {data.get('reason', 'no reason given')}"
