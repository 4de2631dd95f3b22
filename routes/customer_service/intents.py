"""The intent classifier: TF-IDF of words and letter groups, and a linear support vector machine on top.

Word pairs carry meaning, letter groups carry spelling mistakes and word forms. A linear machine on such features is the
strong plain baseline for short texts: it trains in seconds on ten thousand rows and predicts in about a millisecond.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_union
from sklearn.svm import LinearSVC

from articles import load_articles
from split import is_training

SHARPNESS = 4.0  # margins to probabilities: with 4, mean confidence and accuracy on unseen rows roughly agree
ALTERNATIVES = 3


@dataclass(frozen=True, slots=True)
class Guess:
    """An intent and how sure the classifier is, 0 to 1; all intents together make 1."""

    intent: str
    confidence: float


class _Features:
    """One kind of features at prediction time: a fitted vectoriser and the machine's weights for its columns.

    It does what `TfidfVectorizer.transform` and a matrix product do, for one text and in a tenth of the time:
    scikit-learn checks more than it computes when there is a single row.
    """

    def __init__(self, vectoriser: Any, weights: Any) -> None:
        self._analyse = vectoriser.build_analyzer()
        self._columns: dict[str, int] = vectoriser.vocabulary_
        self._idf: Any = vectoriser.idf_
        self._weights: Any = np.ascontiguousarray(weights.T)

    def margins(self, text: str) -> Any:
        """Return what these features add to the margin of each intent."""
        counts = Counter(self._columns[term] for term in self._analyse(text) if term in self._columns)
        if not counts:
            return np.zeros(self._weights.shape[1])
        columns = np.fromiter(counts.keys(), dtype=np.intp)
        values = (1.0 + np.log(np.fromiter(counts.values(), dtype=float))) * self._idf[columns]
        return (values / np.linalg.norm(values)) @ self._weights[columns]


class IntentModel:
    """Args:
    texts: what customers wrote.
    intents: what each of them meant; at least three different ones.
    """

    def __init__(self, texts: Sequence[str], intents: Sequence[str]) -> None:
        # scikit-learn has no types, so Any stays inside these two classes.
        words: Any = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w+\b")
        letters: Any = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, min_df=2)
        machine: Any = LinearSVC(C=0.5, tol=0.1).fit(make_union(words, letters).fit_transform(texts), intents)
        of_words = len(words.vocabulary_)
        self._intents: list[str] = [str(name) for name in machine.classes_]
        self._features = [
            _Features(words, machine.coef_[:, :of_words]),
            _Features(letters, machine.coef_[:, of_words:]),
        ]
        self._bias: Any = machine.intercept_

    def guess(self, text: str) -> list[Guess]:
        """Return the likeliest intents, best first: one and up to `ALTERNATIVES` more."""
        scores = (sum(features.margins(text) for features in self._features) + self._bias) * SHARPNESS
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        best = np.argsort(-shares, kind="stable")[: 1 + ALTERNATIVES]
        return [Guess(self._intents[place], round(float(shares[place]), 4)) for place in best]


def labelled(path: Path) -> list[tuple[str, str]]:
    """Read the rows of a CSV file with the columns `text` and `category`.

    Raises:
        ValueError: a column is missing.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if not {"text", "category"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path} has the columns {rows.fieldnames}; write `text,category` in its first line")
        return [(row["text"], row["category"]) for row in rows]


def train(inquiries: Path, articles: Path | None = None) -> IntentModel:
    """Train on the training part of a labelled file.

    Args:
        inquiries: CSV of text and category.
        articles: folder of help articles whose first tag is the intent that they answer; their sentences are
            examples too, for intents that the file knows. They help much where a file has few rows.

    Raises:
        ValueError: a column is missing, or there are too few intents.
    """
    examples = [row for row in labelled(inquiries) if is_training(row[0])]
    known = {intent for _, intent in examples}
    if len(known) < 3:
        raise ValueError(f"{inquiries} has {len(known)} intents among the rows to train on; write at least 3")
    for article in load_articles(articles) if articles else ():
        if article.tags[0] in known:
            lines = [article.title, " ".join(article.tags).replace("_", " "), *re.split(r"(?<=[.;:])\s+", article.text)]
            examples += [(line, article.tags[0]) for line in lines]
    return IntentModel([text for text, _ in examples], [intent for _, intent in examples])
