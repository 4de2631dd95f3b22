"""Which rows of a labelled file are for training: a stable hash of the text decides, so every process agrees.

The classifier trains on these rows and on no others; whoever measures it counts the others only.
"""

from __future__ import annotations

from hashlib import blake2b

_FIFTHS_TO_LEARN_FROM = 4  # of five


def is_training(text: str) -> bool:
    """Tell whether a row with this text is trained on: four in five are, the same on every machine."""
    digest = blake2b(text.strip().encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 5 < _FIFTHS_TO_LEARN_FROM
