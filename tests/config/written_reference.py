"""The generated parts of `routes/README.md`; `python -m tests.config.written_reference` writes them."""

from __future__ import annotations

import re
from pathlib import Path

from bus.config.reference import fill, patterns_table, steps_reference
from bus.core.registry import STEPS

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "routes" / "README.md"


def files_that_test(kind: str) -> list[str]:
    """The files of tests/core that test a step, best first: those that name it and have a test called after it."""
    called = re.compile(rf"def test_(?:\w*_)?{kind}s?(?:_\w*)?\(")
    ranked: list[tuple[int, str]] = []
    for path in sorted((ROOT / "tests" / "core").glob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        quoted, named = f'"{kind}"' in text, bool(called.search(text))
        if quoted or named or re.search(rf"(^|[\s{{]){kind}:\s", text, re.MULTILINE):
            ranked.append((2 * (not quoted) + (not named), path.relative_to(ROOT).as_posix()))
    return [file for _, file in sorted(ranked)]


def written(readme: str) -> str:
    """The README with its generated parts as they are now."""
    tests = {kind: next(iter(files_that_test(kind)), "tests/core") for kind in STEPS}
    return fill(fill(readme, "patterns", patterns_table(STEPS, tests)), "steps", steps_reference(STEPS))


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
