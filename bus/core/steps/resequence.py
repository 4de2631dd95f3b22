"""Resequencer: let messages go on in the order of their numbers; who comes too early waits.

A cell of the key holds the number whose turn it is, and who waits with which number. Who goes on tells the one with the
next number. What happens at a gap is the same for all: the lowest number that waits is next.
"""

from __future__ import annotations

from typing import Any

from bus.core.errors import StepFailed
from bus.core.expression import Expression
from bus.core.spec import Choice, Duration, Expr, Field, Integer, Record, Spec
from bus.core.work import MOST_ITEMS, Ended, Memory, Step, Work

_KEPT_S = 7 * 86400.0  # after the last message of a key: then its place is forgotten


def build(parsed: dict[str, Any]) -> Step:
    by: Expression = parsed["by"]
    sequence: Expression = parsed["sequence"]
    deadline_s: float = parsed["deadline"]
    release: bool = parsed["on_gap"] == "release"
    first: int = parsed.get("first", 1)

    def step(work: Work) -> Ended | None:
        memory, at = work.remembering, work.at
        if memory.known(f"{at}#passed") is not None:
            return None
        number = sequence(work.names)
        if not isinstance(number, int) or isinstance(number, bool):
            raise StepFailed("internal", f"`sequence` gives no whole number: {sequence.text}")
        key = str(memory.once(f"{at}#key", lambda: memory.key(at, by(work.names))))
        line = memory.cell(key)
        line["until"] = memory.now_s + max(deadline_s, _KEPT_S)
        line.setdefault("waiting", {})
        if memory.first(f"{at}#came") and _is_late(line, number, first):
            if not release:
                raise StepFailed("expired", f"number {number} has come before, or after its turn", code="late")
            work.notes.append(f"resequence: {number} goes on late")
        else:
            _await(work, line, number, deadline_s, release)
            del line["waiting"][str(number)]
            line["next"] = number + 1
            _advance(memory, line, work.run)
            work.notes.append(f"resequence: {number}")
        memory.keep(f"{at}#passed", number)
        return None

    return step


def _is_late(line: dict[str, Any], number: int, first: int) -> bool:
    """A message has come: begin with it what can begin; returns whether its turn is over."""
    if "next" not in line and number <= first:
        line["next"] = number
    return str(number) in line["waiting"] or ("next" in line and number < line["next"])


def _await(work: Work, line: dict[str, Any], number: int, deadline_s: float, release: bool) -> None:
    """Wait for the turn.

    Raises:
        StepFailed: it does not come.
    """
    memory, waiting = work.remembering, line["waiting"]
    told, times = "", 0
    while True:
        told, times = f"{work.at}#told{times}", times + 1
        if len(waiting) >= MOST_ITEMS and str(number) not in waiting and line.get("next") != number:
            raise StepFailed("refusal", f"{MOST_ITEMS} messages wait for those before them, and that is the most")
        waiting[str(number)] = [work.run, told]
        if line.get("next") == number:
            return
        if memory.rest(told, memory.now_s + deadline_s) is None and memory.first(f"{told}#over"):
            _give_up(memory, line, number, release)
            _advance(memory, line, work.run)
            over = memory.deadline_s is not None and memory.deadline_s <= memory.now_s
            if over and line.get("next") != number:
                del waiting[str(number)]
                raise StepFailed("timeout", f"the turn of number {number} did not come before the deadline")


def _give_up(memory: Memory, line: dict[str, Any], number: int, release: bool) -> None:
    """The deadline of a number has passed: wait no more for those below it that have not come.

    Raises:
        StepFailed: they must not be left out.
    """
    if "next" not in line:  # nothing is known of what was before
        line["next"] = min(int(each) for each in line["waiting"])
    elif release:
        line["to"] = max(line.get("to", number), number)
    elif line["next"] != number:
        del line["waiting"][str(number)]
        raise StepFailed("timeout", f"number {line['next']} did not come, and {number} must not go before", code="gap")


def _advance(memory: Memory, line: dict[str, Any], run: str) -> None:
    """Tell whose turn it is; one that is no more is left out."""
    waiting = line["waiting"]
    while waiting:
        number = line.get("next")
        if str(number) not in waiting:
            number = min(int(each) for each in waiting)
            if number > line.get("to", number - 1):
                return
            line["next"] = number
        who, told = waiting[str(number)]
        if who == run or memory.tell(who, told, True) or memory.waits(who, told):
            return
        del waiting[str(number)]


SPEC = Spec(
    kind="resequence",
    pattern="Resequencer",
    summary="Lets the messages with one key go on in the order of their numbers; who comes too early waits. A "
    "sequence begins with the number `first`; when nothing is known of a key and a later number comes, the "
    "lowest that comes within `deadline` begins. A number that has been there already, or that comes after its "
    "turn, fails with class `expired`; with `on_gap: release` it goes on, late. The order is that of a "
    "`serial_by` key of the route, whose other messages go on while one waits here, or, with a `by` that reads "
    "`msg.conversationid`, of a conversation. The place in it is forgotten seven days after the last message. "
    f"At most {MOST_ITEMS} messages with one key wait; more fail with class `refusal`.",
    shape=Record(
        {
            "by": Field(Expr(), "CEL giving the key."),
            "sequence": Field(Expr(), "CEL giving the number, one higher for each message."),
            "deadline": Field(Duration(), "How long a message waits for those before it."),
            "on_gap": Field(
                Choice(("release", "fail")),
                "What happens then: it goes on without them, or it fails with class `timeout`, and so do those behind "
                "it, until what is missing has come, and what has failed has been sent again.",
            ),
            "first": Field(Integer(), "The number that a sequence begins with; 1 unless written.", required=False),
        }
    ),
    build=build,
    memory=True,
    example="resequence: {by: msg.conversationid, sequence: data.amount, deadline: 30s, on_gap: release}",
)
