"""`bus lint`: what is wrong in the configuration, all of it, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from bus.cli.common import Printer, count, folders_of, output_option

if TYPE_CHECKING:
    from bus.config.loading import Loaded


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--against",
    metavar="REF",
    help="Branch, tag or commit, or a folder, in which these integrations are published: contracts that were published "
    "must not be edited, and new versions must take what they took, or have an `upcast`.",
)
@output_option("github")
def lint(paths: tuple[Path, ...], against: str | None, printer: Printer) -> int:
    """Report everything that `bus run` would refuse, and what to write instead.

    PATH is a folder of integrations or a single one; without any, routes/ in the working directory.
    Exit code 1 when there are errors; warnings alone are 0.

    \b
    Examples:
      bus lint
      bus lint routes/customer_service --output json
      bus lint --output github          annotations at the lines of a pull request
      bus lint --against origin/main    what would break senders of the contracts published there
    """
    from bus import bootstrap

    folders = folders_of(paths)
    if against is None:
        loaded = bootstrap.load(folders, tests=True)
    else:
        loaded = bootstrap.load_against(folders, against, tests=True)
    for finding in loaded.findings:
        if printer.form == "github":
            click.echo(finding.as_github())
        else:
            printer.emit(finding.as_dict(), str(finding))
    errors = sum(each.severity == "error" for each in loaded.findings)
    warnings = len(loaded.findings) - errors
    printer.note(f"{count(errors, 'error')}, {count(warnings, 'warning')}" if loaded.findings else _found(loaded))
    return 1 if errors else 0


def _found(loaded: Loaded) -> str:
    catalog = loaded.catalog
    if catalog is None:
        return "nothing to check"
    found = (
        count(len(catalog.routes), "route"),
        count(len(catalog.agents), "agent"),
        count(len(catalog.types), "type"),
        *((count(len(loaded.tests), "test"),) if loaded.tests else ()),
    )
    return f"no findings: {', '.join(found)}"
