"""`bus graph`: who sends what to whom, as text, as edges, or as a picture."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from bus.cli.common import Printer, count, folders_of, output_option
from bus.core.errors import BusError


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--svg", "picture", metavar="FILE", type=click.Path(path_type=Path), help="Draw it into this file.")
@output_option()
def graph(paths: tuple[Path, ...], picture: Path | None, printer: Printer) -> int:
    """Show who sends what to whom: agents, message types, routes with their branches, capabilities.

    As text it is listed by message type; as JSON lines it is one edge a line. With --svg it is drawn into a file
    that any browser shows. PATH is a folder of integrations or a single one; without any, routes/.

    \b
    Examples:
      bus graph
      bus graph routes/customer_service --svg service.svg
      bus graph --output json | jq -r 'select(.how == "asks") | .target'
    """
    from bus import bootstrap
    from bus.config.drawing.graph import graph_of
    from bus.config.drawing.sketch import sketches
    from bus.config.drawing.svg import svg
    from bus.config.drawing.text import text
    from bus.core.registry import STEPS

    loaded = bootstrap.load(folders_of(paths))
    catalog = bootstrap.table(loaded).catalog
    found = graph_of(catalog, sketches(loaded.files, STEPS))
    if picture is not None:
        try:
            picture.write_text(svg(found), encoding="utf-8")
        except OSError as error:
            raise BusError(
                f"cannot write `{picture}`: {error.strerror}; name a file in a folder that exists"
            ) from error
        printer.note(f"{picture}: {count(len(found.routes), 'route')}, {count(len(found.edges), 'arrow')}")
    elif printer.form == "json":
        for edge in found.edges:
            printer.emit({"source": edge.source, "target": edge.target, "how": edge.how}, "")
    else:
        printer.emit({}, text(found))
    return 0
