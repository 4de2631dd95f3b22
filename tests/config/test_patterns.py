"""Indexes over patterns and names answer as trying each one does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bus.config.patterns import Patterns, TypeNames
from bus.core.table import fits

segments = st.sampled_from(["a", "b", "c"])
names = st.lists(segments, min_size=1, max_size=4).map(".".join)
patterns = st.lists(st.sampled_from(["a", "b", "*", "**", "a*"]), min_size=1, max_size=4).map(".".join)


@given(st.lists(st.one_of(patterns, names), max_size=8), names)
def test_a_name_fits_if_it_fits_any_pattern(given_: list[str], name: str) -> None:
    index = Patterns()
    index.add(given_)
    assert index.fit(name) == any(fits(pattern, name) for pattern in given_)


@given(st.lists(names, max_size=8), st.lists(patterns, max_size=4))
def test_a_glob_is_fitted_if_any_name_fits(known: list[str], globs: list[str]) -> None:
    index = TypeNames(known)
    assert set(index) == set(known)
    for glob in globs:
        assert index.fitted_by(glob) == any(fits(glob, name) for name in known)
