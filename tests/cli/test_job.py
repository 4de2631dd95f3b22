"""The job's own parts: input, book-keeping, the front desk on an in-memory link, supervision, and home folders."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus.cli.common import Printer
from bus.cli.job import _show, measurable
from bus.cli.job_desk import FrontDesk, Heard
from bus.cli.job_input import Inquiry, read_inquiries
from bus.cli.job_tally import Sent, Summary, Tally, Watched, percentile, summarise
from bus.core.errors import BusError, Refused
from bus.core.message import CONVERSATION, CORRELATION, ID, REPLYTO, SOURCE, SPECVERSION, TYPE, Json, Message
from bus.ports import Handler, Inbound
from bus.shell.home import choose_home
from bus.shell.store_lock import StoreLock
from bus.shell.supervisor import Part

# --- Input --------------------------------------------------------------------------------------------------------


def test_csv_and_json_lines_give_the_same_inquiries(tmp_path: Path) -> None:
    csv, lines = tmp_path / "a.csv", tmp_path / "a.jsonl"
    csv.write_text('\ufefftext,category,more\n"Lost,\nmy card",card_lost,1\nwhy?,,2\n', encoding="utf-8")
    lines.write_text('{"text": "Lost,\\nmy card", "category": "card_lost"}\n\n{"text": "why?", "category": null}\n')
    expected = [Inquiry(1, "Lost,\nmy card", "card_lost"), Inquiry(2, "why?")]
    assert read_inquiries(csv) == read_inquiries(lines) == expected


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"question\nwhy\n", "no column `text`"),
        ("a.csv", b"text\n", "no inquiries"),
        ("a.csv", b"", "no column `text`"),
        ("a.csv", b"text\n\xff\xfe\n", "cannot read"),
        ("a.jsonl", b'{"text": 1}\n', "object 1 has no `text`"),
        ("a.jsonl", b'{"text": "a"}\n[\n', "object 2 is not JSON"),
        ("absent.csv", None, "cannot read"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BusError) as caught:
        read_inquiries(path)
    assert says in str(caught.value)


def test_a_classifier_is_measured_only_where_it_can_be_trained() -> None:
    rows = [Inquiry(number, f"text {number}", "abcd"[number % 4]) for number in range(40)]
    assert measurable(Path("a.csv"), rows)
    assert not measurable(Path("a.jsonl"), rows)
    assert not measurable(Path("a.csv"), [replace(row, category=None) for row in rows])
    assert not measurable(Path("a.csv"), [replace(row, category="a") for row in rows])


# --- Book-keeping -------------------------------------------------------------------------------------------------


def book() -> Tally:
    tally = Tally()
    for row in range(1, 5):
        tally.send(f"r-{row}", Inquiry(row, f"t{row}", "fees" if row < 4 else "pin"), now_s=float(row))
    return tally


def test_what_comes_is_booked_once_for_each_inquiry() -> None:
    tally = book()
    assert tally.come("r-1", "a", 1.5, good=True, intent="fees") == "answer"
    assert tally.come("r-1", "a", 1.6, good=True, intent="fees") == "repeat"
    assert tally.repeats == 1
    assert tally.come("r-2", "b", 2.5, good=False) == "failure"
    assert tally.come("r-2", "c", 2.6, good=True) == "duplicate"
    assert tally.repeats == 1
    assert tally.come("old-1", "d", 9.0, good=True) == "stray"
    assert tally.come(None, "e", 9.0, good=True) == "stray"
    assert tally.open == 2
    summary = summarise(tally, 5, None, Watched())
    counted = (summary.answered, summary.failed, summary.lost, summary.duplicates)
    assert counted == (1, 1, 3, 1)  # the fifth was never sent: lost as well
    assert summary.intent_accuracy is None
    assert not summary.good


def test_the_summary_of_a_good_run() -> None:
    tally = book()
    for row in range(1, 5):
        tally.come(f"r-{row}", f"a{row}", row + row / 10, good=True, intent="fees")
    summary = summarise(tally, 4, lambda text: text == "t1", Watched(messages=20))
    assert summary.good
    assert (summary.p50_ms, summary.p99_ms) == (200.0, 400.0)
    assert summary.seconds == 3.4
    assert summary.messages_per_s == round(20 / 3.4, 1)
    assert (summary.intent_accuracy, summary.intent_baseline, summary.accuracy_rows) == (0.6667, 0.6667, 3)
    assert summary.text().startswith("4 answered, 0 lost, 0 duplicates, p50 200 ms")


@pytest.mark.parametrize("wrong", ["lost", "duplicates", "dead_lettered", "invalid"])
def test_anything_wrong_makes_a_run_not_good(wrong: str) -> None:
    tally = Tally()
    tally.send("r-1", Inquiry(1, "t"), 0.0)
    tally.come("r-1", "a", 1.0, good=True)
    good: Summary = summarise(tally, 1, None, Watched())
    assert good.good
    assert not replace(good, **{wrong: 1}).good


def test_percentile_by_nearest_rank() -> None:
    assert percentile([], 0.5) is None
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0.01, 0.5, 0.75, 0.99)] == [1.0, 2.0, 3.0, 4.0]


# --- The front desk -----------------------------------------------------------------------------------------------


class Bus:
    """An AgentLink whose other side is a function: inquiry in, messages out."""

    def __init__(self, answers: Callable[[Message], Sequence[Message]]) -> None:
        self._answers = answers
        self._handler: Handler | None = None
        self.sent: list[Message] = []
        self.settled: list[bool] = []
        self.open_at_most = 0
        self.queues: Sequence[str] = ()
        self.closed = False

    async def open(self) -> None: ...

    async def listen(self, queues: Sequence[str], prefetch: int, handler: Handler) -> None:
        self.queues, self._handler = queues, handler

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self.open_at_most = max(self.open_at_most, len(self.sent) - len(self.settled))
        for answer in self._answers(message):
            await asyncio.sleep(0)
            await self._deliver(answer)

    async def open_client(self, handler: Handler) -> str:
        raise AssertionError("the front desk has an inbox of its own")

    async def close(self) -> None:
        self.closed = True

    def _deliver(self, message: Message) -> Awaitable[None]:
        assert self._handler is not None

        async def settle(done: bool) -> None:
            self.settled.append(done)

        return self._handler(Inbound(message, self.queues[0], False, settle))


def answer_to(inquiry: Message, type_: str = "response.replied", data: Json = None) -> Message:
    attributes = {
        SPECVERSION: "1.0", ID: f"a-{inquiry.id}", SOURCE: "composer", TYPE: type_, CORRELATION: inquiry.id,
        CONVERSATION: inquiry.conversation,
    }  # fmt: skip
    return Message(attributes, data if data is not None else {"text": "Yes.", "intent": "fees"})


async def serve(bus: Bus, texts: Sequence[str], up: Callable[[], bool] = lambda: True) -> tuple[Summary, list[Heard]]:
    heard: list[Heard] = []
    desk = FrontDesk(bus, "ns", "run", 3, heard.append, idle_s=0.05, settle_s=0)
    await desk.serve([Inquiry(row, text) for row, text in enumerate(texts, 1)], up)
    assert bus.closed
    return summarise(desk.tally, len(texts), None, Watched()), heard


async def test_every_inquiry_is_asked_in_a_conversation_of_its_own_with_a_bounded_window() -> None:
    bus = Bus(lambda inquiry: [answer_to(inquiry)])
    summary, heard = await serve(bus, [f"t{number}" for number in range(20)])
    assert summary.good
    assert bus.queues == ["ns.agent.frontdesk"]
    assert bus.open_at_most <= 3
    assert bus.settled == [True] * 20
    first = bus.sent[0]
    assert (first.conversation, first.type, first.data) == ("run-1", "customer.inquiry.received", {"text": "t0"})
    assert first.text(REPLYTO) == "agent:frontdesk"
    assert len({message.id for message in bus.sent}) == 20
    assert [each.what for each in heard] == ["answer"] * 20


async def test_second_answers_failures_strays_and_losses_are_told_apart() -> None:
    def answers(inquiry: Message) -> Sequence[Message]:
        return {
            "twice": [answer_to(inquiry), answer_to(inquiry), renamed(answer_to(inquiry))],
            "fails": [answer_to(inquiry, "bus.failed", {"class": "contract", "reason": "no"})],
            "stray": [replace_correlation(answer_to(inquiry)), answer_to(inquiry)],
            "lost": [],
        }[str(inquiry.data["text"])]  # type: ignore[index, call-overload]  # the desk sends {text}

    summary, heard = await serve(Bus(answers), ["twice", "fails", "stray", "lost"])
    counted = (summary.answered, summary.duplicates, summary.failed, summary.lost)
    assert counted == (2, 1, 1, 1)
    assert summary.repeats == 1
    assert sorted(each.what for each in heard) == ["answer", "answer", "duplicate", "failure"]


def renamed(message: Message) -> Message:
    return Message({**message.attributes, ID: "another"}, message.data)


def replace_correlation(message: Message) -> Message:
    return Message({**message.attributes, CORRELATION: "of-another-run"}, message.data)


async def test_an_inquiry_that_cannot_be_sent_is_told_and_frees_its_place() -> None:
    def refuse(inquiry: Message) -> Sequence[Message]:
        raise Refused("too-big", "the message is too long")

    summary, heard = await serve(Bus(refuse), [f"t{number}" for number in range(8)])
    assert summary.failed == 8
    assert heard[0].data["reason"] == "the message is too long"


async def test_while_the_bus_is_down_nothing_counts_as_lost() -> None:
    asked = 0

    def up() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    summary, _ = await serve(Bus(lambda inquiry: []), ["t"], up)
    assert asked == 3  # idle three times; given up only when the bus was there
    assert summary.lost == 1


def test_an_answer_on_one_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    sent = Sent(Inquiry(3, "I lost\x1b[31m my\ncard " + "x" * 80), 1.0, 1.038, answered=True)
    data: Mapping[str, Any] = {"text": "Please freeze it.", "intent": "card_lost"}
    _show(Heard("answer", sent, "run-3", data), Printer("text"))
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert line.startswith('#3 "I lost')
    assert line.endswith('-> card_lost: "Please freeze it."  38 ms\n')


# --- Supervision --------------------------------------------------------------------------------------------------

PART = """
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("stopped", file=sys.stderr), sys.exit(0)))
print(json.dumps({"event": "ready", "agents": ["a"]}), flush=True)
print("no json", flush=True)
time.sleep(60)
"""


def part(folder: Path, code: str, say: Callable[[str], None]) -> Part:
    (folder / "part_under_test.py").write_text(code)
    return Part("part", ["part_under_test"], {"PYTHONPATH": str(folder)}, folder, say)


async def test_a_part_that_is_killed_is_started_again_and_stopped_in_order(tmp_path: Path) -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    tested = part(tmp_path, PART, said.put_nowait)
    running = asyncio.create_task(tested.run())
    async with asyncio.timeout(20):
        await tested.ready.wait()
        assert tested.announced["agents"] == ["a"]
        first = int((tmp_path / "part.pid").read_text())
        os.kill(first, signal.SIGKILL)
        assert await said.get() == "part was killed by SIGKILL; starting it again"
        await tested.ready.wait()
        second = int((tmp_path / "part.pid").read_text())
        await tested.stop()
        await running
    assert second != first
    assert tested.restarts == 1
    assert said.empty()
    assert tested.log is not None
    assert "stopped" in tested.log.read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


async def test_a_part_that_never_was_ready_ends_the_job_with_its_reason(tmp_path: Path) -> None:
    tested = part(tmp_path, "import sys; sys.exit('two owners of order.placed')", print)
    with pytest.raises(BusError, match="before it was ready") as caught:
        await tested.run()
    assert "two owners of order.placed" in str(caught.value)
    await tested.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
async def test_a_part_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    folder = str(tmp_path)
    parent = f"""
