"""Aggregator: hold the messages of a group until it is complete, and go on with all of them as one.

The first message of a group owns it and waits; each later one adds its data and ends there. The group's head and each
of its items are cells, so that adding an item costs the same however many there are.
"""

from __future__ import annotations

from typing import Any, cast

from bus.core import strict_json
from bus.core.errors import Refused, StepFailed
from bus.core.expression import Expression
from bus.core.message import Json
from bus.core.paths import put
from bus.core.spec import Choice, Duration, Expr, Field, PathTo, Record, Spec
from bus.core.work import MOST_ITEMS, Ended, Memory, Step, Work

_KEPT_S = 7 * 86400.0  # of a group whose owner is never heard of again
_MOST_BYTES = 2 * 1024 * 1024  # of a group: half of what its owner may remember


def build(parsed: dict[str, Any]) -> Step:
    by: Expression = parsed["by"]
    deadline_s: float = parsed["join"]["deadline"]
    partial: bool = parsed["join"].get("on_deadline") == "partial"
    if len(parsed["complete"]) != 1:
        raise ValueError("`complete` is one of `count` and `when`", "`complete: {count: data.total}`")

    def step(work: Work) -> Ended | None:
        memory, at = work.remembering, work.at
        found = cast("dict[str, Any] | None", memory.known(f"{at}#joined"))
        if found is None:
            key = str(memory.once(f"{at}#key", lambda: memory.key(at, by(work.names))))
            name = memory.known(f"{at}#owns")
            if name is None:
                name, group = _join(work, key, parsed["complete"], memory.now_s + deadline_s + _KEPT_S)
                if group["run"] != work.run:
                    return Ended("consumed", f"it is number {group['n']} of a group that run {group['run']} owns")
                memory.keep(f"{at}#owns", name)
            if not memory.cell(f"{key}:{name}")["whole"]:
                memory.rest(f"{at}#told", memory.now_s + deadline_s)
            found = _collect(memory, key, str(name))
            memory.keep(f"{at}#joined", found)
        _go_on(work, found, partial, parsed["into"])
        return None

    return step


def _join(work: Work, key: str, complete: dict[str, Expression], until_s: float) -> tuple[str, dict[str, Any]]:
    """Add the message to the group of its key.

    A group that is whole is not the key's group any more: the next message begins another.

    Returns:
        The name of the group, which is part of the keys of its cells, and its head.
    """
    memory, data = work.remembering, work.names["data"]
    current = memory.cell(key)
    name = current.get("group", work.run[:12])
    group = memory.cell(f"{key}:{name}")
    orphan = bool(group) and not memory.waits(group["run"], group["told"])
    number = group["mine"] if orphan else group.get("n", 0)  # what its owner brought is set aside with that one
    count = group["n"] if orphan else number + 1
    of, whole = _complete(complete, {**work.names, "index": count - 1}, count)
    try:
        size = group.get("bytes", 0) + len(strict_json.dump(data))
    except Refused as refused:
        raise StepFailed("internal", refused.reason) from refused
    if number >= MOST_ITEMS or size > _MOST_BYTES:
        raise StepFailed("refusal", f"a group has at most {MOST_ITEMS} messages and {_MOST_BYTES} bytes")
    if orphan or not group:
        group.update({"run": work.run, "told": f"{work.at}#told", "mine": number})
    group.update({"n": count, "of": of, "whole": whole, "bytes": size, "until": until_s})
    item: dict[str, Json] = {"data": data, "labels": work.label_text, "until": until_s}
    memory.cell(f"{key}:{name}.{number}").update(item)
    current.update({"group": name, "until": until_s})
    if whole:
        current.clear()
        memory.tell(group["run"], group["told"], True)
    return name, group


def _complete(complete: dict[str, Expression], names: dict[str, Json], number: int) -> tuple[int | None, bool]:
    """How many the group has when it is whole, as far as known, and whether it is."""
    if "when" in complete:
        return None, complete["when"](names) is True
    of = complete["count"](names)
    if not isinstance(of, int) or isinstance(of, bool):
        raise StepFailed("internal", f"`count` gives no whole number: {complete['count'].text}")
    return of, number >= of


def _collect(memory: Memory, key: str, name: str) -> dict[str, Json]:
    """Take a group out of its cells."""
    group = memory.cell(f"{key}:{name}")
    results: list[Json] = []
    labels: list[Json] = []
    for number in range(group["n"]):
        item = memory.cell(f"{key}:{name}.{number}")
        results.append(item["data"])
        labels.append(item["labels"])
        item.clear()
    found: dict[str, Json] = {"results": results, "labels": labels, "of": group["of"], "degraded": not group["whole"]}
    if memory.cell(key).get("group") == name:
        memory.cell(key).clear()
    group.clear()
    return found


def _go_on(work: Work, group: dict[str, Any], partial: bool, into: tuple[str, ...]) -> None:
    results, of, whole = group["results"], group["of"], not group["degraded"]
    if not whole and not partial:
        known = "" if of is None else f" of {of}"
        raise StepFailed("timeout", f"the deadline passed with {len(results)}{known} messages", code="join")
    for labels in group["labels"]:
        work.gain(labels)
    missing = list(range(len(results), of or 0))
    complete = 1.0 if whole else len(results) / of if of else 0.0
    what = "1 message" if len(results) == 1 else f"{len(results)} messages"
    work.notes.append(f"aggregate: {what}{'' if whole else ', not all'}")
    outcome: dict[str, Json] = {"results": results, "completeness": complete, "missing": cast("Json", missing)}
    put(work.names, into, {**outcome, "degraded": not whole})


SPEC = Spec(
    kind="aggregate",
    pattern="Aggregator",
    summary="Brings the messages with one key together: the first waits, the others end as consumed, and when the "
    "group is complete the first goes on with the data of all, in the order in which they came. `into` gets `{results: "
    "[data], completeness, missing, degraded}`; `completeness` is 0 when a group that is not whole has no `count`. "
    "Groups are those of a `serial_by` key of the route, whose other messages go on while one waits here, or, with a "
    "`by` that reads `msg.conversationid`, of a conversation. What comes after a group is complete begins another. The "
    "answer goes to who sent the first.",
    shape=Record(
        {
            "by": Field(Expr(), "CEL giving the key of the group."),
            "complete": Field(
                Record(
                    {
                        "count": Field(Expr(), "CEL giving how many messages a group has.", required=False),
                        "when": Field(Expr("bool"), "CEL that is true for the last one.", required=False),
                    }
                ),
                "When it is complete: `count` or `when`, asked for each message; `index` counts those before it.",
            ),
            "join": Field(
                Record(
                    {
                        "deadline": Field(Duration(), "How long the first one waits."),
                        "on_deadline": Field(
                            Choice(("fail", "partial")), "What happens then; `fail` unless written.", required=False
                        ),
                    }
                ),
                "What becomes of a group that is not complete in time.",
            ),
            "into": Field(PathTo(), "Where the outcome goes."),
        }
    ),
    build=build,
    memory=True,
    example="""\
aggregate:
  by: msg.conversationid
  complete: {count: "3"}
  join: {deadline: 1h, on_deadline: partial}
  into: data.all
""",
)
