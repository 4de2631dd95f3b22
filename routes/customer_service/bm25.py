"""Okapi BM25 over a small set of documents, held in memory.

A document's score is the sum, over the query's words, of idf(word) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length /
average length)), with idf = ln(1 + (N - n + 0.5) / (n + 0.5)): Robertson and Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009, with the idf that stays positive as in Lucene.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

K1 = 1.2  # how fast a repeated word stops counting; 1.2 to 2 is usual
B = 0.75  # how much long documents are held back; 0.75 is the usual value
_WORD = re.compile(r"[^\W_]+")
_ENDINGS = ("ings", "ing", "ies", "ed", "es", "s")
_SHORTEST = 3  # letters that must be left of a word after its ending is taken off
_STOP = frozenset([
    "a", "am", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "could", "did", "do",
    "does", "for", "from", "get", "had", "has", "have", "how", "i", "if", "in", "into", "is", "it", "its", "me",
    "my", "no", "not", "of", "on", "or", "our", "she", "should", "so", "some", "that", "the", "their", "them",
    "then", "there", "they", "this", "to", "up", "was", "we", "were", "what", "when", "where", "which", "who",
    "why", "will", "with", "would", "you", "your",
])  # fmt: skip


def words(text: str) -> list[str]:
    """Split into lower-case words without their endings and without those that say nothing."""
    return [_stem(word) for word in _WORD.findall(text.lower().replace("'", "")) if word not in _STOP]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST:
            return word[: -len(ending)].rstrip("e")
    return word.rstrip("e") if len(word) > _SHORTEST else word


class Bm25:
    """Args:
    documents: the texts, by number from 0.
    """

    def __init__(self, documents: Sequence[str]) -> None:
        counts = [Counter(words(document)) for document in documents]
        lengths = [sum(count.values()) for count in counts]
        average = sum(lengths) / max(1, len(lengths)) or 1.0
        self._gains: dict[str, dict[int, float]] = defaultdict(dict)
        for word in {word for count in counts for word in count}:
            having = [number for number, count in enumerate(counts) if word in count]
            idf = math.log(1 + (len(counts) - len(having) + 0.5) / (len(having) + 0.5))
            for number in having:
                often = counts[number][word]
                damped = often + K1 * (1 - B + B * lengths[number] / average)
                self._gains[word][number] = idf * often * (K1 + 1) / damped

    def search(self, query: str, k: int) -> list[tuple[int, float]]:
        """Return the numbers and scores of the `k` best documents, best first; only those that share a word."""
        scores: dict[int, float] = defaultdict(float)
        for word in words(query):
            for number, gain in self._gains.get(word, {}).items():
                scores[number] += gain
        return sorted(scores.items(), key=lambda found: (-found[1], found[0]))[:k]