import asyncio, pathlib, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from bus.shell.supervisor import Part
async def main():
    part = Part("part", ["part_under_test"], {{"PYTHONPATH": {folder!r}}}, pathlib.Path({folder!r}), print)
    running = asyncio.create_task(part.run())
    await part.ready.wait()
    print("up", flush=True)
    await running
asyncio.run(main())
"""
    part(tmp_path, f"held = open({str(fifo)!r}, 'w')\n{PART}", print)
    ended = asyncio.create_task(asyncio.to_thread(fifo.read_text))  # until the last writer is gone
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert await process.stdout.readline() == b"up\n"
        process.kill()
        await process.wait()
        await ended
    assert "stopped" in (tmp_path / "part.log").read_text()


# --- Home folders -------------------------------------------------------------------------------------------------


def test_each_job_has_a_home_of_its_own(tmp_path: Path) -> None:
    base = tmp_path / "home"
    with choose_home(base) as first, choose_home(base) as second:
        assert (first.name, second.name) == ("home", "home-2")
        with choose_home(base) as third:
            assert third.name == "home-3"
    with choose_home(base) as again:
        assert again == base.absolute()


def test_a_home_with_a_running_bus_is_left_alone(tmp_path: Path) -> None:
    base = tmp_path / "home"
    base.mkdir()
    held = StoreLock(base / "bus.db")
    with choose_home(base) as home:
        assert home.name == "home-2"
    held.release()
