"""The graph as lines of text, for a terminal: who sends a type, the route that takes it, and where it goes."""

from __future__ import annotations

from collections.abc import Iterable

from bus.config.drawing.graph import Graph
from bus.config.drawing.sketch import Arrow, Sketch


def text(graph: Graph) -> str:
    """Write every type that something happens to, with its senders above and its takers below it."""
    lines: list[str] = []
    for key, node in graph.nodes.items():
        if node.kind != "type":
            continue
        before = [edge for edge in graph.edges if edge.target == key and edge.how in ("publishes", "answers", "sends")]
        after = [edge for edge in graph.edges if edge.source == key]
        senders = ", ".join(dict.fromkeys(_name(graph, edge.source) for edge in before))
        lines.append(node.name + (f"   from {senders}" if senders else ""))
        for edge in after:
            route = graph.routes.get(edge.target)
            if route is None:
                lines.append(f"  -> subscriber {graph.nodes[edge.target].name}")
                continue
            condition = f"   when {route.when}" if route.when else ""
            lines.append(f"  {'observed by' if route.observe else 'route'} {route.name}{condition}")
            lines += _flow(graph, route.flow, "    ")
        if not after:
            lines.append("  nobody takes it")
        lines.append("")
    return "\n".join(lines).rstrip()


def _name(graph: Graph, key: str) -> str:
    node = graph.nodes[key]
    return node.name if node.kind == "sender" else f"{node.kind} {node.name}"


def _flow(graph: Graph, flow: Sketch, indent: str) -> Iterable[str]:
    for step in flow.steps:
        condition = f"when {step.when}: " if step.when else ""
        yield f"{indent}{condition}{step.kind} {step.text}".rstrip()
        for arrow in step.arrows:
            yield f"{indent}  {_arrow(graph, arrow)}"
        for branch in step.branches:
            said = not branch.label or step.text.startswith(branch.label)  # in the step's own line
            if not said:
                yield f"{indent}  {branch.label}"
            yield from _flow(graph, branch.flow, indent + ("  " if said else "    "))
    for arrow in flow.to:
        yield f"{indent}{_arrow(graph, arrow)}"


def _arrow(graph: Graph, arrow: Arrow) -> str:
    node = graph.nodes.get(f"capability:{arrow.name}") if arrow.kind == "capability" else None
    served = f" ({node.note})" if node is not None and node.note else ""
    return f"-> {arrow}{served}"
