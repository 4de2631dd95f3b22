"""`bus docs`: documentation of the integrations, written from their files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from bus.cli.common import dumps, folders_of
from bus.core.errors import BusError

if TYPE_CHECKING:
    from bus.config.pages.gather import Book

_paths = click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
_file = click.option(
    "--file", metavar="FILE", type=click.Path(path_type=Path), help="Write it there, not to the terminal."
)
_title = click.option("--title", default="agentbus", show_default=True, help="What it is called.")


@click.group()
def docs() -> None:
    """Write documentation of the integrations: for tools as AsyncAPI, for people as a page.

    PATH is a folder of integrations or a single one; without any, routes/.

    \b
    Examples:
      bus docs asyncapi --file asyncapi.json
      bus docs html routes/customer_service --file service.html
    """


@docs.command()
@_paths
@_file
@_title
@click.option("--namespace", default="agentbus", show_default=True, help="Prefix of every exchange and queue.")
def asyncapi(paths: tuple[Path, ...], file: Path | None, title: str, namespace: str) -> int:
    """Write an AsyncAPI 3.0 document: exchanges and queues, messages, contracts."""
    import json

    from bus.config.pages.asyncapi import asyncapi

    document = asyncapi(_book(paths), namespace, title)
    return _put(file, json.dumps(document, indent=2, ensure_ascii=False) if file else dumps(document))


@docs.command()
@_paths
@_file
@_title
def html(paths: tuple[Path, ...], file: Path | None, title: str) -> int:
    """Write one page that needs nothing else: integrations, agents, capabilities, contracts, routes, graph."""
    from bus.config.pages.page import page

    return _put(file, page(_book(paths), title))


def _book(paths: tuple[Path, ...]) -> Book:
    from bus import bootstrap
    from bus.config.pages.gather import gather
    from bus.core.registry import STEPS

    loaded = bootstrap.load(folders_of(paths))
    return gather(bootstrap.table(loaded).catalog, loaded.files, STEPS)


def _put(file: Path | None, text: str) -> int:
    if file is None:
        click.echo(text)
        return 0
    try:
        file.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    except OSError as error:
        raise BusError(f"cannot write `{file}`: {error.strerror}; name a file in a folder that exists") from error
    return 0
