"""The layout: whatever the graph is, no box covers another, and lines go around boxes."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from bus.config.drawing.layout import Box, Line, Placed, lay_out


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Box], list[Line]]:
    count = draw(st.integers(1, 14))
    boxes = [Box(f"b{n}", draw(st.integers(20, 300)), draw(st.integers(20, 200))) for n in range(count)]
    ends = st.integers(0, count - 1)
    pairs = draw(st.lists(st.tuples(ends, ends), max_size=25))
    return boxes, [
        Line(boxes[a].key, boxes[b].key, boxes[a].height / 2, boxes[b].height / 2) for a, b in pairs if a != b
    ]


def inside(point: tuple[float, float], box: Box, placed: Placed) -> bool:
    x, y = placed.at[box.key]
    return x + 0.01 < point[0] < x + box.width - 0.01 and y + 0.01 < point[1] < y + box.height - 0.01


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_boxes_do_not_overlap_and_lines_end_at_them(graph: tuple[list[Box], list[Line]]) -> None:
    boxes, lines = graph
    placed = lay_out(boxes, lines)
    assert set(placed.at) == {box.key for box in boxes}
    for one, other in combinations(boxes, 2):
        (x1, y1), (x2, y2) = placed.at[one.key], placed.at[other.key]
        beside = x1 + one.width <= x2 or x2 + other.width <= x1
        assert beside or y1 + one.height <= y2 + 0.01 or y2 + other.height <= y1 + 0.01
    sizes = {box.key: box for box in boxes}
    for line, points in zip(lines, placed.points, strict=True):
        source, target = placed.at[line.source], placed.at[line.target]
        assert points[0] == (source[0] + sizes[line.source].width, source[1] + line.leaves)
        assert points[-1] == (target[0], target[1] + line.enters)
        assert not any(inside(point, box, placed) for point in points for box in boxes)
    assert all(
        x >= -0.01 and y >= -0.01 and x + sizes[key].width <= placed.width + 0.01
        and y + sizes[key].height <= placed.height + 0.01
        for key, (x, y) in placed.at.items()
    )  # fmt: skip


def test_a_chain_reads_from_left_to_right() -> None:
    boxes = [Box(key, 50, 20) for key in "cab"]
    placed = lay_out(boxes, [Line("a", "b", 10, 10), Line("b", "c", 10, 10)])
    assert placed.at["a"][0] < placed.at["b"][0] < placed.at["c"][0]
    assert len({y for _, y in placed.at.values()}) == 1


def test_crossings_are_undone() -> None:
    boxes = [Box(key, 50, 20) for key in ("a", "b", "x", "y")]
    placed = lay_out(boxes, [Line("a", "y", 10, 10), Line("b", "x", 10, 10), Line("a", "x", 10, 10)])
    assert (placed.at["a"][1] < placed.at["b"][1]) == (placed.at["y"][1] < placed.at["x"][1])


def test_what_goes_back_goes_below_what_is_between() -> None:
    boxes = [Box(key, 50, 80) for key in "abc"]
    placed = lay_out(boxes, [Line("a", "b", 10, 10), Line("b", "c", 10, 10), Line("c", "a", 10, 10)])
    lowest = max(y for _, y in placed.at.values()) + 80
    assert max(y for _, y in placed.points[2]) > lowest
