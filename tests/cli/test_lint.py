"""`bus lint`: exit codes and the three forms of output. What it finds is tested with the configuration."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.cli.conftest import Bus


def test_nothing_found_is_0(bus: Bus, hello: Path) -> None:
    text = bus("lint", hello, "--output", "text")
    assert (text.code, text.out) == (0, "")
    assert "no findings: 1 route, 1 agent, 1 type" in text.err
    assert bus("lint", hello).out == ""


def test_a_folder_of_integrations_will_do(bus: Bus, broken: Path) -> None:
    assert bus("lint", broken.parent).code == 1


def test_findings_are_1_with_place_and_advice(bus: Bus, broken: Path) -> None:
    ran = bus("lint", broken, "--output", "text")
    assert ran.code == 1
    assert "hello.yaml:3:" in ran.out
    assert "error[unknown-field]" in ran.out
    assert "write `data.name`" in ran.out
    assert "1 error, 0 warnings" in ran.err


def test_without_a_terminal_findings_are_json_lines(bus: Bus, broken: Path) -> None:
    (row,) = bus("lint", broken).rows
    assert (row["code"], row["line"], row["severity"]) == ("unknown-field", 3, "error")
    assert row["path"].endswith("hello.yaml")
    assert set(row) == {"path", "line", "col", "severity", "code", "what", "instead"}


def test_github_annotations(bus: Bus, broken: Path) -> None:
    ran = bus("lint", broken, "--output", "github")
    assert ran.code == 1
    assert ran.out.startswith("::error file=")
    assert ",line=3,col=" in ran.out


def test_run_refuses_what_lint_finds(bus: Bus, broken: Path, tmp_path: Path) -> None:
    ran = bus("run", broken, "--home", tmp_path / "home")
    assert ran.code == 1
    assert "error[unknown-field]" in ran.err
    assert not (tmp_path / "home").exists()


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def test_against_a_commit_or_a_folder(bus: Bus, hello: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "published")
    shutil.copytree(hello, tmp_path / "published" / "hello")
    assert bus("lint", hello, "--against", "main").code == 0
    schema = hello / "schemas" / "hello.v1.json"
    schema.write_text(schema.read_text().replace('"string"', '"integer"'))
    for ref in ("main", tmp_path / "published"):
        ran = bus("lint", hello.parent, "--against", ref)
        assert ran.code == 1
        assert [row["code"] for row in ran.rows if row["code"] == "edited-version"] == ["edited-version"]
    (hello.parent / "new").mkdir()
    (hello.parent / "new" / "integration.yaml").write_text("integration: new\n")
    assert bus("lint", hello.parent / "new", "--against", "main").code == 0
    for ref in ("nowhere", "--upload-pack=x"):
        assert bus("lint", hello, f"--against={ref}").code != 0
    unknown = bus("lint", hello, "--against", "nowhere")
    assert "there is no such commit" in unknown.err
