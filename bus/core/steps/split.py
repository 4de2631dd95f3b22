"""Splitter: each item of a list, or each line of a text, goes its own way through a flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from bus.core import strict_json
from bus.core.errors import Refused, StepFailed
from bus.core.expression import Expression
from bus.core.flow import RouteFailed, run_within, step_failed
from bus.core.joins import Join, closed, made, outcome
from bus.core.message import Json
from bus.core.parts import part
from bus.core.paths import put
from bus.core.spec import JOIN, Expr, Field, Integer, PathTo, Record, Spec
from bus.core.work import MOST_ITEMS, Ended, Flow, Step, Suspended, Work

MOST_BYTES = 16 * 1024 * 1024
"""Of data that the items of one message send at once: far more than it has, and far less than a store minds."""
_TOLD = 20  # items whose notes are kept: a thousand of them would be most of the log


def build(parsed: dict[str, Any]) -> Step:
    each: Expression | None = parsed.get("each")
    lines: Expression | None = parsed.get("lines")
    flow: Flow = parsed["flow"]
    if (each is None) == (lines is None):
        raise ValueError("it takes items from one place", "`each: data.items` or `lines: data.text`")
    if not flow.steps and not flow.to:
        raise ValueError("nothing is done with an item", "`to: {...}`, or `steps`")
    if ("join" in parsed) != ("into" in parsed):
        raise ValueError("`join` brings the items together `into` a place", "both, or neither")
    join = made(parsed["join"]) if "join" in parsed else None
    if join is not None and join.require:
        raise ValueError("items have no names that `require` could give", "`policy: all`, or a quorum")
    run = _item(flow)
    most_open: int = parsed.get("parallel", 1)

    def step(work: Work) -> Ended | None:
        items = _lines(lines, work) if lines is not None else _list(each, work)
        if len(items) > work.items_left:
            raise StepFailed("refusal", f"{len(items)} items; a message is split into at most {MOST_ITEMS}")
        work.items_left -= len(items)
        work.notes.append(f"split: {len(items)} items")
        if join is not None:
            put(work.names, parsed["into"], _joined(items, run, join, most_open, work))
        elif work.memory is not None:
            _all(items, run, most_open, work)
        else:
            for index, item in enumerate(items):
                branch = _branch(work, item, index)
                try:
                    run(branch)
                finally:
                    work.items_left = branch.items_left
        return None

    return step


def _joined(items: list[Json], run: Callable[[Work], Json], join: Join, most_open: int, work: Work) -> dict[str, Json]:
    """What the items have come to, together."""
    memory, at = work.remembering, work.at
    found = cast("dict[str, Any] | None", memory.known(f"{at}#joined"))
    if found is None:
        late = join.deadline_s is not None and memory.passed(f"{at}#deadline", join.deadline_s)
        results, failures, waiting = _gather(items, run, most_open, work)
        names = {str(index): result for index, (result, _) in results.items()}
        failed = {str(index): error.failure for index, error in failures.items()}
        if not closed(join, names, failed, [str(index) for index in waiting], late=late):
            raise Suspended
        missing = cast("list[Json]", sorted([*failures, *waiting]))
        by_index: list[Json] = [names.get(str(index)) for index in range(len(items))]
        labels: list[Json] = [*dict.fromkeys(labels for _, labels in results.values())]
        found = {**outcome(by_index, missing, len(items)), "labels": labels, "left": work.items_left}
        memory.close(at)
        memory.keep(f"{at}#joined", found)
    work.items_left = found["left"]
    for gained in found["labels"]:
        work.gain(gained)
    return {name: found[name] for name in ("results", "completeness", "missing", "degraded")}


def _all(items: list[Json], run: Callable[[Work], Json], most_open: int, work: Work) -> None:
    """Have all items go their way; nothing comes back."""
    memory, at = work.remembering, work.at
    left = cast("int | None", memory.known(f"{at}#left"))
    if left is None:
        _, failures, waiting = _gather(items, run, most_open, work)
        for error in failures.values():  # the first of them
            raise error if error.ruled else step_failed(error.failure)
        if waiting:
            raise Suspended
        left = work.items_left
        memory.close(at)
        memory.keep(f"{at}#left", left)
    work.items_left = left


def _gather(
    items: list[Json], run: Callable[[Work], Json], most_open: int, work: Work
) -> tuple[dict[int, tuple[Json, str]], dict[int, RouteFailed], list[int]]:
    """Go on with each item that may: results with their labels, failures, and those that are still to come."""
    results: dict[int, tuple[Json, str]] = {}
    failures: dict[int, RouteFailed] = {}
    waiting: list[int] = []
    for index, item in enumerate(items):
        if len(waiting) >= most_open:
            waiting.append(index)
            continue
        try:
            results[index] = part(work, f"[{index}]", partial(_branch, work, item, index), run)
        except Suspended:
            waiting.append(index)
        except RouteFailed as error:
            failures[index] = error
    return results, failures, waiting


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


def _branch(work: Work, item: Json, index: int) -> Work:
    branch = work.branch(f"[{index}]", item)
    branch.names["index"] = index
    return branch


def _item(flow: Flow) -> Callable[[Work], Json]:
    def run(branch: Work) -> Json:
        index = cast("int", branch.names["index"])
        mark, told = len(branch.sent), len(branch.notes)
        try:
            ended = run_within(flow, branch)
            _weigh(branch, mark)
        except RouteFailed as failed:
            failure = replace(failed.failure, reason=f"item {index}: {failed.failure.reason}")
            raise RouteFailed(failure, failed.then, ruled=True) from failed
        except StepFailed as failed:
            failed.reason = f"item {index}: {failed.reason}"
            raise
        finally:
            branch.notes[told:] = [f"[{index}] {note}" for note in branch.notes[told:]] if index < _TOLD else []
            # The asker gets one answer; a copy for each item can't be it.
            branch.sent[mark:] = [each._replace(answerable=False) for each in branch.sent[mark:]]
        return None if ended is not None and ended.how == "filtered" else branch.names["data"]

    return run


def _weigh(branch: Work, mark: int) -> None:
    """Bound what is sent at once: a large message that goes along with each of its items is a thousand large ones."""
    try:
        branch.weighed[0] += sum(len(strict_json.dump(each.data)) for each in branch.sent[mark:])
    except Refused as refused:
        raise StepFailed("internal", refused.reason) from refused
    if branch.weighed[0] > MOST_BYTES:
        raise StepFailed("refusal", f"the items come to more than {MOST_BYTES // 1024**2} MiB; send less with each")


SPEC = Spec(
    kind="split",
    pattern="Splitter",
    summary="Runs the flow once for each item, with the item as `data`, its number as `index` and a copy of `vars`, "
    "and goes on. Without `join` nothing comes back: items leave by `to`, without a return address, and one that fails "
    "fails the message; nothing is sent then, but what left while another item waited. With `join`, `into` gets "
    "`{results, completeness, missing, degraded}`: the `data` at the end of each item's flow, by index, null for one "
    f"that was filtered, failed or is late. A message is split into at most {MOST_ITEMS} items in all, and what they "
    f"send at once is {MOST_BYTES // 1024**2} MiB at most.",
    shape=Record(
        {
            "each": Field(Expr("list"), "CEL giving the items.", required=False),
            "lines": Field(Expr("string"), "CEL giving a text, each of whose lines is an item.", required=False),
            "parallel": Field(Integer(1), "Items that may wait at the same time; 1 unless written.", required=False),
            "join": Field(JOIN, "When the results are enough; without `require`.", required=False),
            "into": Field(PathTo(), "Where the outcome goes.", required=False),
        },
        flow=True,
    ),
    build=build,
    memory=lambda parsed: "join" in parsed,
    example="""\
split:
  each: data.channels
  to: {event: notice.sms, data: {to: "{{ data }}", number: "{{ index }}"}}
""",
)
