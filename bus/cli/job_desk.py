"""The front desk of a job: sends inquiries as the agent `frontdesk`, some at a time, and books what comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bus.cli.job_input import Inquiry
from bus.cli.job_tally import Sent, Tally, What
from bus.core.errors import BusError
from bus.core.message import (
    CONVERSATION,
    CORRELATION,
    ID,
    REPLYTO,
    SOURCE,
    SPECVERSION,
    TIME,
    TYPE,
    Json,
    Message,
)
from bus.core.naming import agent_queue
from bus.core.times import rfc3339
from bus.ports import AgentLink, Inbound

FRONTDESK = "frontdesk"
INQUIRY = "customer.inquiry.received"
IDLE_S = 30.0
SETTLE_S = 1.0
_ANSWERED = ".replied"


@dataclass(frozen=True, slots=True)
class Heard:
    """Something that came back: for which inquiry, what it is, and its data."""

    what: What
    sent: Sent
    conversation: str
    data: Mapping[str, Any]

    @property
    def ms(self) -> float:
        """From sending to this answer."""
        return round(((self.sent.ended_s or self.sent.sent_s) - self.sent.sent_s) * 1000, 1)


class FrontDesk:
    """Args:
    link: not yet open.
    namespace: where the bus is.
    run: names this run; conversations are `<run>-<row>`.
    window: inquiries in flight at most.
    show: told of everything that belongs to an inquiry of this run.
    idle_s: with nothing coming back for so long while the bus is up, what is open counts as lost.
    settle_s: how long to listen after the last answer, for second answers that should not come.
    """

    def __init__(
        self, link: AgentLink, namespace: str, run: str, window: int, show: Callable[[Heard], None],
        *, idle_s: float = IDLE_S, settle_s: float = SETTLE_S,
    ) -> None:  # fmt: skip
        self._link, self._namespace, self._run, self._show = link, namespace, run, show
        self._window, self._idle_s, self._settle_s = window, idle_s, settle_s
        self._free = asyncio.Semaphore(window)
        self._moved = asyncio.Event()
        self.tally = Tally()

    async def serve(self, inquiries: Sequence[Inquiry], bus_up: Callable[[], bool]) -> None:
        """Send all inquiries and wait for what comes back; returns early when nothing does any more.

        Args:
            bus_up: tells whether the bus runs; while it does not, waiting is no sign of loss.
        """
        await self._link.open()
        try:
            await self._link.listen([agent_queue(self._namespace, FRONTDESK)], 2 * self._window + 100, self._hear)
            sending = asyncio.create_task(self._send_all(inquiries))
            try:
                await self._until_quiet(sending, bus_up)
            finally:
                sending.cancel()
                await asyncio.wait({sending})
            if not sending.cancelled():
                sending.result()  # a defect in sending must not look like a loss
            await asyncio.sleep(self._settle_s)
        finally:
            await self._link.close()

    def conversation(self, inquiry: Inquiry) -> str:
        """Name the conversation of an inquiry."""
        return f"{self._run}-{inquiry.row}"

    def message(self, inquiry: Inquiry, now_s: float) -> Message:
        """Build the message that asks; its id is the conversation's, so a repeat is a duplicate to the bus.

        Args:
            now_s: epoch seconds.
        """
        name = self.conversation(inquiry)
        return Message(
            {
                SPECVERSION: "1.0",
                ID: name,
                SOURCE: FRONTDESK,
                TYPE: INQUIRY,
                TIME: rfc3339(now_s),
                CONVERSATION: name,
                REPLYTO: f"agent:{FRONTDESK}",
            },
            {"text": inquiry.text},
        )

    async def _send_all(self, inquiries: Sequence[Inquiry]) -> None:
        async with asyncio.TaskGroup() as sending:
            for inquiry in inquiries:
                await self._free.acquire()
                sending.create_task(self._send(inquiry))

    async def _send(self, inquiry: Inquiry) -> None:
        message = self.message(inquiry, time.time())
        self.tally.send(message.id, inquiry, time.monotonic())
        try:
            await self._link.send(message)
        except BusError as error:  # the broker or our own codec refuses it: nobody else will tell
            self._book(message.id, None, message.conversation, False, {"class": "refusal", "reason": str(error)})

    async def _hear(self, inbound: Inbound) -> None:
        message = inbound.message
        good = message.type.endswith(_ANSWERED)
        self._book(message.text(CORRELATION), message.id, message.conversation, good, message.data)
        await inbound.settle(True)

    def _book(self, correlation: str | None, message_id: str | None, conversation: str, good: bool, data: Json) -> None:
        fields = data if isinstance(data, dict) else {}
        intent = fields.get("intent")
        what = self.tally.come(
            correlation, message_id, time.monotonic(), good=good, intent=intent if isinstance(intent, str) else None
        )
        if what in ("stray", "repeat"):
            return
        self._moved.set()
        if what != "duplicate":
            self._free.release()
        self._show(Heard(what, self.tally.sent[correlation or ""], conversation, fields))

    async def _until_quiet(self, sending: asyncio.Task[None], bus_up: Callable[[], bool]) -> None:
        while not sending.done() or self.tally.open:
            self._moved.clear()
            moved = asyncio.create_task(self._moved.wait())
            waiting = {moved} if sending.done() else {moved, sending}
            done, _ = await asyncio.wait(waiting, timeout=self._idle_s, return_when=asyncio.FIRST_COMPLETED)
            moved.cancel()
            if not done and bus_up():
                return
