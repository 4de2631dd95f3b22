"""One message on its way through its route: what steps read and write, and how they end it.

A step is a callable with one signature. It changes `work` and returns None to go on or an `Ended` to stop the
route; failures are raised as `StepFailed` and handled by the pipeline, never by the step's neighbours.
`Work` lives inside one `decide` call and never leaves it, so mutating it keeps the core pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from bus.core.audience import Audience
from bus.core.errors import FailureClass
from bus.core.expression import Contract, Expression, Leaf
from bus.core.message import LABELS, Json, Message

MOST_ITEMS = 1000
"""How many items a message is split into at most, splits within splits included."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The route ends here: `filtered`, or `sent` after a `to`."""

    how: Literal["filtered", "sent"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a message goes, as a route says it.

    Args:
        kind: `agent`, `capability`, `event` or `reply`.
        name: agent, capability or event type; for `reply`, `ok` or `error`.
        type: the message type that the target receives (`sentiment.requested`, the event's type).
        data: builds the payload; None sends the current data.
        contract: what the payload must keep, or None.
        to_route: event only: a route owns this type, so the event goes back into the bus.
        to_subscribers: event only: agents subscribe to this type.
        lease_s: capability and agent only: the capability's lease, in seconds, or None.
        audience: the agents that it may reach; None when any agent there may have any message.
        among: the message says which of these it is; then `name` is only how the file says so.
    """

    kind: Literal["agent", "capability", "event", "reply"]
    name: str
    type: str
    data: Leaf | None = None
    contract: Contract | None = None
    to_route: bool = False
    to_subscribers: bool = False
    lease_s: int | None = None
    audience: Audience | None = None
    among: Among | None = None


@dataclass(frozen=True, slots=True)
class Among:
    """A target that the message names, out of those that the file allows.

    Args:
        name: builds the name.
        targets: by name.
    """

    name: Leaf
    targets: Mapping[str, Target]


class Dispatch(NamedTuple):
    """A target with its payload already built: what a step or `to` wants sent.

    Args:
        answerable: the return address travels along (R2); copies of a recipient list and taps carry none.
        labels: text of the attribute, or None for those that the message came with.
    """

    target: Target
    data: Json
    answerable: bool
    labels: str | None = None


@dataclass(slots=True)
class Work:
    """The message as it is now.

    Args:
        names: what expressions read; `names["data"]` is the payload as the steps have left it.
        rules: the error rules of the route, then of the integration.
        sent: what will be published, in order.
        notes: what each step did, for the trace.
        items_left: how many items the message may still be split into.
        labels: as steps have left them (text of the attribute), or None for those that the message came with.
        secret: key of this namespace, for keyed hashes; nothing that leaves may be made of it in another way.
        controls: the running bus's switches; one that is not there is off.
        asker: address of who waits for an answer, or "".
    """

    message: Message
    names: dict[str, Json]
    rules: tuple[OnError, ...] = ()
    sent: list[Dispatch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    items_left: int = MOST_ITEMS
    labels: str | None = None
    asker: str = ""
    secret: bytes = b""
    controls: Mapping[str, bool] = field(default_factory=dict)

    @property
    def label_text(self) -> str:
        """The labels as they are now: text of the attribute."""
        return self.labels if self.labels is not None else str(self.message.attributes.get(LABELS, ""))

    def part(self, path: str, names: Mapping[str, Json]) -> Work:
        """A part of the message on a way of its own: with other names, a copy of the rest, and nothing sent yet.

        Args:
            path: tells this part from the others of its step.
        """
        names = {**self.names, **names}
        return Work(self.message, names, items_left=self.items_left, labels=self.labels, asker=self.asker,
                    secret=self.secret, controls=self.controls)  # fmt: skip


Step: TypeAlias = Callable[[Work], "Ended | None"]


@dataclass(frozen=True, slots=True)
class OnError:
    """One error rule: the first whose `classes` and `when` fit is taken.

    Args:
        classes: failure classes, or () for any.
        then: a flow to run instead, or a word.
    """

    classes: tuple[FailureClass, ...]
    when: Expression | None
    then: Flow | Literal["dead_letter", "invalid", "reply", "continue"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A step in its place: with its id, its condition and its own error rules.

    Args:
        id: `id` from the file or `kind#n`, as traces and errors show it.
        kind: the step's kind.
        when: run only when true.
    """

    id: str
    kind: str
    run: Step
    when: Expression | None = None
    on_error: tuple[OnError, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """Steps in order, then targets. With targets it ends the route; without, it goes back to the enclosing flow."""

    steps: tuple[Placed, ...] = ()
    to: tuple[Target, ...] = ()
