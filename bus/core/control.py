"""The control bus: what an operator tells a running bus, by messages like any other, and what stands of it.

    pause, resume   a route, an agent's inbox, a capability: what is for it waits, in order
    switch          a control that `detour` steps look at
    log-level       of all processes
    reload, drain   all processes read their files anew; all processes finish and end
    purge, purged   a queue is about to be emptied, and was: the command does it, the log has it
    ping            says that it came through, and by which configuration

`bus.control.<verb>` is from the client `cli`, and only the broker user of the bus itself may send it, who has every
right anyway; all others are refused (bus.core.identity). What stands, which is all but the last two lines, is
remembered where every process reads it, under keys that begin with `control:`; each follows within a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import orjson

from bus.core.actions import Change, Decision
from bus.core.address import ReturnAddress
from bus.core.errors import Refused
from bus.core.facts import Facts
from bus.core.message import CONTROL, Json, Message
from bus.core.outputs import Outbox
from bus.core.table import RouteTable
from bus.core.telling import place

DONE = "bus.control.done"
"""Type of the answer."""
KEY = "control:"
"""What the keys of what stands begin with."""
PAUSED, SWITCH, LEVEL, STAMP = f"{KEY}paused:", f"{KEY}switch:", f"{KEY}log-level", f"{KEY}stamp:"

PAUSABLE = ("route", "agent", "capability")
LEVELS = ("debug", "info", "warning", "error", "default")

Said = tuple[str, list[Change], dict[str, Json]]
"""What a verb comes to: why, for the log; what is remembered; what the answer says besides."""


def controlled(message: Message, facts: Facts, table: RouteTable, back: ReturnAddress | None, queue: str) -> Decision:
    """Decide a control message, whose sender is checked.

    Raises:
        Refused: `bad-control`: there is no such verb, or not so.
    """
    verb = message.type.removeprefix(CONTROL)
    decide = _VERBS.get(verb)
    if decide is None:
        raise Refused("bad-control", f"there is no `{message.type}`; write one of {', '.join(sorted(_VERBS))}")
    data = message.data if isinstance(message.data, dict) else {}
    why, changes, more = decide(data, message, facts, table)
    outbox = Outbox(message, facts, "control")
    if back is not None:
        kind, name = place(back.address)
        said: dict[str, Json] = {"verb": verb, "config": table.catalog.version, "queue": queue, **more}
        outbox.send(kind, name, DONE, said, correlation=back.asked)
    end = "routed" if outbox.outputs else "filtered"
    outputs, reason = tuple(outbox.outputs), "" if outbox.outputs else why
    return Decision(end, message, why=f"control: {why}", reason=reason, outputs=outputs, changes=tuple(changes))  # type: ignore[arg-type]


def named(data: Mapping[str, Any]) -> str:
    """What is to be paused, `route:shop/orders` for one.

    Raises:
        Refused: it names nothing, or more than one thing.
    """
    given = [(kind, data[kind]) for kind in PAUSABLE if kind in data]
    if len(given) != 1 or not isinstance(given[0][1], str):
        raise Refused("bad-control", "write one of `route`, `agent` and `capability`, with a name")
    return f"{given[0][0]}:{given[0][1]}"


def _pause(data: Mapping[str, Any], message: Message, facts: Facts, table: RouteTable) -> Said:
    what = named(data)
    kind, _, name = what.partition(":")
    route = table.route(name)
    known = {
        "route": route,
        "agent": table.catalog.agents.get(name),
        "capability": table.catalog.capabilities.get(name),
    }
    if known[kind] is None:
        raise Refused("bad-control", f"there is no {kind} `{name:.100}`; see `bus graph`")
    if route is not None and route.observe:
        raise Refused("bad-control", f"route `{name}` only observes; pause the route that owns the message")
    return f"pause {what}", [_stands(PAUSED + what, True, facts)], {}


def _resume(data: Mapping[str, Any], message: Message, facts: Facts, table: RouteTable) -> Said:
    what = named(data)
    return f"resume {what}", [Change(PAUSED + what, None)], {}


def _switch(data: Mapping[str, Any], message: Message, facts: Facts, table: RouteTable) -> Said:
    name, on = data.get("control"), data.get("on")
    if not isinstance(name, str) or not name or len(name) > 100 or not isinstance(on, bool):
        raise Refused("bad-control", "write `control` with a name and `on` with true or false")
    if on and name not in table.catalog.controls:
        known = ", ".join(sorted(table.catalog.controls)) or "none"
        raise Refused("bad-control", f"no `detour` looks at `{name}`; write one of: {known}")
    change = _stands(SWITCH + name, True, facts) if on else Change(SWITCH + name, None)
    return f"switch {name} {'on' if on else 'off'}", [change], {}


def _log_level(data: Mapping[str, Any], message: Message, facts: Facts, table: RouteTable) -> Said:
    level = data.get("level")
    if level not in LEVELS:
        raise Refused("bad-control", f"write `level` with one of {', '.join(LEVELS)}")
    change = Change(LEVEL, None) if level == "default" else _stands(LEVEL, cast("Json", level), facts)
    return f"log level {level}", [change], {}


def _stamp(verb: str) -> Callable[..., Said]:
    def stamp(data: Mapping[str, Any], message: Message, facts: Facts, table: RouteTable) -> Said:
        return verb, [_stands(STAMP + verb, message.id, facts)], {}

    return stamp


def _purge(data: Mapping[str, Any], message: Message, facts: Facts, table: RouteTable) -> Said:
    queue, count = data.get("queue"), data.get("messages")
    if not isinstance(queue, str) or not isinstance(count, int):
        raise Refused("bad-control", "write `queue` with its name and `messages` with their number")
    verb = message.type.removeprefix(CONTROL)
    return f"{verb} {queue:.200}, {count} messages", [], {}


def _ping(data: Mapping[str, Any], message: Message, facts: Facts, table: RouteTable) -> Said:
    standing: dict[str, Json] = {
        "paused": cast("Json", sorted(facts.paused)),
        "switches": cast("Json", sorted(name for name, on in facts.controls.items() if on)),
    }
    return "ping", [], standing


def _stands(key: str, value: Json, facts: Facts) -> Change:
    return Change(key, orjson.dumps({"value": value, "at": facts.now_s}))


_VERBS: Mapping[str, Callable[[Mapping[str, Any], Message, Facts, RouteTable], Said]] = {
    "pause": _pause,
    "resume": _resume,
    "switch": _switch,
    "log-level": _log_level,
    "reload": _stamp("reload"),
    "drain": _stamp("drain"),
    "purge": _purge,
    "purged": _purge,
    "ping": _ping,
}
