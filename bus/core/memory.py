"""What a flow with memory may do that others may not: ask and wait, once; and share cells with other runs.

Results stand in the instance by path (bus.core.instance). `RunMemory` lives inside one `decide` call: it reads and
changes the instance, and collects what follows from that: questions to send, cells and other instances that changed.

Cells are small JSON maps that instances of one partition share: the place of a circuit breaker, a group that is being
aggregated, whose turn it is. A cell that becomes empty is forgotten, and so is one when the time comes that it names
under `until` (epoch seconds), by whoever keeps the memory; in its own time, after all that was due before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, cast

import orjson

from bus.core.actions import Change
from bus.core.errors import StepFailed
from bus.core.facts import Facts
from bus.core.instance import MOST_BYTES, Instance, failure_of, memory_key, read
from bus.core.message import CONVERSATION, ID, Attribute, Json
from bus.core.work import Dispatch, Suspended

CELL = "cell:"
"""How the keys of cells begin."""

HOME_OF_CELL = "home"
"""In what is remembered of a cell: the key in whose partition it lives. Steps do not see it."""

_SEPARATORS = "/.@[#>!"
_REPEATS = re.compile(r"\[[0-9]+\]|@[0-9]+")  # in a path: which item, round or attempt it is
_MOST_LETTERS = 180  # of a cell's key before its hash: a key has at most 255 bytes
_CLAIM = "claim:"
BEGAN = "began:"
"""Before the path of a step: when its first attempt began."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that leaves because a flow has begun to wait for its answer.

    Args:
        path: under which the answer is awaited.
        until_s: epoch seconds after which no answer is wanted, or None.
        attributes: extension attributes that it carries besides.
    """

    path: str
    dispatch: Dispatch
    until_s: float | None
    attributes: dict[str, Attribute]


class RunMemory:
    """The memory of one run, for one turn of it.

    Args:
        instance: is changed.
        facts: the time, and what others remember.
    """

    def __init__(self, instance: Instance, facts: Facts) -> None:
        self.instance = instance
        self.now_s = facts.now_s
        self.asked: list[Asked] = []
        self.rests = False
        self._facts = facts
        self._cells: dict[str, tuple[dict[str, Any], bytes | None]] = {}
        self._homes: dict[str, str] = {}
        self._others: dict[str, Instance] = {}
        self._told: dict[str, None] = {}  # in order

    @property
    def deadline_s(self) -> float | None:
        """Epoch seconds by which the run must be done, or None."""
        return self.instance.deadline_s

    # --- results ---------------------------------------------------------------------------------------------------

    def known(self, path: str) -> Json:
        """What is remembered there, or None."""
        return self.instance.memo.get(path)

    def keep(self, path: str, value: Json) -> None:
        """Remember a value."""
        self.instance.memo[path] = value

    def once(self, path: str, compute: Callable[[], Json]) -> Json:
        """Compute a value the first time, and give the same ever after."""
        memo = self.instance.memo
        if path not in memo:
            memo[path] = compute()
        return memo[path]

    def first(self, path: str) -> bool:
        """Whether the flow comes by here for the first time."""
        if path in self.instance.memo:
            return False
        self.instance.memo[path] = True
        return True

    def close(self, prefix: str) -> None:
        """Wait for nothing below this path any more, and forget what was learned there; late answers are recorded only.

        Args:
            prefix: a path; what goes on with a letter or digit after it is another one.
        """
        instance = self.instance
        for path in [each for each in instance.open if _below(each, prefix)]:
            del instance.open[path]
        for path in [each for each in instance.memo if _below(each, prefix)]:
            del instance.memo[path]
        began = BEGAN + prefix  # of the step itself it stays, for its other attempts
        for path in [each for each in instance.memo if each != began and _below(each, began)]:
            del instance.memo[path]
        self.asked = [each for each in self.asked if not _below(each.path, prefix)]

    # --- waiting ---------------------------------------------------------------------------------------------------

    def ask(
        self,
        path: str,
        dispatch: Callable[[], Dispatch],
        timeout_s: float | None,
        attributes: dict[str, Attribute] | None = None,
    ) -> Json:
        """The data of the answer to a request, which is sent when the flow comes here for the first time.

        Args:
            dispatch: builds the request; it may fail.
            timeout_s: seconds until it has failed with class `timeout`; the run's own deadline may be earlier.

        Raises:
            Suspended: there is no answer yet.
            StepFailed: there is none, or the agent has failed.
        """
        if path not in self.instance.memo and path not in self.instance.open:
            built = dispatch()
            until = self._until(None if timeout_s is None else self.now_s + timeout_s)
            if until is not None and until <= self.now_s:
                raise StepFailed("timeout", "there is no time left before the deadline")
            self.instance.open[path] = {"due": until, "call": built.target.name}
            self.asked.append(Asked(path, built, until, attributes or {}))
        return self._result(path)

    def sleep(self, path: str, seconds: float) -> None:
        """Wait until so many seconds have passed since the flow came here for the first time.

        Raises:
            Suspended: not yet.
            StepFailed: class `timeout`, at once, when the deadline of the run comes first.
        """
        self.wait(path, self.now_s + seconds)

    def wait(self, path: str, due_s: float | None) -> Json:
        """What another run says here (`tell`), or None once the time is reached.

        Args:
            due_s: epoch seconds, as it is when the flow comes here for the first time; None waits for the word alone.

        Raises:
            Suspended: neither yet.
            StepFailed: class `timeout`, at once, when the deadline of the run comes first.
        """
        if path not in self.instance.memo and path not in self.instance.open:
            deadline = self.instance.deadline_s
            if deadline is not None and due_s is not None and due_s > deadline:
                raise StepFailed("timeout", "it would have to wait until after its deadline")
            if due_s is not None and due_s <= self.now_s:
                self.instance.memo[path] = {"ok": None, "at": self.now_s}
            else:
                self.instance.open[path] = {"due": self._until(due_s)}
        return self._result(path)

    def rest(self, path: str, due_s: float | None) -> Json:
        """Like `wait` for what only other runs of the same home can bring: meanwhile they may go, `serial_by` or not.

        The deadline of the run ends it, like the time.
        """
        if path not in self.instance.memo:
            if path not in self.instance.open:
                self.instance.open[path] = {"due": self._until(due_s), "rests": True}
            self.rests = True
        return self._result(path)

    def passed(self, path: str, seconds: float | None) -> bool:
        """Whether so many seconds have passed since the flow came here first; it goes on when they have."""
        if path in self.instance.memo:
            return True
        if path not in self.instance.open:
            self.instance.open[path] = {"due": self._until(None if seconds is None else self.now_s + seconds)}
        return False

    def _until(self, due_s: float | None) -> float | None:
        deadline = self.instance.deadline_s
        return deadline if due_s is None or (deadline is not None and deadline < due_s) else due_s

    def _result(self, path: str) -> Json:
        found = self.instance.memo.get(path)
        if found is None:
            raise Suspended
        result = cast("dict[str, Any]", found)
        if "no" in result:
            failure = failure_of(result["no"])
            raise StepFailed(failure.failure, failure.reason, failure.findings, code=failure.code, agent=failure.agent)
        return cast("Json", result["ok"])

    # --- others ----------------------------------------------------------------------------------------------------

    def key(self, path: str, by: Json = None, *, everyone: bool = False) -> str:
        """Key of the cell that a step has for a value, at most 255 bytes with what memory puts before it.

        Args:
            path: of the step; all its items, rounds and attempts share the cell.
            by: tells the cells of one step from each other.
            everyone: runs of other homes in this partition have the same one.
        """
        instance = self.instance
        place = _REPEATS.sub("", path)
        home = "" if everyone else self._home
        whole = orjson.dumps([instance.route, place, home, by], option=orjson.OPT_SORT_KEYS)
        return f"{f'{instance.route}:{place}'[:_MOST_LETTERS]}:{blake2b(whole, digest_size=16).hexdigest()}"

    @property
    def _home(self) -> str:
        """The key in whose partition the run lives."""
        return self.instance.home or str(self.instance.event.get(CONVERSATION) or self.instance.event[ID])

    def cell(self, key: str) -> dict[str, Any]:
        """A map that runs of this partition share; change it in place, empty it to have it forgotten."""
        if key not in self._cells:
            body = self._facts.recall(CELL + key)
            cell = {} if body is None else orjson.loads(body)
            self._homes[key] = cell.pop(HOME_OF_CELL, None) or self._home
            self._cells[key] = (cell, body)
        return self._cells[key][0]

    def claim(self, key: str) -> None:
        """Have a cell emptied when this run fails; its `run` must be this one then."""
        self.instance.memo[_CLAIM + key] = True

    def unclaim(self) -> None:
        """The run has failed: empty the cells that it has claimed."""
        for path in self.instance.memo:
            if path.startswith(_CLAIM):
                cell = self.cell(path.removeprefix(_CLAIM))
                if cell.get("run") == self.instance.id:
                    cell.clear()

    def waits(self, instance: str, path: str) -> bool:
        """Whether a run waits at a path, or has waited there and not gone on yet."""
        other = self._other(instance)
        return other is not None and (path in other.open or path in other.memo)

    def tell(self, instance: str, path: str, value: Json) -> bool:
        """Give another run what it waits for at a path; returns whether it does."""
        other = self._other(instance)
        if other is None or path not in other.open:
            return False
        line = self.cell(line_of(self.instance.home)) if "rests" in other.open[path] else {}
        if line.get("run") == self.instance.id:
            line["back"].append(instance)
        other.settle(path, {"ok": value, "at": self.now_s})
        other.wake_s = self.now_s
        self._told[instance] = None
        return True

    def lives(self, instance: str) -> bool:
        """Whether another run is not over."""
        return self._other(instance) is not None

    def _other(self, instance: str) -> Instance | None:
        if instance == self.instance.id:
            return None
        if instance not in self._others:
            body = self._facts.recall(memory_key(instance))
            if body is None:
                return None
            self._others[instance] = read(body)
        return self._others[instance]

    def changes(self) -> list[Change]:
        """What has to be remembered of cells and other runs."""
        found = []
        for key, (cell, before) in self._cells.items():
            body = orjson.dumps({**cell, HOME_OF_CELL: self._homes[key]}) if cell else None
            if body != before:
                found.append(Change(CELL + key, body, cell.get("until")))
        return found + [stored(self._others[each]) for each in self._told]


def line_of(home: str) -> str:
    """Key of the cell in which runs of a `serial_by` key stand in line: see bus.core.turns."""
    return f"serial:{home}"


def stored(instance: Instance) -> Change:
    """The change that remembers an instance.

    Raises:
        StepFailed: it has become too large, or too deep.
    """
    try:
        body = instance.write()
    except TypeError as error:  # what a step has wrapped again and again is nested deeper than JSON is read or written
        raise StepFailed("internal", f"what the run remembers cannot be written as JSON: {error}") from error
    if len(body) > MOST_BYTES:
        what = f"the run remembers {len(body)} bytes, and {MOST_BYTES} are the most"
        raise StepFailed("internal", f"{what}; put large data into a claim check")
    return Change(memory_key(instance.id), body, instance.due_s, instance.config)


def _below(path: str, prefix: str) -> bool:
    """Whether a path is this one or part of it; the id of another step may begin with this one's letters.

    So `call#1`, a step without an id of its own, is no part of one whose id is `call`.
    """
    if not path.startswith(prefix):
        return False
    rest = path[len(prefix) : len(prefix) + 2]
    return not rest or (rest[0] in _SEPARATORS and not (rest[0] == "#" and rest[1:].isdigit()))
