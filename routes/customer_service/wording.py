"""Words an answer from what the specialists found: the same findings always give the same words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bm25 import words

SURE = 0.4  # confidence from which the intent may overrule the order of the passages
KEY_SENTENCES = 2
_OPENINGS = {"negative": "I am sorry about this.", "positive": "Thank you for the kind words."}
_UNANSWERED = (
    "Thank you for writing to us. I have no article at hand that answers this, so a colleague will read your message "
    "and reply today."
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known about an inquiry; None and () where a specialist is missing.

    Args:
        passages: help articles as knowledge.reply.v1 has them, best first.
    """

    text: str
    intent: str | None = None
    confidence: float = 0.0
    mood: str | None = None
    passages: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, text: str, found: Mapping[str, Any]) -> Findings:
        """Take the specialists' replies apart; the bus has checked them against their contracts."""
        understanding = found.get("understanding") or {}
        return cls(
            text,
            understanding.get("intent"),
            understanding.get("confidence", 0.0),
            (found.get("sentiment") or {}).get("label"),
            in_order(understanding, (found.get("knowledge") or {}).get("passages", ())),
        )


def in_order(understanding: Mapping[str, Any], passages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Put the article that is written for the intent first, when the intent is sure enough."""
    written_for = str(understanding.get("intent", "")).replace("_", "-")
    sure = understanding.get("confidence", 0.0) >= SURE
    return sorted(passages, key=lambda passage: not (sure and passage["id"] == written_for))  # stable: best first


def key_sentences(text: str, query: str) -> str:
    """Return the first sentence, which says what to do, and the one that shares most words with the query."""
    first, *others = _SENTENCE.split(text.strip())
    asked = set(words(query))
    ranked = sorted(range(len(others)), key=lambda place: (-len(asked & set(words(others[place]))), place))
    chosen = sorted(ranked[: KEY_SENTENCES - 1])
    return " ".join([first, *(others[place] for place in chosen)])


def compose(findings: Findings) -> str:
    """Write the answer: tone by mood, the best article's key sentences, and where to read on."""
    if not findings.passages:
        return " ".join(filter(None, [_OPENINGS.get(findings.mood or ""), _UNANSWERED]))
    best = findings.passages[0]
    parts = [
        _OPENINGS.get(findings.mood or "", ""),
        key_sentences(best["text"], findings.text),
        f'More is in our help under "{best["title"]}".',
    ]
    if findings.mood == "negative":
        parts.append("If that does not settle it, reply here and a person takes over.")
    return " ".join(filter(None, parts))
