"""Sentiment: how a customer feels, scored from a word list; a program that knows nothing of the bus.

It reads one JSON request per line on standard input and writes one JSON answer per line on standard output, so it could
be written in any language; the stdio adapter does the rest. Each known word has a valence (data/lexicon.txt). What
stands before a word may turn it ("not happy") or strengthen it ("very slow"), capitals and exclamation marks make
the sentence louder, and after a "but" the second half counts more than the first. The sum is squeezed into -1..1 by
x / sqrt(x^2 + 15), the normalisation of VADER (Hutto and Gilbert, ICWSM 2014), whose rules these follow in spirit.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LEXICON = Path(__file__).parent / "data" / "lexicon.txt"

REACH = 3  # words before a word that may change it; further away it is another thought
TURNED = -0.74  # "not good" is bad, but less than "good" is good (VADER's factor)
DENIED = -0.2  # "not bad" and "no problem" are no praise
LOUD = 1.25  # a word in capitals among others that are not
EXCLAIM = 0.29  # added per "!", three at most, in the direction of the sum (VADER's amount)
BEFORE_CONTRAST, AFTER_CONTRAST = 0.5, 1.5
SQUEEZE = 15.0
NEUTRAL = 0.15  # scores nearer to zero than this carry no mood worth naming
WORDS = 50  # as many as the reply's contract allows
_TOKEN = re.compile(r"<3|[:;]'?-?[()D/]|[^\W\d_]+(?:['-][^\W\d_]+)*|[\u2600-\u27bf\U0001f300-\U0001faff]")


@dataclass(frozen=True, slots=True)
class Mood:
    """The score from -1 to 1, its label, and the words that made it, in order."""

    score: float
    label: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Valence by word, the words that turn or scale it, and those after which the real point comes."""

    valence: dict[str, float]
    turns: frozenset[str]
    factors: dict[str, float]
    contrasts: frozenset[str]


def load_lexicon(path: Path = LEXICON) -> Lexicon:
    """Read the word list; its first lines say how it is written."""
    valence: dict[str, float] = {}
    factors: dict[str, float] = {}
    sets: dict[str, list[str]] = {"turn": [], "contrast": []}
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, *words = line.split()
        if kind in sets:
            sets[kind] += words
        elif kind.startswith("x"):
            factors.update(dict.fromkeys(words, float(kind[1:])))
        elif kind != "#":
            valence.update(dict.fromkeys(words, float(kind)))
    return Lexicon(valence, frozenset(sets["turn"]), factors, frozenset(sets["contrast"]))


def _just_before(tokens: Sequence[str], place: int, lexicon: Lexicon) -> Sequence[str]:
    """Return the words that may change the one at `place`: back to the last word with a mood of its own."""
    start = place
    while start > max(0, place - REACH) and (
        tokens[start - 1] in lexicon.turns or tokens[start - 1] not in lexicon.valence
    ):
        start -= 1
    return tokens[start:place]


def _changed(value: float, before: Sequence[str], lexicon: Lexicon) -> float:
    """Apply the words just before a word: intensifiers fade with distance, one negation turns."""
    for distance, word in enumerate(reversed(before)):
        value *= 1.0 + (lexicon.factors.get(word, 1.0) - 1.0) * (1.0 - 0.1 * distance)
    if lexicon.turns.isdisjoint(before):
        return value
    return value * (TURNED if value > 0 else DENIED)


def _weights(tokens: Sequence[str], contrasts: frozenset[str]) -> list[float]:
    """Weigh what stands before the last contrasting word less than what follows it."""
    last = max((place for place, token in enumerate(tokens) if token in contrasts), default=-1)
    if last <= 0 or last == len(tokens) - 1:
        return [1.0] * len(tokens)
    return [BEFORE_CONTRAST if place < last else AFTER_CONTRAST for place in range(len(tokens))]


def score(text: str, lexicon: Lexicon) -> Mood:
    """Score a text.

    Args:
        text: what the customer wrote.
        lexicon: the word list.
    """
    raw = _TOKEN.findall(text.replace("\u2019", "'"))
    tokens = [token.lower() if token[0].isalpha() else token for token in raw]
    shouting = any(token.isupper() and len(token) > 1 for token in raw) and any(token.islower() for token in raw)
    total, words = 0.0, []
    for place, (token, weight) in enumerate(zip(tokens, _weights(tokens, lexicon.contrasts), strict=True)):
        value = lexicon.valence.get(token, 0.0)
        if not value:
            continue
        value = _changed(value, _just_before(tokens, place, lexicon), lexicon) * weight
        total += value * (LOUD if shouting and len(token) > 1 and raw[place].isupper() else 1.0)
        words.append(token)
    if total:
        total += math.copysign(min(text.count("!"), 3) * EXCLAIM, total)
    result = round(total / math.sqrt(total * total + SQUEEZE), 4)
    label = "neutral" if abs(result) < NEUTRAL else "positive" if result > 0 else "negative"
    return Mood(result, label, tuple(words[:WORDS]))


def answer(line: str, lexicon: Lexicon) -> dict[str, object]:
    """Answer one line of the protocol: a request in, the reply or the failure as data out."""
    request = json.loads(line)
    try:
        mood = score(request["data"]["text"], lexicon)
    except (KeyError, TypeError, AttributeError) as error:
        failure = {"class": "contract", "reason": f"no text in the request: {error}"}
        return {"id": request.get("id"), "error": failure}
    return {"id": request["id"], "data": {"score": mood.score, "label": mood.label, "words": list(mood.words)}}


def main() -> None:
    """Serve until standard input ends."""
    lexicon = load_lexicon()
    for line in sys.stdin:
        if line.strip():
            sys.stdout.write(json.dumps(answer(line, lexicon)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
