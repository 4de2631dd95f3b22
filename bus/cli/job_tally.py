"""What a job counts: each inquiry is answered once, told to have failed, or lost; and the summary of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bus.cli.job_input import Inquiry

What = Literal["answer", "failure", "duplicate", "repeat", "stray"]


@dataclass(slots=True)
class Sent:
    """An inquiry on its way: when it was sent, how it ended (seconds of one monotonic clock), and by which message."""

    inquiry: Inquiry
    sent_s: float
    ended_s: float | None = None
    answered: bool = False
    ended_by: str | None = None
    intent: str | None = None


@dataclass(slots=True)
class Tally:
    """The front desk's book: inquiries by message id, and what came for each."""

    sent: dict[str, Sent] = field(default_factory=dict)
    duplicates: int = 0
    repeats: int = 0
    strays: int = 0

    def send(self, message_id: str, inquiry: Inquiry, now_s: float) -> None:
        """Note that an inquiry leaves."""
        self.sent[message_id] = Sent(inquiry, now_s)

    def come(
        self, correlation: str | None, message_id: str | None, now_s: float, *, good: bool, intent: str | None = None
    ) -> What:
        """Note what came back; says what it is. Another message for an inquiry that has ended is a duplicate.

        Args:
            correlation: id of the inquiry it answers; anything unknown is a stray, of an earlier run.
            message_id: its own id; the first message once more, under its own id, is a repeat, which every receiver on
                the bus drops by that id.
            good: an answer, not a failure.
        """
        sent = self.sent.get(correlation or "")
        if sent is None:
            self.strays += 1
            return "stray"
        if sent.ended_s is not None:
            if sent.ended_by == message_id:
                self.repeats += 1
                return "repeat"
            self.duplicates += 1
            return "duplicate"
        sent.ended_s, sent.ended_by, sent.answered, sent.intent = now_s, message_id, good, intent
        return "answer" if good else "failure"

    @property
    def open(self) -> int:
        """Inquiries that nothing came back for yet."""
        return sum(each.ended_s is None for each in self.sent.values())


@dataclass(frozen=True, slots=True)
class Watched:
    """What others saw of the run.

    Args:
        dead_lettered, invalid: messages that the Dead Letter and Invalid Message Channel have more than at the start.
        messages: messages that agents sent and the bus took a decision on, by its log, duplicates not counted.
        bus_restarts, agent_restarts: how often the process was started again.
    """

    dead_lettered: int = 0
    invalid: int = 0
    messages: int = 0
    bus_restarts: int = 0
    agent_restarts: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a job.

    Args:
        answered: inquiries with an answer.
        failed: inquiries whose asker was told of a failure.
        lost: inquiries that nothing came back for.
        duplicates: answers beyond the first of an inquiry.
        repeats: a first answer delivered once more, under its own id, as at-least-once delivery permits when the bus
            dies between publishing and noting it. Receivers drop them by that id; an agent on the SDK never sees them.
        p50_ms, p99_ms: from sending an inquiry to its answer, at the load of the run; None without answers.
        messages_per_s: messages through the bus, between the first inquiry and the last answer.
        intent_accuracy: share of right intents among answered rows that were not trained on; None without such.
        intent_baseline: share of the most frequent category among the same rows.
        seconds: from the first inquiry to the last answer.
    """

    inquiries: int
    answered: int
    failed: int
    lost: int
    duplicates: int
    repeats: int
    dead_lettered: int
    invalid: int
    p50_ms: float | None
    p99_ms: float | None
    seconds: float
    messages: int
    messages_per_s: float
    intent_accuracy: float | None
    intent_baseline: float | None
    accuracy_rows: int
    bus_restarts: int
    agent_restarts: int

    @property
    def good(self) -> bool:
        """Every inquiry was answered exactly once, and nothing ended in a channel of failures."""
        return self.answered == self.inquiries and not (
            self.duplicates or self.lost or self.dead_lettered or self.invalid
        )

    def text(self) -> str:
        """One line for people; what went wrong is named when there is any."""
        parts = [f"{self.answered} answered", f"{self.lost} lost", f"{self.duplicates} duplicates"]
        for count, what in ((self.failed, "failed"), (self.dead_lettered, "dead-lettered"), (self.invalid, "invalid")):
            if count:
                parts.append(f"{count} {what}")
        if self.p50_ms is not None:
            parts.append(f"p50 {self.p50_ms:.0f} ms, p99 {self.p99_ms:.0f} ms, {self.messages_per_s:.0f} messages/s")
        if self.intent_accuracy is not None:
            parts.append(f"intent {self.intent_accuracy:.1%} right on {self.accuracy_rows} rows not trained on")
        if self.repeats:
            parts.append(f"{self.repeats} repeated deliveries dropped")
        for count, what in ((self.bus_restarts, "bus"), (self.agent_restarts, "agents")):
            if count:
                parts.append(f"{what} started again {count} times")
        return ", ".join(parts)


def summarise(tally: Tally, inquiries: int, trained_on: Callable[[str], bool] | None, watched: Watched) -> Summary:
    """Sum up a run.

    Args:
        inquiries: how many there were to send; what was never sent is lost too.
        trained_on: tells whether the classifier was trained on a row with this text; None when it is not measured.
    """
    ended = [each for each in tally.sent.values() if each.ended_s is not None]
    answered = [each for each in ended if each.answered]
    times_ms = sorted((each.ended_s - each.sent_s) * 1000 for each in answered if each.ended_s is not None)
    seconds = _span(ended)
    measured = [
        (each.intent, each.inquiry.category)
        for each in answered
        if trained_on is not None and each.inquiry.category and not trained_on(each.inquiry.text)
    ]
    return Summary(
        inquiries=inquiries,
        answered=len(answered),
        failed=len(ended) - len(answered),
        lost=inquiries - len(ended),
        duplicates=tally.duplicates,
        repeats=tally.repeats,
        dead_lettered=watched.dead_lettered,
        invalid=watched.invalid,
        p50_ms=percentile(times_ms, 0.50),
        p99_ms=percentile(times_ms, 0.99),
        seconds=round(seconds, 3),
        messages=watched.messages,
        messages_per_s=round(watched.messages / seconds, 1) if seconds else 0.0,
        intent_accuracy=_share(sum(intent == right for intent, right in measured), len(measured)),
        intent_baseline=_share(max(Counter(right for _, right in measured).values(), default=0), len(measured)),
        accuracy_rows=len(measured),
        bus_restarts=watched.bus_restarts,
        agent_restarts=watched.agent_restarts,
    )


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest-rank percentile of an ordered sequence, to a tenth; None of nothing."""
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 1)


def _span(ended: Sequence[Sent]) -> float:
    times = [each.ended_s for each in ended if each.ended_s is not None]
    return max(times) - min(each.sent_s for each in ended) if times else 0.0


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
