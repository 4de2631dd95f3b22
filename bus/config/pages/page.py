"""A configuration as one page for people: no script, nothing fetched, so it can be mailed and read anywhere.

Adapter settings and attributes are not on it: they may hold secrets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape

from bus.config.drawing.graph import Graph, graph_of
from bus.config.drawing.sketch import RouteSketch
from bus.config.drawing.svg import STYLE as DRAWING
from bus.config.drawing.svg import svg
from bus.config.pages.fields import field_rows
from bus.config.pages.gather import Book, Chapter, file_of
from bus.config.pages.schemas import SchemaParts
from bus.core.expression import Contract

_ROOT = "#"
_STYLE = """\
:root{--paper:#fff;--ink:#1c2430;--dim:#5b6675;--rule:#dfe4ea;--soft:#f5f7f9;--link:#1f5fa8}
@media (prefers-color-scheme:dark){:root{--paper:#14181f;--ink:#e7ebf0;--dim:#a5afbb;--rule:#2f3742;--soft:#1c222b;
--link:#7db2f0}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,"DejaVu Sans",sans-serif}
.wrap{display:grid;grid-template-columns:15rem minmax(0,1fr);max-width:90rem;margin:0 auto}
nav{position:sticky;top:0;align-self:start;max-height:100vh;overflow:auto;padding:1.5rem 1rem;font-size:13px;
border-right:1px solid var(--rule)}
nav ul{list-style:none;margin:0 0 .8rem;padding:0 0 0 .7rem}nav a{display:block;padding:1px 0;overflow-wrap:anywhere}
nav strong{display:block;margin-top:.6rem}
main{padding:1.5rem 2rem 4rem}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
h1{margin:0 0 .2rem;font-size:1.7rem}h2{margin:3rem 0 .5rem;padding-top:.6rem;border-top:2px solid var(--rule)}
h3{margin:2rem 0 .5rem;font-size:1.05rem}h4{margin:1.6rem 0 .3rem;font-size:.95rem}
.dim{color:var(--dim)}
code,pre{font:13px/1.45 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace}
code{overflow-wrap:anywhere}td code{white-space:nowrap}
.table{overflow-x:auto}
pre{background:var(--soft);padding:.8rem 1rem;overflow:auto;border-radius:4px}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
th{text-align:left;font-size:12px;color:var(--dim);font-weight:600}
th,td{padding:.32rem .7rem .32rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
.drawing{overflow-x:auto;margin:.8rem 0;border:1px solid var(--rule);border-radius:4px}
details{margin:.4rem 0}summary{cursor:pointer;color:var(--dim);font-size:13px}
@media (max-width:55rem){.wrap{display:block}nav{position:static;border:0}}
@media print{nav{display:none}.wrap{display:block}}
"""


def page(book: Book, title: str) -> str:
    """Write the page."""
    return _Page(book, title).text()


@dataclass(slots=True)
class _Page:
    book: Book
    title: str
    schemas: SchemaParts = field(default_factory=lambda: SchemaParts(_ROOT))

    def text(self) -> str:
        routes = [route for chapter in self.book.chapters for route in chapter.routes]
        graph = graph_of(self.book.catalog, routes)
        chapters = [self._chapter(chapter, graph) for chapter in self.book.chapters]
        contracts = self._contracts()
        return "\n".join(
            [
                '<!doctype html><html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width,initial-scale=1">',
                f"<title>{escape(self.title)}</title><style>{_STYLE}{DRAWING}</style></head><body><div class=wrap>",
                self._contents(),
                f"<main><h1>{escape(self.title)}</h1>",
                f'<p class=dim>Configuration {escape(self.book.version)}</p><h2 id="all">Who sends what to whom</h2>',
                f"<div class=drawing>{svg(graph, embedded=True)}</div>",
                *chapters,
                '<h2 id="contracts">Contracts</h2>',
                *contracts,
                "</main></div></body></html>\n",
            ]
        )

    def _contents(self) -> str:
        parts = ['<nav><a href="#all">Overview</a>']
        for chapter in self.book.chapters:
            links = [_link(f"route:{each.name}", each.name.partition("/")[2]) for each in chapter.routes]
            links += [_link(f"capability:{each.name}", each.name) for each, _ in chapter.capabilities]
            parts.append(f"<strong>{_link(f'integration:{chapter.name}', chapter.name)}</strong><ul>")
            parts += [f"<li>{link}</li>" for link in links]
            parts.append("</ul>")
        return "".join([*parts, '<a href="#contracts">Contracts</a></nav>'])

    # --- an integration ---

    def _chapter(self, chapter: Chapter, graph: Graph) -> str:
        parts = [f"<h2 id={_id(f'integration:{chapter.name}')}>{escape(chapter.name)}</h2>", _said(chapter.description)]
        if chapter.routes:
            parts.append("<h3>Routes</h3>")
            parts += [self._route(route, graph) for route in chapter.routes]
        parts += self._brought(chapter)
        if chapter.agents:
            rows = [
                [
                    f"<strong id={_id(f'agent:{agent.name}')}>{escape(agent.name)}</strong>",
                    escape(agent.adapter),
                    ", ".join(_link(f"capability:{each}", each) for each in agent.capabilities),
                    _codes(agent.publishes),
                    _codes(agent.subscribes),
                    escape(description),
                ]
                for agent, description in chapter.agents
            ]
            heads = ["agent", "adapter", "capabilities", "publishes", "subscribes to", ""]
            parts += ["<h3>Agents</h3>", _table(heads, rows)]
        if chapter.capabilities:
            rows = [
                [
                    f"<strong id={_id(f'capability:{each.name}')}>{escape(each.name)}</strong>",
                    self._contract(each.request),
                    self._contract(each.reply),
                    ", ".join(_link(f"agent:{name}", name) for name in self._offering(each.name)),
                    ", ".join(
                        [
                            *(["idempotent"] if each.idempotent else []),
                            *([f"lease {each.lease_s} s"] if each.lease_s else []),
                        ]
                    ),
                    escape(description),
                ]
                for each, description in chapter.capabilities
            ]
            heads = ["capability", "request", "reply", "agents", "", ""]
            parts += ["<h3>Capabilities</h3>", _table(heads, rows)]
        if chapter.types:
            rows = [
                [f"<code>{escape(type_.name)}</code>", self._contract(type_.contract), escape(description)]
                for type_, description in chapter.types
            ]
            parts += ["<h3>Message types</h3>", _table(["type", "contract", ""], rows)]
        return "\n".join(parts)

    def _brought(self, chapter: Chapter) -> Iterable[str]:
        """What comes in over HTTP, and by the clock."""
        catalog, prefix = self.book.catalog, f"{chapter.name}/"
        requests = [
            [
                f"<code>{escape(f'{each.method} {each.path}')}</code>",
                f"<code>{escape(each.type)}</code>",
                "" if each.wait_s is None else f"waits {each.wait_s:g} s for the answer, then {each.on_timeout}",
            ]
            for each in catalog.entrances
            if each.name.startswith(prefix)
        ]
        planned = [
            [f"<code>{escape(each.cron)}</code>", escape(each.zone), f"<code>{escape(each.type)}</code>"]
            for each in catalog.schedules
            if each.name.startswith(prefix)
        ]
        if requests:
            yield "<h3>Gateway</h3>" + _table(["HTTP", "type", ""], requests)
        if planned:
            yield "<h3>Schedules</h3>" + _table(["cron", "zone", "type"], planned)

    def _route(self, route: RouteSketch, graph: Graph) -> str:
        key = f"route:{route.name}"
        takes = ", ".join(f"<code>{escape(each)}</code>" for each in route.types)
        condition = f" when <code>{escape(route.when)}</code>" if route.when else ""
        watching = ", as an observer" if route.observe else ""
        return "\n".join(
            [
                f"<h4 id={_id(key)}>{escape(route.name.partition('/')[2])}</h4>",
                _said(route.description),
                f"<p class=dim>takes {takes}{condition}{watching}</p>",
                f"<div class=drawing>{svg(_around(graph, key), embedded=True, legend=False)}</div>",
            ]
        )

    def _offering(self, capability: str) -> list[str]:
        return [agent.name for agent in self.book.catalog.agents.values() if capability in agent.capabilities]

    # --- contracts ---

    def _contract(self, contract: Contract | None) -> str:
        path = file_of(contract)
        if path is None:
            return '<span class="dim">any</span>'
        name = str(self.schemas.ref(path)["$ref"]).removeprefix(f"{_ROOT}/")
        return _link(f"contract:{name}", contract.name if contract is not None else name)

    def _contracts(self) -> Iterable[str]:
        for name, schema in self.schemas.parts.items():
            said = schema.get("description", "") if isinstance(schema, dict) else ""
            rows = [
                [
                    f"<code>{escape(row.path)}</code>",
                    self._type(row.type, row.part),
                    "" if row.required else '<span class="dim">optional</span>',
                    escape(row.doc),
                ]
                for row in field_rows(name, self.schemas.parts, _ROOT)
            ]
            text = json.dumps(schema, indent=2, ensure_ascii=False)
            yield f"<h3 id={_id(f'contract:{name}')}>{escape(name)}</h3>{_said(str(said))}"
            yield _table(["field", "type", "", ""], rows) if rows else ""
            yield f"<details><summary>the schema</summary><pre>{escape(text)}</pre></details>"

    def _type(self, words: str, part: str) -> str:
        return _link(f"contract:{part}", part) if part else escape(words)


def _around(graph: Graph, route: str) -> Graph:
    """The part of the graph that a route touches, and who sends it its messages."""
    near = {edge for edge in graph.edges if route in (edge.source, edge.target)}
    taken = {edge.source for edge in near if edge.target == route}
    found = Graph(routes={route: graph.routes[route]})
    edges = [edge for edge in graph.edges if edge in near or (edge.how == "publishes" and edge.target in taken)]
    for edge in edges:
        for key in (edge.source, edge.target):
            found.nodes.setdefault(key, graph.nodes[key])
        found.edges[edge] = None
    found.nodes.setdefault(route, graph.nodes[route])
    return found


# --- HTML -----------------------------------------------------------------------------------------------------------


def _anchor(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._:/-]", "_", name)


def _id(name: str) -> str:
    return f'"{_anchor(name)}"'


def _link(name: str, words: str) -> str:
    return f'<a href="#{_anchor(name)}">{escape(words)}</a>'


def _codes(names: Iterable[str]) -> str:
    return "<br>".join(f"<code>{escape(name)}</code>" for name in names)


def _said(text: str) -> str:
    return f"<p>{escape(text)}</p>" if text else ""


def _table(heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{each}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=table><table><tr>{head}</tr>{body}</table></div>"
