"""One message on its way through its route: what steps read and write, and how they end it.

A step is a callable with one signature. It changes `work` and returns None to go on or an `Ended` to stop the
route; failures are raised as `StepFailed` and handled by the pipeline, never by the step's neighbours.
`Work` lives inside one `decide` call and never leaves it, so mutating it keeps the core pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from bus.core.actions import Change
from bus.core.audience import Audience
from bus.core.errors import FailureClass, StepFailed
from bus.core.expression import Contract, Expression, Leaf
from bus.core.facts import nothing_remembered
from bus.core.labels import names_of, text_of
from bus.core.message import LABELS, Attribute, Json, Message

MOST_ITEMS = 1000
"""How many items a message is split into at most, splits within splits included."""


class Suspended(Exception):
    """Nobody's fault: the flow waits for something, and goes on in another turn. No step may catch it but one whose
    branches wait at the same time, which raises it again."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The route ends here: `filtered`, `sent` after a `to`, or `consumed` by a join of messages."""

    how: Literal["filtered", "sent", "consumed"]
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
        reply: capability and agent only: what the answer must keep, or None when that is not known.
    """

    kind: Literal["agent", "capability", "event", "reply"]
    name: str
    type: str
    data: Leaf | None = None
    contract: Contract | None = None
    to_route: bool = False
    to_subscribers: bool = False
    lease_s: int | None = None
    reply: Contract | None = None
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
        path: of a flow with memory: where in it this is sent, once.
        labels: text of the attribute, or None for those that the message came with.
    """

    target: Target
    data: Json
    answerable: bool
    path: str = ""
    labels: str | None = None


class Memory(Protocol):
    """What a flow with memory may do besides: see bus.core.memory, which says what each of these does."""

    now_s: float

    @property
    def deadline_s(self) -> float | None: ...

    def known(self, path: str) -> Json: ...

    def keep(self, path: str, value: Json) -> None: ...

    def once(self, path: str, compute: Callable[[], Json]) -> Json: ...

    def first(self, path: str) -> bool: ...

    def close(self, prefix: str) -> None: ...

    def ask(
        self,
        path: str,
        dispatch: Callable[[], Dispatch],
        timeout_s: float | None,
        attributes: dict[str, Attribute] | None = None,
    ) -> Json: ...

    def sleep(self, path: str, seconds: float) -> None: ...

    def wait(self, path: str, due_s: float | None) -> Json: ...

    def rest(self, path: str, due_s: float | None) -> Json: ...

    def passed(self, path: str, seconds: float | None) -> bool: ...

    def key(self, path: str, by: Json = None, *, everyone: bool = False) -> str: ...

    def cell(self, key: str) -> dict[str, Any]: ...

    def claim(self, key: str) -> None: ...

    def waits(self, instance: str, path: str) -> bool: ...

    def tell(self, instance: str, path: str, value: Json) -> bool: ...


