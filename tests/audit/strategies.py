"""Entries for property tests: every field takes every value that its type allows."""

from __future__ import annotations

from hypothesis import strategies as st

from bus.core.actions import Output
from bus.ports import Entry, InboxKey

TEXT = st.text(alphabet=st.characters(), max_size=12)  # surrogates too
ATTRIBUTES = st.booleans() | st.integers() | TEXT | st.binary(max_size=8)
KINDS = st.sampled_from(("agent", "capability", "event", "ingress", "client", "dead", "invalid"))

OUTPUTS = st.builds(
    Output,
    kind=KINDS,
    name=TEXT,
    id=TEXT,
    type=TEXT,
    conversation=TEXT,
    body=st.binary(max_size=40),
    content_type=TEXT,
    headers=st.dictionaries(TEXT, ATTRIBUTES, max_size=3),
    expires_ms=st.none() | st.integers(),
)


def entry(seq: int, inbox: InboxKey | None, record: bytes, given: bytes, outputs: tuple[Output, ...]) -> Entry:
    return Entry(seq, inbox, record, given, outputs)


@st.composite
def runs(draw: st.DrawFn, max_size: int = 6) -> list[Entry]:
    """At least one entry, contiguous."""
    first = draw(st.integers(1, 2**60))
    key = st.none() | st.builds(InboxKey, st.binary(max_size=16), st.binary(max_size=8))
    parts = st.tuples(key, st.binary(max_size=40), st.binary(max_size=40), st.lists(OUTPUTS, max_size=3).map(tuple))
    return [entry(seq, *part) for seq, part in enumerate(draw(st.lists(parts, min_size=1, max_size=max_size)), first)]
