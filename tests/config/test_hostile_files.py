"""Whatever stands in a file, loading it ends, soon, with findings: never with an exception."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.config import load
from bus.core.registry import STEPS
from tests.config.corpus_cases import CORPUS, cases, lay_out
from tests.corpora import corpus

SOUND = (CORPUS / "base" / "sound.yaml").read_text(encoding="utf-8")
TOKENS = (
    "{{", "}}", "{", "}", "[", "]", ": ", "- ", "\n", "\n  ", "---\n", "!", "&a ", "*a", "'", '"', "|\n", "#", "\t",
    "null", "9" * 30, "steps:", "when:", "data.text", "to: {event: mail.out}\n", "ü", "\u2028", "\x00",
)  # fmt: skip


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Fail when the block takes longer, also when it hangs."""

    def hung(_number: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_no_file_of_the_yaml_test_suite_crashes_or_hangs_the_loader(tmp_path: Path) -> None:
    files = sorted(corpus("yaml-test-suite").glob("*.yaml"))
    assert len(files) > 300
    folder = tmp_path / "suite"
    folder.mkdir()
    for file in files:
        (folder / "route.yaml").write_bytes(file.read_bytes())
        with at_most(5):
            assert load([folder], {}, STEPS).findings, file.name  # none of them is an integration


@pytest.mark.parametrize("beside", ["", *cases()])
def test_a_file_cut_anywhere_is_told_of(beside: str, tmp_path: Path) -> None:
    root = lay_out(beside, tmp_path)
    for name in sorted(path.name for path in (CORPUS / (beside or "base")).glob("*.yaml")):
        path = root / name
        whole = path.read_bytes()
        for end in range(7, len(whole), max(11, len(whole) // 12)):
            path.write_bytes(whole[:end])
            with at_most(5):
                load([root], {}, STEPS)
        path.write_bytes(whole)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(SOUND)), st.integers(0, 12), st.sampled_from(TOKENS)), max_size=4))
def test_a_file_with_anything_in_it_is_told_of(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int, str]]
) -> None:
    text = SOUND
    for at, length, token in edits:
        text = text[:at] + token + text[at + length :]
    root = lay_out("", tmp_path_factory.mktemp("hostile"))
    (root / "sound.yaml").write_bytes(text.encode("utf-8", "replace"))
    with at_most(5):
        loaded = load([root], {}, STEPS)
    errors = [each for each in loaded.findings if each.severity == "error"]
    assert (loaded.catalog is None) == bool(errors)
    for each in loaded.findings:
        lines = len((root / Path(each.path).name).read_bytes().splitlines()) if each.path.endswith(".yaml") else 1
        assert 1 <= each.line <= lines + 1, each
