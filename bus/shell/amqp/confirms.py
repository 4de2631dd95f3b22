"""What is unconfirmed on one publishing channel: the broker's numbers back to handles, each exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bus.ports import Outcome, Outgoing
from bus.shell.amqp.wire import Confirm, Return, WireFault


class Confirms:
    """Counts publishes as the broker does, from 1, and turns its signals into outcomes."""

    def __init__(self) -> None:
        self._published = 0
        self._lowest = 1  # every number below is settled
        self._open: dict[int, Outgoing] = {}
        self._returned: dict[int, str] = {}
        self._returns_from = 1

    def __len__(self) -> int:
        return len(self._open)

    def published(self, outgoing: Outgoing) -> None:
        """Note the next publish in the order in which it is sent."""
        self._published += 1
        self._open[self._published] = outgoing

    def settle(self, signals: Iterable[Confirm | Return]) -> Sequence[Outcome]:
        """Turn the broker's signals into outcomes, one per handle.

        Raises:
            WireFault: a confirm for what was never published.
        """
        outcomes: list[Outcome] = []
        for signal in signals:
            if isinstance(signal, Return):
                self._note_return(signal)
                continue
            if signal.tag > self._published:
                raise WireFault(f"a confirm of publish {signal.tag}, of {self._published}")
            if signal.multiple:
                # Tag 0 with `multiple` means all there are.
                upto = signal.tag or self._published
                if signal.ok and not self._returned:
                    self._all_well(upto, outcomes)
                else:
                    for tag in range(self._lowest, upto + 1):
                        self._settle(tag, signal.ok, outcomes)
                self._lowest = max(self._lowest, upto + 1)
            else:
                self._settle(signal.tag, signal.ok, outcomes)
        return outcomes

    def _all_well(self, upto: int, outcomes: list[Outcome]) -> None:
        """Confirm all up to `upto`: the usual case, many times a batch."""
        take, add, new = self._open.pop, outcomes.append, tuple.__new__
        for tag in range(self._lowest, upto + 1):
            outgoing = take(tag, None)
            if outgoing is not None:
                add(new(Outcome, (outgoing[0], "confirmed", "")))

    def _settle(self, tag: int, ok: bool, outcomes: list[Outcome]) -> None:
        outgoing = self._open.pop(tag, None)
        if outgoing is None:
            return
        if self._returned and tag in self._returned:
            outcomes.append(Outcome(outgoing.handle, "returned", self._returned.pop(tag)))
        elif ok:
            outcomes.append(Outcome(outgoing.handle, "confirmed"))
        else:
            outcomes.append(Outcome(outgoing.handle, "nacked", "the queue is full or its leader is away"))

    def _note_return(self, signal: Return) -> None:
        """Find the publish that came back.

        A channel routes its publishes in order, so returns come in publishing order too: the search goes on where the
        last one ended, which also tells apart publishes of the same message to the same place.
        """
        where = f"exchange `{signal.exchange}`" if signal.exchange else "the default exchange"
        reason = f"{signal.reason or 'returned'}: {where} has no queue for key `{signal.routing_key}`"
        for first in (self._returns_from, self._lowest):
            for tag in range(first, self._published + 1):
                outgoing = self._open.get(tag)
                if outgoing is not None and tag not in self._returned and _is(outgoing, signal):
                    self._returned[tag] = reason
                    self._returns_from = tag + 1
                    return


def _is(outgoing: Outgoing, signal: Return) -> bool:
    return (
        outgoing.output.id == signal.message_id
        and outgoing.exchange == signal.exchange
        and outgoing.routing_key == signal.routing_key
    )
