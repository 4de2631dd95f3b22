"""`bus control`: what an operator tells a running bus. Each is a message to the bus, and stands in its log."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import rich_click as click

from bus.cli.common import Printer, count, ingress_of, output_option, settings_of, settings_options
from bus.core.errors import BusError
from bus.core.message import CONTROL, CORRELATION, FAILED, REPLYTO, Json, Message
from bus.core.notices import CONTROL_CONVERSATION

if TYPE_CHECKING:
    from bus.audit.record import Record
    from bus.ports import Inbound
    from bus.settings import Settings

Ask: TypeAlias = Callable[[str, dict[str, Json], "str | None"], Awaitable[tuple[float, "Message | None"]]]

_ANSWER_S = 10.0
_RELOAD_S = 30.0  # a large configuration with many tests takes seconds
_MORE_S = 1.5  # other processes hear of it within a second
_CONNECT_S = 15.0
_ROUNDS = 8  # of pings, until each partition has answered

_route = click.option("--route", metavar="INTEGRATION/ROUTE", help="Messages that this route owns.")
_agent = click.option("--agent", metavar="NAME", help="What is sent to this agent itself.")
_capability = click.option("--capability", metavar="NAME", help="Requests for this capability.")


@click.group()
def control() -> None:
    """Tell a running bus what to do. Each process of it follows within a second.

    The bus must be reached as its own broker user; agents may not. Everything that is said here stands in the log:
    `bus trace bus.control` shows it.

    \b
    Examples:
      bus control pause --route shop/orders       its messages wait, in order
      bus control resume --route shop/orders
      bus control pause --capability grade        requests wait as rows; the agents get no more
      bus control switch premium on               for `detour: {control: premium, ...}`
      bus control reload                          read the files anew, in all processes
      bus control log-level debug
      bus control purge capability.grade --dry-run
      bus control ping                            a test message through each partition
      bus control drain                           all processes finish and end
    """


def _target(route: str | None, agent: str | None, capability: str | None) -> dict[str, Json]:
    given = {"route": route, "agent": agent, "capability": capability}
    named: dict[str, Json] = {kind: name for kind, name in given.items() if name is not None}
    if len(named) != 1:
        raise click.UsageError("write one of --route, --agent and --capability")
    return named


@control.command()
@_route
@_agent
@_capability
@settings_options
@output_option()
def pause(route: str | None, agent: str | None, capability: str | None, printer: Printer, **flags: Any) -> int:
    """Have messages wait, until `bus control resume`.

    Those of a route are remembered where they come in, and decided in order afterwards, by the configuration that
    is in force then; runs of it that are under way go on. Those to an agent or a capability wait as held rows;
    what lies in its queue already stays there, and events to subscribers still go out.
    """
    return _say("pause", _target(route, agent, capability), flags, printer)


@control.command()
@_route
@_agent
@_capability
@settings_options
@output_option()
def resume(route: str | None, agent: str | None, capability: str | None, printer: Printer, **flags: Any) -> int:
    """Let go on what was paused."""
    return _say("resume", _target(route, agent, capability), flags, printer)


@control.command()
@click.argument("name")
@click.argument("state", type=click.Choice(["on", "off"]))
@settings_options
@output_option()
def switch(name: str, state: str, printer: Printer, **flags: Any) -> int:
    """Turn a control on or off that `detour` steps look at."""
    return _say("switch", {"control": name, "on": state == "on"}, flags, printer)


@control.command("log-level")
@click.argument("level", type=click.Choice(["debug", "info", "warning", "error", "default"]))
@settings_options
@output_option()
def log_level(level: str, printer: Printer, **flags: Any) -> int:
    """Change the log level of all processes, also of those that start later; `default` is what BUS_LOG_LEVEL says."""
    return _say("log-level", {"level": level}, flags, printer)


@control.command()
@settings_options
@output_option()
def drain(printer: Printer, **flags: Any) -> int:
    """Have all processes finish what they have committed, and end. Whatever runs them may start them again."""
    return _say("drain", {}, flags, printer)


@control.command()
@settings_options
@output_option()
def reload(printer: Printer, **flags: Any) -> int:
    """Have all processes read their files anew, and say what comes of it. Exit code 1 when it is refused."""
    settings = _settings(flags)
    asked_s = time.time()
    _tell(settings, "reload", {})
    told: list[tuple[Record, list[str]]] = []
    until = time.monotonic() + _RELOAD_S
    while time.monotonic() < until:
        for record, findings in _notices(settings, asked_s)[len(told) :]:
            told.append((record, findings))
            until = min(until, time.monotonic() + _MORE_S)
            said = {"event": record.type, "config": record.config, "reason": record.reason, "findings": findings}
            printer.emit(said, "\n".join([*findings, record.reason]))
        time.sleep(0.2)
    if not told:
        raise BusError("no process has said what came of it; its log may say more")
    return 1 if any(each.type == "bus.config.refused" for each, _ in told) else 0


def _notices(settings: Settings, since_s: float) -> list[tuple[Record, list[str]]]:
    """What processes have said of their configuration since then, each with the findings that it names."""
    from bus import bootstrap

    with contextlib.closing(bootstrap.history(settings)) as history:
        try:
            said = history.conversation(CONTROL_CONVERSATION)
        except BusError:
            return []  # nothing was ever said in it
        found = [each for each in said if each.type.startswith("bus.config.") and each.decided_s >= since_s]
        entries = history.entries(sorted(found, key=lambda each: each.decided_s))
    return [(record, list(json.loads(entry.input)["data"]["findings"])) for record, entry in entries]


@control.command()
@click.argument("queue")
@click.option("--dry-run", is_flag=True, help="Only say how much it is.")
@settings_options
@output_option()
def purge(queue: str, dry_run: bool, printer: Printer, **flags: Any) -> int:
    """Empty a queue: `agent.NAME`, `capability.NAME`, `dead` or `invalid`.

    What is in it is gone for whoever it was for; the log keeps it, and says that it was purged. Requests that are
    purged are never answered.
    """
    from bus import bootstrap
    from bus.shell.probe import connection, queue_states

    settings = _settings(flags)
    if not (queue in ("dead", "invalid") or queue.startswith(("agent.", "capability."))):
        raise click.BadParameter("write agent.NAME, capability.NAME, dead or invalid", param_hint="QUEUE")
    name = f"{settings.namespace}.{queue}"
    with connection(bootstrap.bus_url(settings)) as opened:
        state = queue_states(opened, [name])[name]
        if state is None:
            raise BusError(f"there is no queue {name}; see `bus topology plan`")
        if dry_run:
            said = {"queue": name, "messages": state.depth, "purged": False}
            printer.emit(said, f"{count(state.depth, 'message')} in {name} would go")
            return 0
        _tell(settings, "purge", {"queue": name, "messages": state.depth})
        gone = opened.channel().queue_purge(name).method.message_count
        _tell(settings, "purged", {"queue": name, "messages": gone})
    printer.emit({"queue": name, "messages": gone, "purged": True}, f"{count(gone, 'message')} of {name} purged")
    return 0


@control.command()
@settings_options
@output_option()
def ping(printer: Printer, **flags: Any) -> int:
    """Send test messages until one has come through each partition, and say how long they took.

    A test message takes the way of every other one: it is taken from the ingress, decided, recorded and answered by
    way of the broker. It runs no route and reaches no agent. Exit code 1 when a partition does not answer.
    """
    settings = _settings(flags)
    ingress = ingress_of(settings)
    wanted = {f"{settings.namespace}.ingress.{each:02d}" for each in ingress.served.partitions}
    found = asyncio.run(_pings(settings, wanted))
    for queue in sorted(wanted):
        if queue not in found:
            printer.emit({"queue": queue, "error": "timeout"}, f"{queue}  no answer")
            continue
        seconds, said = found[queue]
        record = {"queue": queue, "ms": round(seconds * 1000, 1), **said}
        standing = "".join(f"  {what}" for what in [*said["paused"], *said["switches"]])
        printer.emit(record, f"{queue}  {seconds * 1000:.1f} ms  configuration {said['config']}{standing}")
    return 0 if wanted <= found.keys() else 1


async def _pings(settings: Settings, wanted: set[str]) -> dict[str, tuple[float, dict[str, Any]]]:
    """By queue, how long the quickest took and what was answered; the broker's hash says which one goes where."""
    found: dict[str, tuple[float, dict[str, Any]]] = {}
    async with _asking(settings) as ask:
        for _ in range(_ROUNDS):
            for seconds, answer in await asyncio.gather(*[ask("ping", {}, None) for _ in range(2 * len(wanted))]):
                said = answer.data if answer is not None and isinstance(answer.data, dict) else {}
                queue = str(said.get("queue"))
                if queue in wanted and (queue not in found or seconds < found[queue][0]):
                    found[queue] = seconds, cast("dict[str, Any]", said)
            if wanted <= found.keys():
                break
    return found


