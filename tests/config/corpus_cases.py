"""The corpus of planted mistakes: each case laid over the sound integration, with the findings that it must give.

`expected.txt` of a case has a line `FILE:LINE:COL severity[code] words` for each finding; the words stand in its text.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
ALONE = ("ten",)  # cases that are integrations of their own
_LINE = re.compile(r"(?P<place>\S+:\d+:\d+) (?P<kind>\w+\[[\w-]+\])(?: (?P<words>.*))?")


@dataclass(frozen=True, slots=True)
class Expected:
    """Args:
    place: `FILE:LINE:COL`; `kind` is `severity[code]`.
    """

    place: str
    kind: str
    words: str


def cases() -> list[str]:
    return sorted(each.name for each in CORPUS.iterdir() if (each / "expected.txt").is_file())


def expected(case: str) -> list[Expected]:
    lines = (CORPUS / case / "expected.txt").read_text(encoding="utf-8").splitlines()
    found = [_LINE.fullmatch(line) for line in lines if line and not line.startswith("#")]
    assert all(found), f"{case}/expected.txt has a line of another form"
    return [Expected(each["place"], each["kind"], each["words"] or "") for each in found if each]


def lay_out(case: str, folder: Path) -> Path:
    """Make the integration of a case in `folder`; "" is the sound one."""
    root = folder / (case if case in ALONE else "shop")
    layers = [CORPUS / case] if case in ALONE else [CORPUS / "base", *([CORPUS / case] if case else [])]
    for layer in layers:
        shutil.copytree(layer, root, dirs_exist_ok=True)
    return root
