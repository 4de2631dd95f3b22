"""Many names against many patterns, without trying each with each.

A configuration with thousands of routes asks the same two questions for every one of them: does any pattern fit this
name, and does this pattern fit any name. Each has an index here, so that loading takes as long per route with ten
thousand routes as with ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bus.core.table import GlobIndex, fits, is_glob


class Patterns:
    """Exact names and globs: whether any of them fits a name."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._globs = GlobIndex()

    def add(self, patterns: Iterable[str]) -> None:
        """Add patterns; those that are there already change nothing."""
        for pattern in patterns:
            if pattern not in self._texts:
                self._texts.add(pattern)
                if is_glob(pattern):
                    self._globs.add(pattern, 0)

    def fit(self, name: str) -> bool:
        """Whether any pattern fits."""
        return (name in self._texts and not is_glob(name)) or bool(self._globs.find(name))


class TypeNames(frozenset[str]):
    """All known message types, as a set that also tells whether a glob fits any of them."""

    _by_segment: dict[tuple[int, str], list[str]] | None = None

    def fitted_by(self, glob: str) -> bool:
        """Whether the glob fits any of the names."""
        return any(fits(glob, name) for name in self._candidates(glob))

    def _candidates(self, glob: str) -> Iterable[str]:
        """Names that share one literal segment with the glob: the rarest, so that few are tried in vain."""
        literals = [(at, each) for at, each in enumerate(glob.split(".")) if "*" not in each]
        if not literals:
            return self
        if self._by_segment is None:
            self._by_segment = {}
            for name in self:
                for key in _segments(name):
                    self._by_segment.setdefault(key, []).append(name)
        index = self._by_segment
        return min((index.get(key, ()) for key in literals), key=len)


def _segments(name: str) -> Iterator[tuple[int, str]]:
    yield from enumerate(name.split("."))
