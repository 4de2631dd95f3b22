"""An agent that costs little: it says back what it is asked, over the bus's own transport, confirmed before ack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from bus.core import naming
from bus.core.actions import Output
from bus.core.message import CONVERSATION, CORRELATION, ID, REPLYTO, REQUESTED, SOURCE, SPECVERSION, TYPE
from bus.core.outputs import STRUCTURED
from bus.ports import Outcome, Outgoing, Received, Tag, Transport
from bus.shell.bench.load import Quiet, confirmed
from bus.shell.bench.scatter_scene import ASKED, ECHO
from bus.shell.ledger import Watermark

_PREFETCH = 1000


@dataclass(slots=True)
class Echo(Quiet):
    """Args:
    ready: called when it listens.
    """

    transport: Transport
    namespace: str
    ready: Callable[[], None]
    _tags: dict[int, Tag] = field(default_factory=dict)
    _acks: Watermark = field(default_factory=lambda: Watermark(0))
    _handle: int = 0

    def on_connected(self) -> None:
        self.transport.consume([naming.capability_queue(self.namespace, name) for name in ASKED], _PREFETCH)
        self.ready()

    def on_batch(self, batch: Sequence[Received]) -> None:
        exchange = naming.ingress_exchange(self.namespace)
        out = []
        for received in batch:
            self._handle += 1
            self._tags[self._handle] = received.tag
            output = answer(received.delivery.body)
            out.append(Outgoing(self._handle, exchange, output.conversation, output))
        self.transport.publish(out)

    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        confirmed(outcomes)
        risen, tag = False, None
        for outcome in outcomes:
            tag = self._tags.pop(outcome.handle)
            risen = self._acks.finish(tag.number) or risen
        if risen and tag is not None:
            self.transport.ack(Tag(tag.generation, self._acks.value))


def answer(body: bytes) -> Output:
    """The answer to a request, which gives back its data."""
    request: dict[str, Any] = orjson.loads(body)
    event = {
        SPECVERSION: "1.0",
        ID: f"re-{request[ID]}",
        SOURCE: ECHO,
        TYPE: request[TYPE].removesuffix(REQUESTED) + ".replied",
        CONVERSATION: request[CONVERSATION],
        CORRELATION: request[ID],
        REPLYTO: request[REPLYTO],
        "data": request["data"],
    }
    return Output("ingress", "", event[ID], event[TYPE], event[CONVERSATION], orjson.dumps(event), STRUCTURED, {})
