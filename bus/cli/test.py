"""`bus test`: the tests that stand beside the routes, on a virtual clock, with stand-ins for the agents."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from bus.cli.common import Printer, folders_of, output_option, settings_of, settings_options
from bus.core.errors import BusError
from bus.shell.watching import POLL_S, snapshot

_TESTS = ".test.yaml"


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("-k", "wanted", metavar="TEXT", help="Only tests with this in their name.")
@click.option("--coverage", "listed", is_flag=True, help="List the routes, steps and branches that no test reaches.")
@click.option("--min", "least", type=click.FloatRange(0, 100), metavar="PERCENT", help="Fail when less is covered.")
@click.option("--verbose", "-v", is_flag=True, help="Show what happened in tests that pass, too, and every expression.")
@click.option("--watch", is_flag=True, help="Run again whenever a file changes, until Ctrl-C.")
@click.option("--record", "conversation", metavar="CONVERSATION", help="Write a test from a recorded conversation.")
@settings_options
@output_option("github", "junit")
def test(
    paths: tuple[Path, ...],
    wanted: str | None,
    listed: bool,
    least: float | None,
    verbose: bool,
    watch: bool,
    conversation: str | None,
    printer: Printer,
    **flags: Any,
) -> int:
    """Run the tests in the `*.test.yaml` files of PATH: send messages, let stand-ins answer, compare.

    PATH is a folder of integrations, a single one, or a test file; without any, routes/ in the working
    directory. Time is virtual, and no broker is needed. Exit code 1 when a test fails, when the
    configuration has errors, or when less is covered than `coverage:` in an integration or --min wants.

    \b
    Examples:
      bus test
      bus test routes/customer_service --coverage
      bus test routes/hello/hello.test.yaml -k slow --watch
      bus test --output junit > report.xml
      bus test --record 7f3a > routes/hello/recorded.test.yaml
    """
    if conversation is not None:
        return _record(conversation, flags)
    from bus.cli.suite import run_suite
    from bus.cli.test_report import report

    folders, named = _places(paths)

    def once() -> int:
        suite = run_suite(folders, named, wanted, lenient=watch, watched=verbose)
        return report(suite, printer, listed=listed, least=least, verbose=verbose)

    if not watch:
        return once()
    seen = None
    while True:
        now = snapshot(folders)
        if now != seen:
            seen = now
            once()
            printer.note(f"watching {', '.join(map(str, folders))}")
        time.sleep(POLL_S)


def _record(conversation: str, flags: Mapping[str, Any]) -> int:
    """Write the test to standard output."""
    from bus import bootstrap
    from bus.cli.replay import recorded
    from bus.rehearsal.writing import as_yaml

    found = recorded(bootstrap.history(settings_of(flags)), conversation)
    if not found.arrived:
        raise BusError(f"nothing of {found.conversation} could be understood, so there is nothing to send again")
    click.echo(as_yaml(found), nl=False)
    return 0


def _places(paths: tuple[Path, ...]) -> tuple[tuple[Path, ...], frozenset[Path]]:
    """The folders to load, and what was named: the tests of files, and of all files in folders."""
    chosen = folders_of(paths)
    folders = tuple(dict.fromkeys(each.parent if each.name.endswith(_TESTS) else each for each in chosen))
    return folders, frozenset(each.resolve() for each in chosen)