# --- Saying it ----------------------------------------------------------------------------------------------------


def _settings(flags: Mapping[str, Any]) -> Settings:
    """The running bus, to be spoken to as its own broker user."""
    from bus import bootstrap

    settings = bootstrap.running(settings_of(flags))
    limit_s = min(settings.connect_timeout_s, _CONNECT_S)
    return dataclasses.replace(settings, agent_amqp_url=bootstrap.bus_url(settings), connect_timeout_s=limit_s)


def _say(verb: str, data: dict[str, Json], flags: Mapping[str, Any], printer: Printer) -> int:
    answer = _tell(_settings(flags), verb, data)
    said = " ".join([verb, *[str(each) for each in data.values()]])
    printer.emit(
        {"verb": verb, **cast("dict[str, Any]", answer.data)}, f"{said}: every process follows within a second"
    )
    return 0


def _tell(settings: Settings, verb: str, data: dict[str, Json]) -> Message:
    """Say something, and wait for the answer.

    Raises:
        BusError: the bus refuses it, or does not answer.
    """

    async def tell() -> Message | None:
        async with _asking(settings) as ask:
            return (await ask(verb, data, CONTROL_CONVERSATION))[1]

    answer = asyncio.run(tell())
    if answer is None:
        raise BusError(f"the bus did not answer within {_ANSWER_S:g} s; does it run? see `bus doctor`")
    if answer.type == FAILED:
        reason = answer.data.get("reason") if isinstance(answer.data, dict) else None
        raise BusError(f"the bus refuses it: {reason}")
    return answer


@contextlib.asynccontextmanager
async def _asking(settings: Settings) -> AsyncIterator[Ask]:
    """Gives what says one thing, in a conversation or one of its own; it returns the seconds it took and the answer."""
    from bus import bootstrap
    from bus.cli.send import new_message
    from bus.core.identity import CLIENT

    waiting: dict[str, asyncio.Future[Message]] = {}
    link = bootstrap.agent_link(settings, CLIENT)

    async def hear(inbound: Inbound) -> None:
        answered = waiting.pop(inbound.message.text(CORRELATION) or "", None)
        if answered is not None:
            answered.set_result(inbound.message)
        await inbound.settle(True)

    async def ask(verb: str, data: dict[str, Json], conversation: str | None) -> tuple[float, Message | None]:
        message = new_message(CONTROL + verb, data, CLIENT, conversation)
        answered = waiting[message.id] = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        await link.send(Message({**message.attributes, REPLYTO: address}, message.data))
        try:
            answer = await asyncio.wait_for(answered, _ANSWER_S)
        except TimeoutError:
            return _ANSWER_S, None
        return time.perf_counter() - began, answer

    await link.open()
    try:
        address = await link.open_client(hear)
        yield ask
    finally:
        await link.close()
