"""Whose turn it is: of the runs of one `serial_by` key only one goes on at a time, the others stand in line.

The line is a cell of the key: who has the turn, who comes back to it, who is new. A run has the turn from its start to
its end, but not while it rests (`RunMemory.rest`): what it waits for then, only others of its key can bring. When one
of them does, it comes back, before those that are new. When its time is over instead, it stands behind all who have
come before that: one of them may bring it yet.
"""

from __future__ import annotations

from bus.core.instance import Instance
from bus.core.memory import RunMemory, line_of

TURN = "#turn"
"""The path at which a run waits for its turn."""


def take(instance: Instance, memory: RunMemory) -> bool:
    """Take the turn, or stand in line for it."""
    line = memory.cell(line_of(instance.home))
    if not line:
        line.update({"run": "", "back": [], "next": []})
    mine = line["back"] if instance.id in line["back"] else line["next"]
    for waiting in (line["back"], line["next"]) if not line["run"] else ():
        while waiting and waiting[0] != instance.id and not memory.lives(waiting[0]):
            waiting.pop(0)
    if instance.id not in mine and line["run"] != instance.id:
        mine.append(instance.id)
    if not line["run"] and [*line["back"], *line["next"]][0] == instance.id:
        line["run"] = mine.pop(0)
    if line["run"] == instance.id:
        return True
    instance.memo.pop(TURN, None)
    instance.open[TURN] = {"due": instance.deadline_s}
    return False


def give(instance: Instance, memory: RunMemory) -> None:
    """Give the turn to the next in line, if this run has it."""
    line = memory.cell(line_of(instance.home))
    if not line or line["run"] != instance.id:
        return
    line["run"] = ""
    for waiting in (line["back"], line["next"]):
        while waiting:
            if memory.tell(waiting[0], TURN, True):
                line["run"] = waiting.pop(0)
                return
            if memory.lives(waiting[0]):
                return  # it has been told to come back, and takes the turn then
            waiting.pop(0)
    line.clear()
