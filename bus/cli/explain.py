"""`bus explain`: what the bus would do with a message, decided by the same core, without a broker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import Printer, dumps, folders_of, output_option, read_json
from bus.cli.dlq import finding_text
from bus.cli.send import new_message
from bus.cli.tap import failure_data
from bus.core.message import REPLYTO, Json, Message

if TYPE_CHECKING:
    from bus.config.watch import Seen
    from bus.core.actions import Decision, Delivery, Output

_STRUCTURED = "application/cloudevents+json"
_SHOWN = 100  # characters of a value; JSON output has it whole


@click.command()
@click.argument("message_type", metavar="TYPE")
@click.argument("data", required=False, metavar="[JSON|@FILE|-]")
@click.option("--routes", "paths", multiple=True, type=click.Path(path_type=Path), help="Folder; may be repeated.")
@click.option("--source", default="cli", show_default=True, help="The agent that sends it.")
@click.option("--conversation", metavar="ID", help="Conversation that it belongs to.")
@output_option()
def explain(
    message_type: str,
    data: str | None,
    paths: tuple[Path, ...],
    source: str,
    conversation: str | None,
    printer: Printer,
) -> int:
    """Show the route that would take a message, why, what each step does, and what would be sent.

    Every expression on the way is shown with its place, what it gave, and the value of each name that it read.

    Nothing is sent, and no broker is needed. Exit code 1 when the message would be refused or could not
    be delivered.

    \b
    Examples:
      bus explain hello.asked '{"name": "Ada"}'
      bus explain customer.inquiry.received @inquiry.json --routes routes/customer_service
      bus explain sentiment.replied '{"score": 0.2}' --source sentiment
    """
    from bus import bootstrap
    from bus.config.watch import Watch
    from bus.core.pipeline import decide
    from bus.core.running import REHOMED

    watch = Watch()
    table = bootstrap.table(bootstrap.load(folders_of(paths), watch=watch))
    message = new_message(message_type, None if data is None else read_json(data), source, conversation)
    facts = bootstrap.facts(now_s=time.time())
    decision = decide(_delivery(message), table, facts)
    if decision.why == REHOMED:  # to the partition of its key, where it is decided: the same to whoever looks at it
        watch.seen.clear()
        (home,) = decision.outputs
        decision = decide(_delivered(home, facts.bus_user), table, facts)
    printer.emit(_record(decision, watch.seen), _text(decision, watch.seen))
    return 0 if decision.end in ("routed", "filtered", "waiting") else 1


def _delivery(message: Message) -> Delivery:
    from bus.core.actions import Delivery
    from bus.core.codec import encode

    attributes = dict(message.attributes)
    if message.source == "cli":
        attributes[REPLYTO] = "client:explain"
    body = encode(attributes, message.data)
    return Delivery(body, _STRUCTURED, {}, None, message.id, message.type, message.conversation, "explain")


def _delivered(output: Output, bus: str) -> Delivery:
    """What the bus published, as it comes back to it."""
    from bus.core.actions import Delivery

    where = output.conversation
    return Delivery(output.body, output.content_type, output.headers, bus, output.id, output.type, where, "explain")


def _record(decision: Decision, seen: list[Seen]) -> dict[str, Any]:
    return {
        "end": decision.end,
        "route": decision.route,
        "where": decision.where,
        "why": decision.why,
        "reason": decision.reason,
        "expressions": [seen_data(each) for each in seen],
        "steps": list(decision.steps),
        "failure": None if decision.failure is None else failure_data(decision.failure),
        "outputs": [_output(each) for each in decision.outputs],
    }


def _output(output: Output) -> dict[str, Any]:
    return {
        "target": output.target,
        "type": output.type,
        "id": output.id,
        "data": _data(output),
        "expires_ms": output.expires_ms,
    }


def _data(output: Output) -> Json:
    import orjson

    try:
        event = orjson.loads(output.body)
    except orjson.JSONDecodeError:
        return output.body.decode("utf-8", "backslashreplace")
    data: Json = event.get("data") if isinstance(event, dict) else event
    return data


def seen_data(seen: Seen) -> dict[str, Any]:
    """One evaluation, for programs."""
    from bus.config.watch import ABSENT

    # A name that is not there is left out: null would be a value.
    reads = {name: value for name, value in seen.reads if value is not ABSENT}
    absent = [name for name, value in seen.reads if value is ABSENT]
    outcome = {"error": seen.error} if seen.error else {"value": seen.value}
    return {"place": seen.place, "text": seen.text, **outcome, "reads": reads, "absent": absent}


def seen_text(seen: Seen) -> str:
    """One evaluation, for people."""
    from bus.config.watch import ABSENT

    text = " ".join(seen.text.split())
    told = [(name, value) for name, value in seen.reads if text != f"{{{{ {name} }}}}"]  # that is its own value
    reads = ", ".join(f"{name} is absent" if value is ABSENT else f"{name} = {_short(value)}" for name, value in told)
    outcome = f"failed, {seen.error}" if seen.error else _short(seen.value)
    return f"{seen.place}  {text}: {outcome}" + (f" ({reads})" if reads else "")


def _short(value: object) -> str:
    text = dumps(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _text(decision: Decision, seen: list[Seen]) -> str:
    where = f" ({decision.where}, {decision.why})" if decision.where else f" ({decision.why})" if decision.why else ""
    lines = [f"{decision.end}: route {decision.route}{where}" if decision.route else f"{decision.end}{where}"]
    lines += [f"  {seen_text(each)}" for each in seen]
    lines += [f"  step {each}" for each in decision.steps]
    if decision.failure is not None:
        lines.append(f"  {decision.failure.failure} [{decision.failure.code}]: {decision.failure.reason}")
        lines += [f"  invalid: {finding_text(each)}" for each in failure_data(decision.failure)["findings"]]
    elif decision.reason:
        lines.append(f"  {decision.reason}")
    lines += [f"  -> {each.target}  {each.type}  {dumps(_data(each))}" for each in decision.outputs]
    return "\n".join(lines)
