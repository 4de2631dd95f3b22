"""A conversation as a tree: which message caused which, what became of each output, and how long each hop took.

The records of a conversation come in the order of their commits, and a cause is always committed before its effect: so
a parent is looked for among earlier records only, and no forged causation can make a cycle. A reply stands under the
output that asked for it, a message that came back into the bus under the output that sent it, a repeat under the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bus.audit.record import OutputNote, Record

Place: TypeAlias = tuple[int, int, int]
"""An output in the log: (partition, seq, index)."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of an output.

    Args:
        how: `delivered`, `pending` (not yet known to be confirmed), `held`, or how else it ended (`returned`, ...);
            `ended` for a lease that is over.
        reason: one sentence for a person, when there is one.
        at_s: epoch seconds: when it ended so, or is due again; None when not recorded.
    """

    how: str
    reason: str = ""
    at_s: float | None = None


PENDING = Fate("pending")
ENDED = Fate("ended")  # of a lease: its row is gone


@dataclass(frozen=True, slots=True)
class Leg:
    """One output and what came back of it; a leaf when nothing (yet) did.

    Args:
        answers: replies to it, messages caused by it, or the message itself where it re-entered the bus.
    """

    output: OutputNote
    fate: Fate
    answers: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One decided message.

    Args:
        hop_s: seconds between its arrival and its decision.
        agent_s: seconds between the decision that sent its cause and its own arrival: what the agent took, with the way
            there and back. None for a root and where nothing was sent to cause it.
        legs: its outputs, in order.
        effects: messages that name it as their cause but none of its outputs, and repeats of it.
    """

    record: Record
    hop_s: float
    agent_s: float | None
    legs: tuple[Leg, ...]
    effects: tuple[Node, ...]


@dataclass(slots=True)
class _Draft:
    """A node while its children are being found: per output and, under None, its own."""

    record: Record
    agent_s: float | None = None
    children: dict[int | None, list[int]] = field(default_factory=dict)


def trace_tree(records: Sequence[Record], fates: Mapping[Place, Fate]) -> list[Node]:
    """Build the tree.

    Args:
        records: in the order of their commits.
        fates: what became of their outputs; those not in it are pending.

    Returns:
        The roots, in order: records whose cause is not among the records.
    """
    drafts: list[_Draft] = []
    inputs: dict[str, int] = {}
    outputs: dict[str, tuple[int, int]] = {}
    roots = []
    for number, record in enumerate(records):
        draft = _Draft(record)
        parent = _parent(record, inputs, outputs)
        if parent is None:
            roots.append(number)
        else:
            holder, leg = parent
            drafts[holder].children.setdefault(leg, []).append(number)
            if leg is not None:
                draft.agent_s = record.received_s - drafts[holder].record.decided_s
        drafts.append(draft)
        if record.id:
            inputs.setdefault(record.id, number)
        for index, output in enumerate(record.outputs):
            outputs.setdefault(output.id, (number, index))
    nodes = _build(drafts, fates)
    return [nodes[number] for number in roots]


def _parent(
    record: Record, inputs: Mapping[str, int], outputs: Mapping[str, tuple[int, int]]
) -> tuple[int, int | None] | None:
    """Find the earlier record, and which output of it, that this one came from."""
    if record.id in outputs:
        return outputs[record.id]
    if record.id and record.id in inputs:
        return inputs[record.id], None
    for cause in (record.causation, record.correlation):
        if cause is None:
            continue
        sent, taken = outputs.get(cause), inputs.get(cause)
        # an output that came back into the bus is the nearer cause as an input; one passed on with its id is not
        if sent is not None and (taken is None or taken == sent[0]):
            return sent
        if taken is not None:
            return taken, None
    return None


def _build(drafts: Sequence[_Draft], fates: Mapping[Place, Fate]) -> list[Node]:
    """Make the frozen nodes from the last to the first: children come after their parents, however deep they stand."""
    made: dict[int, Node] = {}
    for number in range(len(drafts) - 1, -1, -1):
        record, children = drafts[number].record, drafts[number].children
        legs = [
            Leg(
                output,
                fates.get((record.partition, record.seq, index), PENDING),
                tuple([made[child] for child in children.get(index, ())]),
            )
            for index, output in enumerate(record.outputs)
        ]
        made[number] = Node(
            record,
            record.decided_s - record.received_s,
            drafts[number].agent_s,
            tuple(legs),
            tuple([made[child] for child in children.get(None, ())]),
        )
    return [made[number] for number in range(len(drafts))]
