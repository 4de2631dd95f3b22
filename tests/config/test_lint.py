"""Lint: every planted mistake is found at its line and column, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bus.config import ConfigFinding, load
from bus.config.finding import Findings
from bus.config.suggest import instead_of, nearest
from bus.core.registry import STEPS
from tests.config.corpus_cases import CORPUS, cases, expected, lay_out
from tests.corpora import ROOT

_GIVEN = re.compile(
    r"""(?:report|finding|Problem|ConfigFinding|Clash|_refused)\((?:[^()"]|\([^()]*\))*"([a-z]+(?:-[a-z0-9]+)+)\""""
)
ENVIRONMENT = {"KEY": "s3cret", "COUNT": "many", "MANY": "9"}


def lint(root: Path) -> tuple[ConfigFinding, ...]:
    return load([root], ENVIRONMENT, STEPS, tests=True).findings


def test_the_sound_integration_has_no_findings(tmp_path: Path) -> None:
    loaded = load([lay_out("", tmp_path)], {}, STEPS)
    assert [str(each) for each in loaded.findings] == []
    assert loaded.catalog is not None


@pytest.mark.parametrize("case", cases())
def test_planted_mistakes(case: str, tmp_path: Path) -> None:
    root = lay_out(case, tmp_path)
    found = lint(root)
    places = [f"{Path(each.path).relative_to(root)}:{each.line}:{each.col}" for each in found]
    given = sorted(zip(places, (f"{each.severity}[{each.code}]" for each in found), strict=True))
    wanted = expected(case)
    assert given == sorted((each.place, each.kind) for each in wanted)
    lines = [f"{place} {str(each).partition(': ')[2]}" for place, each in zip(places, found, strict=True)]
    for each in wanted:
        start = f"{each.place} {each.kind}: "
        assert any(line.startswith(start) and each.words in line for line in lines), each


def test_ten_mistakes_in_one_folder_refuse_it(tmp_path: Path) -> None:
    loaded = load([lay_out("ten", tmp_path)], {}, STEPS)
    assert loaded.catalog is None
    assert {each.code for each in loaded.findings} == {
        "unknown-key", "wrong-type", "unknown-capability", "missing-file", "not-cel", "unknown-field", "duplicate-key",
        "two-owners", "unreachable", "remote-ref",
    }  # fmt: skip


def test_every_code_that_the_readers_give_is_planted() -> None:
    """A new finding is a line of the corpus too. What no folder shows by itself has tests of its own."""
    given = set()
    for path in (ROOT / "bus" / "config").glob("*.py"):
        given |= set(_GIVEN.findall(path.read_text(encoding="utf-8")))
    planted = {each.kind.split("[")[1].rstrip("]") for case in cases() for each in expected(case)}
    assert len(given) > 50
    assert given - planted == {"too-big", "missing-folder", "edited-version", "incompatible-version"}


def test_findings_never_show_a_secret(tmp_path: Path) -> None:
    found = lint(lay_out("secrets", tmp_path))
    assert found
    assert not any("s3cret" in str(each) for each in found)


def test_the_corpus_is_whole() -> None:
    folders = {each.name for each in CORPUS.iterdir() if each.is_dir()}
    assert folders - set(cases()) == {"base"}


def test_a_finding_in_its_three_forms() -> None:
    finding = ConfigFinding("routes/x/a,b.yaml", 12, 7, "unknown-key", "unknown key `whens` in a case\n50%", "`when`")
    assert str(finding) == (
        "routes/x/a,b.yaml:12:7: error[unknown-key]: unknown key `whens` in a case\n50%; write `when`"
    )
    assert finding.as_dict()["line"] == 12
    assert finding.as_github() == (
        "::error file=routes/x/a%2Cb.yaml,line=12,col=7,title=unknown-key::"
        "unknown key `whens` in a case%0A50%25; write `when`"
    )


def test_findings_come_sorted_and_once() -> None:
    findings = Findings()
    for line in (3, 1, 3):
        findings.add(ConfigFinding("a", line, 1, "c", "w"))
    assert [each.line for each in findings.sorted()] == [1, 3]


@pytest.mark.parametrize(
    ("word", "best"),
    [("sentimant", "sentiment"), ("Sentiment", "sentiment"), ("credit-check", "credit_check"), ("x", None)],
)
def test_did_you_mean(word: str, best: str | None) -> None:
    assert nearest(word, ["sentiment", "credit_check", "knowledge"]) == best


def test_without_a_near_name_all_are_listed() -> None:
    assert instead_of("x", ["b", "a"]) == "one of `a`, `b`"
    assert instead_of("x", ["b", "a"], "`c`") == "`c`"