@dataclass(slots=True)
class Work:
    """The message as it is now.

    Args:
        names: what expressions read; `names["data"]` is the payload as the steps have left it.
        rules: the error rules of the route, then of the integration.
        sent: what will be published, in order.
        notes: what each step did, for the trace.
        memory: of a route that has one, else None.
        run: id of the run, of a route with memory.
        prefix: path of the branch, item or round that this is, ending in `/`; "" for the route itself.
        at: path of the step that runs.
        around: rules of the steps that this one stands in.
        items_left: how many items the message may still be split into.
        weighed: bytes of data that items of splits send, counted together.
        labels: as steps have left them (text of the attribute), or None for those that the message came with.
        secret: key of this namespace, for keyed hashes; nothing that leaves may be made of it in another way.
        controls: the running bus's switches; one that is not there is off.
        asker: address of who waits for an answer, or "".
        recall: reads what the bus remembers under a key, blobs included.
        stores_blobs: whether the blob store can be written.
        changes: blobs to be written; what a flow with memory remembers is not among them.
    """

    message: Message
    names: dict[str, Json]
    rules: tuple[OnError, ...] = ()
    sent: list[Dispatch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    memory: Memory | None = None
    run: str = ""
    prefix: str = ""
    at: str = ""
    around: tuple[tuple[OnError, ...], ...] = ()
    items_left: int = MOST_ITEMS
    weighed: list[int] = field(default_factory=lambda: [0])
    labels: str | None = None
    asker: str = ""
    secret: bytes = b""
    controls: Mapping[str, bool] = field(default_factory=dict)
    recall: Callable[[str], bytes | None] = nothing_remembered
    stores_blobs: bool = True
    changes: list[Change] = field(default_factory=list)
    _sends: int = 0

    def begin(self, step: str) -> None:
        """A step of a flow with memory begins; `step` is its id."""
        self.at = self.prefix + step
        self._sends = 0

    def send(self, dispatch: Dispatch) -> None:
        """Have something sent; a flow with memory that comes by here again does not send it again."""
        if self.memory is not None:
            self._sends += 1
            path = f"{self.at}>{self._sends}"
            if not self.memory.first(path):
                return
            dispatch = dispatch._replace(path=path)
        self.sent.append(dispatch)

    def branch(self, name: str, data: Json) -> Work:
        """A copy for a part of the step that runs: with data and variables of its own, and nobody's error rules.

        Args:
            name: tells it from the others of the step: `.sentiment`, `[3]`.
        """
        variables = self.names.get("vars")
        names = {**self.names, "data": data, "vars": dict(variables) if isinstance(variables, dict) else {}}
        prefix = f"{self.at}{name}/"
        made = Work(*_fields_of(self))  # a tenth of the time that `dataclasses.replace` takes
        made.names, made.rules, made.around = names, (), ()
        made.prefix = made.at = prefix
        made._sends = 0
        return made

    def gain(self, labels: str) -> None:
        """Take labels on that came with a part of the message: text of the attribute.

        Raises:
            StepFailed: they are too many.
        """
        if not labels or labels == self.label_text:
            return
        try:
            self.labels = text_of((*names_of(self.label_text), *names_of(labels)))
        except ValueError as error:
            raise StepFailed("refusal", str(error)) from error
        self.show_labels()

    def show_labels(self) -> None:
        """Let expressions see the labels as they are now, under `msg.labels`."""
        msg = self.names.get("msg")
        self.names["msg"] = {**(msg if isinstance(msg, dict) else {}), LABELS: self.label_text}

    @property
    def label_text(self) -> str:
        """The labels as they are now: text of the attribute."""
        return self.labels if self.labels is not None else str(self.message.attributes.get(LABELS, ""))

    @property
    def remembering(self) -> Memory:
        """The memory; every route with a step that needs one has it."""
        assert self.memory is not None
        return self.memory


_fields_of = attrgetter(*(each.name for each in fields(Work)))

Step: TypeAlias = Callable[[Work], "Ended | None"]


@dataclass(frozen=True, slots=True)
class Retry:
    """How a failed step is tried again.

    Args:
        attempts: tries in all, the first included.
        initial_s: seconds before the second.
        factor: by which each pause is longer than the one before.
        most_s: longest pause, seconds.
        jitter: share of each pause, 0 to 1, that is left to chance: a hash of the run, so that it stays the same.
    """

    attempts: int
    initial_s: float = 1.0
    factor: float = 2.0
    most_s: float = 60.0
    jitter: float = 0.1

    def pause_s(self, attempt: int, key: str) -> float:
        """Seconds to wait after so many attempts."""
        pause = min(self.initial_s * self.factor ** (attempt - 1), self.most_s)
        chance = int.from_bytes(blake2b(f"{key}\0{attempt}".encode(), digest_size=4).digest()) / 2**32
        return pause * (1 - self.jitter * chance)


@dataclass(frozen=True, slots=True)
class OnError:
    """One error rule: the first whose `classes` and `when` fit is taken.

    Args:
        classes: failure classes, or () for any.
        then: a flow to run instead, or a word.
        retry: tries before that, or None.
    """

    classes: tuple[FailureClass, ...]
    when: Expression | None
    then: Flow | Literal["dead_letter", "invalid", "reply", "continue"]
    retry: Retry | None = None


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
