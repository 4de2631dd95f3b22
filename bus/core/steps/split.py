"""Splitter: each item of a list, or each line of a text, goes its own way through a flow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bus.core.errors import StepFailed
from bus.core.expression import Expression
from bus.core.flow import RouteFailed, run_within
from bus.core.message import Json
from bus.core.spec import Expr, Field, Record, Spec
from bus.core.work import MOST_ITEMS, Ended, Flow, Step, Work

_TOLD = 20  # items whose notes are kept: a thousand of them would be most of the log


def build(parsed: dict[str, Any]) -> Step:
    each: Expression | None = parsed.get("each")
    lines: Expression | None = parsed.get("lines")
    flow: Flow = parsed["flow"]
    if (each is None) == (lines is None):
        raise ValueError("it takes items from one place", "`each: data.items` or `lines: data.text`")
    if not flow.steps and not flow.to:
        raise ValueError("nothing is done with an item", "`to: {...}`, or `steps`")

    def step(work: Work) -> Ended | None:
        items = _lines(lines, work) if lines is not None else _list(each, work)
        if len(items) > work.items_left:
            raise StepFailed("refusal", f"{len(items)} items; a message is split into at most {MOST_ITEMS}")
        work.items_left -= len(items)
        work.notes.append(f"split: {len(items)} items")
        for index in range(_first(work), len(items)):
            _run(flow, work, items[index], index)
            _done(work, index)
        return None

    return step


def _first(work: Work) -> int:
    """The first item that is not done yet."""
    done = None if work.memory is None else work.memory.known(f"{work.at}#done")
    return done if isinstance(done, int) else 0


def _done(work: Work, index: int) -> None:
    """An item is over; all that a flow with memory must know of it is that."""
    if work.memory is not None:
        work.memory.close(f"{work.at}[{index}]")
        work.memory.keep(f"{work.at}#done", index + 1)


def _list(each: Expression | None, work: Work) -> list[Json]:
    assert each is not None  # build() has seen to it
    items = each(work.names)
    if not isinstance(items, list):
        raise StepFailed("internal", f"`each` gives no list: {each.text}")
    return items


def _lines(lines: Expression, work: Work) -> list[Json]:
    text = lines(work.names)
    if not isinstance(text, str):
        raise StepFailed("internal", f"`lines` gives no text: {lines.text}")
    # Not splitlines(): U+2028 and the like are no ends of lines in CSV, and may stand inside a JSON line.
    found = [line.removesuffix("\r") for line in text.split("\n")]
    if found[-1] == "":
        found.pop()
    return [*found]


def _run(flow: Flow, work: Work, item: Json, index: int) -> None:
    part, mark, told = work.branch(f"[{index}]", item), len(work.sent), len(work.notes)
    part.names["index"] = index
    try:
        run_within(flow, part)
    except RouteFailed as failed:
        failure = replace(failed.failure, reason=f"item {index}: {failed.failure.reason}")
        raise RouteFailed(failure, failed.then, ruled=True) from failed
    except StepFailed as failed:
        failed.reason = f"item {index}: {failed.reason}"
        raise
    finally:
        work.items_left = part.items_left
        work.notes[told:] = [f"[{index}] {note}" for note in work.notes[told:]] if index < _TOLD else []
        # The asker gets one answer; a copy for each item can't be it.
        work.sent[mark:] = [each._replace(answerable=False) for each in work.sent[mark:]]


SPEC = Spec(
    kind="split",
    pattern="Splitter",
    summary="Runs the flow once for each item, with the item as `data`, its number as `index` and a copy of `vars`, "
    "and goes on; nothing comes back. Items leave by `to`, without a return address. A message is split into at most "
    f"{MOST_ITEMS} items in all. An item that fails fails the message, and nothing of it is sent, unless an `on_error` "
    "resumes.",
    shape=Record(
        {
            "each": Field(Expr("list"), "CEL giving the items.", required=False),
            "lines": Field(Expr("string"), "CEL giving a text, each of whose lines is an item.", required=False),
        },
        flow=True,
    ),
    build=build,
    example="""\
split:
  each: data.channels
  to: {event: notice.sms, data: {to: "{{ data }}", number: "{{ index }}"}}
""",
)
