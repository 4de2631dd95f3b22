"""What commands share: where output goes and in which form, the settings' flags, and words read from the user."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import rich_click as click

from bus.core.errors import BusError, NoStore
from bus.core.ingress import Ingress, setting_note
from bus.core.message import Json
from bus.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class Printer:
    """Writes a command's output: lines for people, or one JSON object per line.

    Args:
        form: `text`, `json`, or a form that the command itself knows.
    """

    def __init__(self, form: str) -> None:
        self.form = form

    def emit(self, record: Mapping[str, Any], text: str) -> None:
        """Write one result: `text` to people, `record` to programs."""
        if self.form == "json":
            click.echo(dumps(record))
        else:
            click.echo(printable(text))

    def note(self, text: str) -> None:
        """Tell people something that is no result; programs are not told."""
        if self.form == "text":
            click.echo(printable(text), err=True)


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 route`, `2 routes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def dumps(value: object) -> str:
    """Write JSON on one line, readable."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def printable(text: str) -> str:
    """Make what agents wrote safe to show on a terminal: control and direction characters become escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def output_option(*more: str) -> Callable[[Command], Command]:
    """Add `--output`; its value reaches the command as a Printer named `printer`."""

    def chosen(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> Printer:
        return Printer(value or ("text" if sys.stdout.isatty() else "json"))

    return click.option(
        "--output",
        "printer",
        type=click.Choice(["text", "json", *more]),
        callback=chosen,
        help="Form of the output; without it, text on a terminal and JSON lines elsewhere.",
    )


_SETTINGS = (
    click.option("--home", type=click.Path(path_type=Path), help="Folder of the private broker and the store."),
    click.option("--store", help="SQLite file, or postgresql://...; without one, bus.db in --home."),
    click.option("--namespace", help="Prefix of every exchange and queue."),
    click.option("--amqp-url", help="Broker of the bus; without one a private node is used."),
)
_STORE = 1


def settings_options(command: Command) -> Command:
    """Add `--home`, `--store`, `--namespace` and `--amqp-url`; they reach the command as keyword arguments."""
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


def broker_options(command: Command) -> Command:
    """Add the same but `--store`, for what has a store of its own."""
    for option in reversed([each for at, each in enumerate(_SETTINGS) if at != _STORE]):
        command = option(command)
    return command


def settings_of(flags: Mapping[str, Any], **more: Any) -> Settings:
    """Build the settings from a command's flags, then the environment, then the defaults."""
    return Settings.from_environment(**{**flags, **more})


def ingress_of(settings: Settings) -> Ingress:
    """What partitions the namespace has, as its store says; before the first bus, what the settings say.

    Raises:
        BusError: BUS_PARTITIONS is another number than it ever was.
        StoreFailed: the store cannot be read.
    """
    from bus import bootstrap

    try:
        with contextlib.closing(bootstrap.history(settings)) as log:
            found = log.ingress()
    except NoStore:
        found = Ingress()
    setting_note(found, settings.partitions)
    return found if found.sizes else Ingress((settings.first_partitions,))


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Have SIGTERM end the block as Ctrl-C does, and Ctrl-C too where a shell's `&` has made us ignore it."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def folders_of(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders a command works on: as named, or `routes` in the working directory.

    Raises:
        BusError: one does not exist.
    """
    chosen = paths or (Path("routes"),)
    for path in chosen:
        if not path.exists():
            hint = "run this in the folder that holds `routes`, or name a path" if not paths else "name one that exists"
            raise BusError(f"there is no `{path}`; {hint}")
    return chosen


def duration_s(text: str) -> float:
    """Read a duration with its unit, e.g. `10s`; returns seconds.

    Raises:
        click.BadParameter: no unit, or no number.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"`{text}` is no duration; write a number with ms, s, m, h or d, such as 10s")
    return float(found[1]) * _UNITS_S[found[2]]


def read_json(text: str) -> Json:
    """Read JSON from a word: the JSON itself, `@FILE`, or `-` for standard input.

    Raises:
        BusError: there is no such file, or it is not JSON.
    """
    if text == "-":
        text, where = sys.stdin.read(), "standard input"
    elif text.startswith("@"):
        where = text[1:]
        try:
            text = Path(where).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BusError(f"cannot read `{where}`: {error}; write @FILE with a file that exists") from error
    else:
        where = "the data"
    try:
        value: Json = json.loads(text)
    except ValueError as error:
        raise BusError(f'{where} is not JSON: {error}; write for example \'{{"name": "Ada"}}\'') from error
    return value
