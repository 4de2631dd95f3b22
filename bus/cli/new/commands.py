"""The commands of `bus new`: where things go, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from bus.cli.common import Command, Printer, output_option
from bus.core.errors import BusError

if TYPE_CHECKING:
    from bus.core.route import Catalog

SCHEMA = ".schema.json"


def _into(what: str, default: str) -> Callable[[Command], Command]:
    return click.option("--in", "into", type=click.Path(path_type=Path), help=f"{what}; {default}.")


@click.command()
@click.argument("name")
@_into("Folder of integrations", "routes in the working directory without it")
@output_option()
def integration(name: str, into: Path | None, printer: Printer) -> int:
    """Write an integration: a route, an agent in Python, contracts, tests."""
    from bus.cli.new.templates import integration_files

    parent = into or Path("routes")
    folder = parent / _name(name)
    catalog = _catalog(parent)
    agent = _free("greeter", name, catalog.agents if catalog else ())
    capability = _free("greeting", name, catalog.capabilities if catalog else ())
    _write(folder, integration_files(name, agent, capability))
    _tell(
        printer,
        folder,
        integration_files(name, agent, capability),
        [
            f"bus lint {folder}",
            f"bus test {folder}",
            f"bus dev {folder}",
            f"""bus send {name}.asked '{{"name": "Ada"}}' --wait      in a second terminal""",
        ],
    )
    return 0


@click.command()
@click.argument("name")
@_into("Folder of the integration", "the working directory, or the only integration in routes, without it")
@output_option()
def route(name: str, into: Path | None, printer: Printer) -> int:
    """Write a route for a type of its own, NAME.asked, with a contract and tests."""
    from bus.cli.new.templates import route_files, with_type

    folder = _integration(into)
    _name(name)
    catalog = _catalog(folder.resolve().parent) or _catalog(folder)
    type_ = f"{name}.asked"
    if catalog and type_ in catalog.types:
        raise BusError(f"the type `{type_}` is declared already; name the route otherwise")
    document = folder / "integration.yaml"
    contract = f"schemas/{name}.v1.json"
    declared = with_type(str(document), _read(document), type_, contract)
    if declared is None:
        raise BusError(
            f"{document} has no `types` with each on a line; write `{type_}: {{contract: {contract}}}` below `types`"
        )
    files = route_files(name)
    _write(folder, files)
    document.write_text(declared, encoding="utf-8")
    _tell(
        printer,
        folder,
        files,
        [
            f"bus lint {folder}",
            f"bus test {folder}",
            f"""bus explain {type_} '{{"text": "hello"}}' --routes {folder}""",
        ],
        f"{document}: one line more, the type {type_}",
    )
    return 0


@click.command()
@click.argument("name")
@_into("Folder of the integration", "the working directory, or the only integration in routes, without it")
@output_option()
def agent(name: str, into: Path | None, printer: Printer) -> int:
    """Write an agent in Python with a capability of its own name, and its contracts."""
    from bus.cli.new.templates import agent_files

    folder = _integration(into)
    _name(name)
    catalog = _catalog(folder.resolve().parent) or _catalog(folder)
    taken = {*catalog.agents, *catalog.capabilities} if catalog else set()
    if name in taken or name in ("cli", "bus"):
        raise BusError(f"the name `{name}` is taken; name the agent otherwise")
    files = agent_files(name)
    _write(folder, files)
    _tell(
        printer,
        folder,
        files,
        [
            f'write {{capability: {name}, data: {{text: "{{{{ ... }}}}"}}}} where a route should ask it',
            f"bus lint {folder}",
            f"bus agents run {folder} --only {name}",
        ],
    )
    return 0


# --- where ----------------------------------------------------------------------------------------------------------


def _name(name: str) -> str:
    from bus.config.reader import NAME

    if not NAME.fullmatch(name) or len(name) > 60:
        raise BusError(f"`{name[:80]}` is no name; write small letters, digits, `_` and `-`, a letter first")
    return name


def _integration(into: Path | None) -> Path:
    """The integration that a route or an agent goes into."""
    if into is not None:
        if not (into / "integration.yaml").is_file():
            raise BusError(f"there is no {into / 'integration.yaml'}; name the folder of an integration")
        return into
    here = Path()
    if (here / "integration.yaml").is_file():
        return here
    found = sorted(path.parent for path in here.glob("routes/*/integration.yaml"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(each) for each in found)
    instead = f"write --in with one of {names}" if found else "write `bus new integration NAME` first, or --in FOLDER"
    raise BusError(f"which integration? {instead}")


def _catalog(folder: Path) -> Catalog | None:
    """What is declared already; None when there is nothing, or only what has errors: of those lint will speak."""
    from bus import bootstrap

    return bootstrap.load([folder]).catalog if folder.is_dir() else None


def _free(wanted: str, name: str, taken: Iterable[str]) -> str:
    return f"{name}-{wanted}" if wanted in set(taken) else wanted


# --- writing --------------------------------------------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BusError(f"cannot read {path}: {error}") from error


def _write(folder: Path, files: dict[str, str]) -> None:
    """Write all files, or none when one is there already; and the editor schema beside the integrations."""
    from bus.cli.schema import schema_text

    there = [path for path in files if (folder / path).exists()]
    if there:
        raise BusError(f"{folder / there[0]} is there already, so nothing was written; choose another name")
    try:
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
        (folder / ".." / SCHEMA).write_text(schema_text(), encoding="utf-8")  # made from the specs, of this version
    except OSError as error:
        raise BusError(f"cannot write {error.filename}: {error.strerror}") from error


def _tell(printer: Printer, folder: Path, files: dict[str, str], after: list[str], more: str = "") -> None:
    top = [path for path in files if "/" not in path]
    shown = [*top[:-1], "schemas/", top[-1]] if top[-1].endswith(".py") else [*top, "schemas/"]
    text = f"{folder}: {' '.join(shown)}" + (f"\n{more}" if more else "")
    changed = [more.partition(":")[0]] if more else []
    printer.emit({"folder": str(folder), "files": list(files), "changed": changed, "next": after}, text)
    printer.note("next:\n" + "\n".join(f"  {each}" for each in after))
