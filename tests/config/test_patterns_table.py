"""Every step has its file, a test that names it, an entry in the reference, and a line in the table of patterns."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from bus.cli.new.templates import integration_files
from bus.config.reference import fill
from bus.core.registry import STEPS
from bus.core.spec import Spec
from tests.config.written_reference import README, ROOT, files_that_test, written

each_step = pytest.mark.parametrize("spec", STEPS.values(), ids=lambda spec: spec.kind)


def test_the_generated_parts_are_as_the_specs_say() -> None:
    text = README.read_text(encoding="utf-8")
    assert written(text) == text, "write `python -m tests.config.written_reference`"


@each_step
def test_a_step_stands_in_the_file_of_its_name(spec: Spec) -> None:
    file = ROOT / "bus" / "core" / "steps" / f"{spec.kind}.py"
    assert Path(inspect.getfile(spec.build)) == file
    assert f'kind="{spec.kind}"' in file.read_text(encoding="utf-8")


@each_step
def test_a_step_has_a_test_in_the_core(spec: Spec) -> None:
    assert files_that_test(spec.kind), f"write a test of `{spec.kind}` in tests/core, with the step in its name"


@each_step
def test_a_step_says_what_it_is(spec: Spec) -> None:
    assert re.fullmatch(r"[A-Z][\w-]*( [\w-]+)*", spec.pattern), "the pattern's name as the literature writes it"
    assert spec.summary.endswith("."), "the summary is a sentence"
    assert spec.example.startswith(f"{spec.kind}:"), "the example is a step of this kind"


def test_files_of_steps_are_in_the_table() -> None:
    files = {path.stem for path in (ROOT / "bus" / "core" / "steps").glob("*.py")} - {"__init__"}
    assert files == set(STEPS)


def test_links_of_the_reference_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    anchors = {"#" + title.strip().lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, mark, anchor = target.partition("#")
        if not target.startswith("http"):
            assert not file or (README.parent / file).exists(), target
            assert file or f"{mark}{anchor}" in anchors, target


def test_marks_that_are_not_there_are_told() -> None:
    with pytest.raises(ValueError, match="no marks for `steps`"):
        fill("# Steps\n", "steps", "text")


def test_the_first_readme_shows_what_bus_new_writes() -> None:
    """Each block of the first five minutes that is a file is one of those files, but for its first and last lines."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("bus new integration hello")[2]
    blocks = ["\n".join(re.sub("^    ", "", line) for line in block.splitlines()) for block in re.findall(
        r"(?:^(?:    .*)?\n)+", text.partition("Check it, run it")[0], re.MULTILINE) if block.strip()]  # fmt: skip
    files = integration_files("hello", "greeter", "greeting").values()
    squeezed = [re.sub(r"\n+", "\n", re.sub(r" *#.*", "", file)) for file in files]
    assert len(blocks) == 5
    for block in blocks:
        assert any(re.sub(r"\n+", "\n", block).strip() in file for file in squeezed), block


PATTERNS = (
    "Content-Based Router", "Message Filter", "Dynamic Router", "Recipient List", "Splitter", "Aggregator",
    "Resequencer",
    "Composed Message Processor", "Scatter-Gather", "Routing Slip", "Detour", "Load Balancer", "Sampling", "Loop",
    "Envelope Wrapper", "Content Enricher", "Content Filter", "Claim Check", "Normalizer", "Canonical Data Model",
    "Message Translator", "Request-Reply", "Idempotent Receiver", "Competing Consumers", "Selective Consumer",
    "Durable Subscriber", "Messaging Gateway", "Messaging Bridge", "Wire Tap", "Message History", "Message Store",
    "Smart Proxy", "Test Message", "Channel Purger", "Control Bus", "Dead Letter Channel", "Invalid Message Channel",
    "Retry, with backoff and jitter", "Circuit Breaker", "Throttler", "Delayer", "Timeout", "Message Expiration",
    "Fallback, by failure class", "Contract repair",
)  # fmt: skip


def test_every_pattern_has_its_row_and_what_the_row_names_is_there() -> None:
    text = README.read_text(encoding="utf-8")
    rows = {row.split("|")[1].strip(): row for row in text.splitlines() if row.startswith("| ")}
    assert [name for name in PATTERNS if name not in rows] == []
    headings = {re.sub(r"[^a-z0-9_ -]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in text.splitlines() if line.startswith("#")}  # fmt: skip
    for name in PATTERNS:
        links = re.findall(r"\]\((#|\.\./)([^)]+)\)", rows[name])
        assert len(links) == 3, rows[name]
        for kind, place in links:
            assert place in headings if kind == "#" else (ROOT / place).is_file(), f"{name}: {place}"
