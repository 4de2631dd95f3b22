"""The command `bus`: a table of commands, each in a file of its own, and what an error means to a shell.

Exit codes: 0 all is well, 1 findings (or an answer that says no), 2 wrong usage, 3 broker or store unreachable,
70 a defect of agentbus, 130 interrupted. Command files import what is heavy inside their functions, so that
`bus --help` costs little; a file is imported only when its command is asked for.
"""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module

import rich_click as click
from click.exceptions import NoArgsIsHelpError

from bus import __version__
from bus.core.errors import BusError, ConfigurationRefused, Refused, StoreFailed, Unreachable

FINDINGS, USAGE, UNREACHABLE, DEFECT, INTERRUPTED = 1, 2, 3, 70, 130

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("bus.cli.run:run", "Run the bus."),
    "dev": ("bus.cli.dev:dev", "Run broker, bus and agents, and reload on change."),
    "lint": ("bus.cli.lint:lint", "Find what is wrong in the configuration."),
    "test": ("bus.cli.test:test", "Run the tests of routes, without a broker."),
    "explain": ("bus.cli.explain:explain", "Show what the bus would do with a message, without a broker."),
    "graph": ("bus.cli.graph:graph", "Show who sends what to whom."),
    "docs": ("bus.cli.docs:docs", "Write documentation: AsyncAPI, or a page."),
    "new": ("bus.cli.new:new", "Write the files of a new integration, route or agent."),
    "schema": ("bus.cli.schema:schema", "Write the schema of the YAML files, for editors."),
    "send": ("bus.cli.send:send", "Send a message, and wait for its answer."),
    "tap": ("bus.cli.tap:tap", "Watch what the bus decides."),
    "trace": ("bus.cli.trace:trace", "Show a conversation as a tree, hop by hop."),
    "replay": ("bus.cli.replay:replay", "Decide recorded conversations anew by changed routes."),
    "agents": ("bus.cli.agents:agents", "List the declared agents, or run them."),
    "topology": ("bus.cli.topology:topology", "Show, make or export exchanges and queues."),
    "dlq": ("bus.cli.dlq:dlq", "See and redrive dead and invalid letters."),
    "control": ("bus.cli.control:control", "Tell the running bus: pause, resume, reload, drain, purge, ping."),
    "doctor": ("bus.cli.doctor:doctor", "Check everything that a bus needs."),
    "bench": ("bus.cli.bench:bench", "Measure what this machine does."),
    "job": ("bus.cli.job:job", "Run the main job: everything, and a stream of inquiries."),
}
"""Command to (`module:attribute`, one line for `bus --help`). Adding a command is one file and one line here."""


class CommandTable(click.RichGroup):
    """A group whose commands are imported when one is run; its own help needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else click.RichCommand(name=cmd_name, help=entry[1])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        if name is not None and found is not None:
            module, _, attribute = COMMANDS[name][0].partition(":")
            found = getattr(import_module(module), attribute)
        return name, found, rest


@click.command(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bus")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """An enterprise service bus for AI agents, on RabbitMQ.

    Messages between agents are checked, translated, routed, recorded and delivered as the YAML files
    under routes/ say. Every command takes --help, and --output json; without a terminal on standard output,
    JSON lines are the default. Settings come from flags, then from BUS_* variables.

    \b
    A first look:
      bus lint                                  find what is wrong in routes/
      bus test                                  run the routes' tests, without a broker
      bus dev                                   run broker, bus and agents, reload on change
      bus send hello.asked '{"name": "Ada"}' --wait
      bus trace CONVERSATION                    what became of it, hop by hop
    """


def main() -> None:
    """Run the command line of this process and exit."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line.

    Args:
        arguments: words after `bus`.

    Returns:
        The exit code; every error has been said on standard error.
    """
    debug = "--debug" in arguments
    try:
        result = cli.main(arguments, prog_name="bus", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has read enough: close quietly, and keep the interpreter from flushing again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        click.echo(f"bus: {_usage(error)}", err=True)
        return USAGE
    except BusError as error:
        return _said(error, _code(error), debug)
    except Exception as error:  # noqa: BLE001 - the last line of defence: no stack trace without --debug
        return _said(BusError(f"a defect of agentbus: {error!r}; report it with the output of `bus --debug ...`"),
                     DEFECT, debug)  # fmt: skip


def _usage(error: click.ClickException) -> str:
    text = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{text}; see `{context.command_path} --help`" if context is not None else text


def _said(error: BusError, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"bus: {error}", err=True)
    return code


def _code(error: BusError) -> int:
    if isinstance(error, (Unreachable, StoreFailed)):
        return UNREACHABLE
    if isinstance(error, (ConfigurationRefused, Refused)):
        return FINDINGS
    return USAGE
