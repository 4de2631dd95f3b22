"""The graph as one SVG file that needs nothing else: no script, no font, no style from elsewhere.

Text is monospaced, so that its width is known without measuring. A route is a box with its steps in lines, and an arrow
leaves it at the line that says where the message goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from bus.config.drawing.graph import Edge, Graph, GraphNode
from bus.config.drawing.layout import TURN, Box, Line, Placed, lay_out
from bus.config.drawing.sketch import Arrow, Block, RouteSketch, Sketch

_CHAR, _ROW, _PAD, _MARGIN, _LEGEND = 7.25, 17.0, 9.0, 24.0, 34.0
_WIDEST = 64  # characters of a line in a box; longer ones are cut, and whole in the tooltip
_CURVE = 0.5

STYLE = """\
svg.agentbus{--paper:#fff;--ink:#1c2430;--dim:#5b6675;--line:#7b8794;--sender:#e8f1fb;--type:#fff;--route:#fdf6e3;
--capability:#e9f6ec;--receiver:#f3ebfa;--sender-line:#3f7cc0;--type-line:#5b6675;--route-line:#b7791f;
--capability-line:#2f855a;--receiver-line:#7b4fb5;background:var(--paper)}
@media (prefers-color-scheme:dark){svg.agentbus{--paper:#14181f;--ink:#e7ebf0;--dim:#a5afbb;--line:#8b97a5;
--sender:#16273a;--type:#1c222b;--route:#2b2413;--capability:#15291d;--receiver:#261b34}}
svg.agentbus text{font:12px/1 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;fill:var(--ink);white-space:pre}
svg.agentbus .name{font-weight:bold}
svg.agentbus .dim{fill:var(--dim)}
svg.agentbus path.edge{fill:none;stroke:var(--line);stroke-width:1.3}
svg.agentbus path.observes,svg.agentbus path.answers{stroke-dasharray:5 4}
svg.agentbus g:hover>path.edge{stroke-width:2.6}
"""
_KINDS = {
    "sender": "agent, request or clock that sends", "type": "message type", "route": "route",
    "capability": "capability", "receiver": "agent that subscribes",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of a box; `arrow` is the number of the arrow that leaves there, or -1."""

    text: str
    style: str = ""
    arrow: int = -1


def svg(graph: Graph, *, embedded: bool = False, legend: bool = True) -> str:
    """Draw the graph.

    Args:
        embedded: for a page that has the style already (see STYLE): leave it out.
        legend: say what the colours mean.
    """
    rows = {key: _rows(node, graph.routes.get(key)) for key, node in graph.nodes.items()}
    boxes = [Box(key, _width(rows[key]), len(rows[key]) * _ROW + 2 * _PAD - 4) for key in graph.nodes]
    edges = list(graph.edges)
    heights = {box.key: box.height for box in boxes}
    placed = lay_out(boxes, [_line_of(edge, rows, heights) for edge in edges])
    width = max(placed.width, 760.0) + 2 * _MARGIN
    top = _LEGEND if legend else 0.0
    height = placed.height + 2 * _MARGIN + top
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="agentbus" role="img" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="{-_MARGIN:.0f} {-_MARGIN - top:.0f} {width:.0f} {height:.0f}">',
        "<title>Who sends what to whom</title>",
        "" if embedded else f"<style>{STYLE}</style>",
        _HEAD,
        *(_legend() if legend else ()),
        *(_edge(edge, placed, number, graph) for number, edge in enumerate(edges)),
        *(_node(graph.nodes[box.key], box, placed.at[box.key], rows[box.key], graph) for box in boxes),
        "</svg>\n",
    ]
    return "\n".join(part for part in parts if part)


_HEAD = (
    '<defs><marker id="agentbus-head" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="#7b8794"/></marker></defs>'
)


def _legend() -> Iterable[str]:
    x = 0.0
    for kind, words in _KINDS.items():
        yield (
            f'<rect x="{x:.1f}" y="{-_LEGEND:.1f}" width="14" height="12" rx="{6 if kind == "type" else 3}" '
            f'fill="var(--{kind})" stroke="var(--{kind}-line)"/>'
            f'<text class="dim" x="{x + 20:.1f}" y="{-_LEGEND + 10:.1f}">{words}</text>'
        )
        x += 20 + len(words) * _CHAR + 22


# --- what stands in a box -------------------------------------------------------------------------------------------


def _rows(node: GraphNode, route: RouteSketch | None) -> list[_Row]:
    if route is None:
        note = f"by {node.note}" if node.kind == "capability" else node.note
        return [_Row(node.name, "name"), *([_Row(note, "dim")] if node.note else [])]
    integration, _, name = route.name.partition("/")
    rows = [_Row(name, "name"), _Row(f"{integration}{', observes' if route.observe else ''}", "dim")]
    if route.when:
        rows.append(_Row(f"when {route.when}", "dim"))
    counter = _Counter()
    rows += list(_flow(route.flow, "", counter))
    return rows


class _Counter:
    """Numbers arrows in the order in which `Sketch.arrows` gives them."""

    def __init__(self) -> None:
        self.next = 0

    def __call__(self) -> int:
        self.next += 1
        return self.next - 1


def _flow(flow: Sketch, indent: str, counter: _Counter) -> Iterable[_Row]:
    for step in flow.steps:
        yield from _step(step, indent, counter)
    for arrow in flow.to:
        yield _arrow(arrow, indent, counter)


def _step(step: Block, indent: str, counter: _Counter) -> Iterable[_Row]:
    condition = f"when {step.when}: " if step.when else ""
    yield _Row(f"{indent}{condition}{step.kind} {step.text}".rstrip())
    for arrow in step.arrows:
        yield _arrow(arrow, indent + "  ", counter)
    for number, branch in enumerate(step.branches):
        last = number == len(step.branches) - 1
        yield _Row(f"{indent}{'└' if last else '├'} {branch.label}", "dim")
        yield from _flow(branch.flow, indent + ("    " if last else "│   "), counter)


def _arrow(arrow: Arrow, indent: str, counter: _Counter) -> _Row:
    return _Row(f"{indent}→ {arrow}", "", counter())


def _width(rows: list[_Row]) -> float:
    return max(min(len(row.text), _WIDEST) for row in rows) * _CHAR + 2 * _PAD


def _line_of(edge: Edge, rows: Mapping[str, list[_Row]], heights: Mapping[str, float]) -> Line:
    leaves = heights[edge.source] / 2
    for number, row in enumerate(rows[edge.source]):
        if edge.arrow >= 0 and row.arrow == edge.arrow:
            leaves = _PAD + number * _ROW + _ROW / 2 - 2
    enters = min(heights[edge.target] / 2, _PAD + _ROW / 2)
    return Line(edge.source, edge.target, leaves, enters)


# --- drawing --------------------------------------------------------------------------------------------------------


def _node(node: GraphNode, box: Box, at: tuple[float, float], rows: list[_Row], graph: Graph) -> str:
    x, y = at
    corner = box.height / 2 if node.kind == "type" and len(rows) == 1 else 4
    route = graph.routes.get(node.key)
    tip = (route.description if route else "") or f"{_KINDS[node.kind]} {node.name}"
    parts = [
        f"<g><title>{escape(tip)}</title>",
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{corner:.1f}" '
        f'fill="var(--{node.kind})" stroke="var(--{node.kind}-line)" stroke-width="1.3"/>',
    ]
    for number, row in enumerate(rows):
        style = f' class="{row.style}"' if row.style else ""
        whole = f"<title>{escape(row.text)}</title>" if len(row.text) > _WIDEST else ""
        text = row.text if len(row.text) <= _WIDEST else row.text[: _WIDEST - 1] + "…"
        parts.append(
            f'<text{style} xml:space="preserve" x="{x + _PAD:.1f}" y="{y + _PAD + number * _ROW + 10:.1f}">'
            f"{escape(text)}{whole}</text>"
        )
    return "".join([*parts, "</g>"])


def _edge(edge: Edge, placed: Placed, number: int, graph: Graph) -> str:
    source, target = graph.nodes[edge.source].name, graph.nodes[edge.target].name
    title = f"{source} {edge.how} {target}"
    return (
        f"<g><title>{escape(title)}</title><path class={quoteattr(f'edge {edge.how}')} "
        f'marker-end="url(#agentbus-head)" d="{_curve(placed.points[number])}"/></g>'
    )


def _curve(points: list[tuple[float, float]]) -> str:
    """A smooth way through the points that leaves and enters boxes level."""
    found = [f"M{points[0][0]:.1f},{points[0][1]:.1f}"]
    for (x1, y1), (x2, y2) in pairwise(points):
        if x1 == x2 and y1 != y2:  # a line that goes back: it turns to the right, and at its end to the left
            turn = x1 + (TURN if (x1, y1) == points[0] else -TURN) * 4 / 3
            found.append(f"C{turn:.1f},{y1:.1f} {turn:.1f},{y2:.1f} {x2:.1f},{y2:.1f}")
            continue
        reach = (x2 - x1) * _CURVE if x2 >= x1 else 0.0
        if abs(y2 - y1) < 0.5 or not reach:
            found.append(f"L{x2:.1f},{y2:.1f}")
        else:
            found.append(f"C{x1 + reach:.1f},{y1:.1f} {x2 - reach:.1f},{y2:.1f} {x2:.1f},{y2:.1f}")
    return " ".join(found)


__all__ = ["STYLE", "svg"]
