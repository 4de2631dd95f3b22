"""`bus dev`: broker, bus and agents in one command, started again whenever a file of the configuration changes.

The bus and the agents are processes of their own, so that an edit of an agent's Python code is taken up too, and so
that what runs in production is what runs here. An edit with errors is reported and changes nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import (
    Printer,
    count,
    folders_of,
    output_option,
    printable,
    settings_of,
    settings_options,
    terminable,
)
from bus.core.errors import BusError
from bus.shell.watching import POLL_S, snapshot

if TYPE_CHECKING:
    import asyncio

    from bus.config.loading import Loaded
    from bus.settings import Settings
    from bus.shell.supervisor import Part


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@settings_options
@output_option()
def dev(paths: tuple[Path, ...], printer: Printer, **flags: Any) -> int:
    """Run a private broker, the bus and the agents of PATH, and reload on every change, until Ctrl-C.

    An edit with errors is reported and the running configuration stays. The logs of the bus and of the agents
    are in the folder log of --home.

    \b
    Examples:
      bus dev
      bus dev routes/hello
      bus send hello.asked '{"name": "Ada"}' --wait       in a second terminal
    """
    import asyncio

    from bus import bootstrap

    folders = folders_of(paths)
    settings = settings_of(flags)
    loaded = bootstrap.load(folders)
    for finding in loaded.findings:
        if finding.severity == "warning":  # errors are told with the refusal
            printer.note(str(finding))
    bootstrap.table(loaded)
    with terminable():
        broker = bootstrap.open_broker(settings, printer.note)
        try:
            return asyncio.run(_Development(folders, settings, printer).run(loaded))
        finally:
            broker.stop()


class _Development:
    """Args:
    folders: what is watched and run.
    settings: as given, so that the two processes find the same broker and store.
    """

    def __init__(self, folders: Sequence[Path], settings: Settings, printer: Printer) -> None:
        self._folders = folders
        self._settings = settings
        self._printer = printer
        self._parts: list[tuple[Part, asyncio.Task[None]]] = []
        self._version = ""

    async def run(self, loaded: Loaded) -> int:
        """Run until interrupted.

        Raises:
            BusError: the bus cannot start.
        """
        import asyncio

        # SIGTERM becomes SIGINT, which asyncio.run turns into a cancellation of this task.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)
        seen = snapshot(self._folders)
        try:
            await self._start(loaded)
            while True:
                await asyncio.sleep(POLL_S)
                now = snapshot(self._folders)
                # Only an edit that is a moment old: an editor may be half through writing the file.
                if now != seen:
                    await asyncio.sleep(POLL_S / 4)
                    if snapshot(self._folders) == now:
                        seen = now
                        await self._reload()
        finally:
            await self._stop()

    async def _start(self, loaded: Loaded) -> None:
        if loaded.catalog is None:
            raise BusError("the configuration has errors; see `bus lint`")
        self._version = loaded.catalog.version
        await self._up("bus", ["run"])
        try:
            announced = await self._up("agents", ["agents", "run"])
        except BusError as error:
            self._printer.emit(
                {"event": "agents_failed", "reason": str(error)}, f"[dev] {error}\n[dev] mend it; they start again then"
            )
            return
        agents = announced.get("agents")
        names = [str(each) for each in agents] if isinstance(agents, list) else []
        watched = ", ".join(map(str, self._folders))
        self._printer.emit(
            {"event": "ready", "config": self._version, "agents": names},
            f"ready, {count(len(names), 'agent')}, configuration {self._version}, watching {watched}",
        )

    async def _up(self, name: str, words: Sequence[str]) -> dict[str, object]:
        """Start a part and wait until it is ready; returns what it announced.

        Raises:
            BusError: it ended before it was ready.
        """
        import asyncio

        from bus.shell.supervisor import Part

        folder = self._settings.home / "log"
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ["bus", *words, *map(str, self._folders), "--output", "json"]
        part = Part(
            name, arguments, _environment(self._settings), folder,
            lambda text: click.echo(f"[dev] {printable(text)}", err=True),
        )  # fmt: skip
        running = asyncio.create_task(part.run())
        self._parts.append((part, running))
        ready = asyncio.create_task(part.ready.wait())
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if running.done():
            running.result()
        return part.announced

    async def _reload(self) -> None:
        from bus import bootstrap

        loaded = bootstrap.load(self._folders)
        errors = [each for each in loaded.findings if each.severity == "error"]
        for finding in errors:
            self._printer.emit(
                {"event": "refused", **finding.as_dict(), "config": self._version},
                f"[dev] {finding}. Still running {self._version}.",
            )
        if loaded.catalog is None or errors:
            return
        self._printer.note(f"[dev] changed; starting configuration {loaded.catalog.version}")
        await self._stop()
        await self._start(loaded)

    async def _stop(self) -> None:
        # The agents first: what the bus still delivers while it drains waits in their queues for the next start.
        import asyncio

        while self._parts:
            part, running = self._parts.pop()
            await part.stop()
            await asyncio.gather(running, return_exceptions=True)


def _environment(settings: Settings) -> dict[str, str]:
    """What was given by flags, for the two processes; URLs hold passwords, so none is an argument."""
    values = {"BUS_HOME": str(settings.home), "BUS_NAMESPACE": settings.namespace, "BUS_LOG_FORMAT": "text"}
    if settings.amqp_url:
        values["BUS_AMQP_URL"] = settings.amqp_url
    if settings.store:
        values["BUS_STORE"] = settings.store
    return values
