"""`bus agents`: who is declared, whether anybody listens, and running those that this machine should run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import Printer, folders_of, output_option, settings_of, settings_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bus.core.route import Agent
    from bus.settings import Settings
    from bus.shell.probe import QueueState

_paths = click.argument("paths", nargs=-1, type=click.Path(path_type=Path))


@click.group(invoke_without_command=True)
@click.option("--routes", "paths", multiple=True, type=click.Path(path_type=Path), help="Folder; may be repeated.")
@settings_options
@output_option()
def agents(paths: tuple[Path, ...], printer: Printer, **flags: Any) -> int:
    """List the declared agents: adapter, capabilities, and how their queues stand on the broker.

    Without a running broker the queues' state is left out.

    \b
    Examples:
      bus agents
      bus agents --output json
      bus agents run                        run all that are declared in routes/
      bus agents run --only sentiment
    """
    context = click.get_current_context()
    if context is not None and context.invoked_subcommand is not None:
        return 0
    from bus import bootstrap

    catalog = bootstrap.table(bootstrap.load(folders_of(paths))).catalog
    settings = settings_of(flags)
    states = _states(settings, list(catalog.agents.values()))
    for agent in catalog.agents.values():
        queues = {name: states.get(name) for name in _queues(settings.namespace, agent)}
        printer.emit(_record(agent, queues), _line(agent, queues))
    if not states:
        printer.note("no broker is running: the state of the queues is not known")
    return 0


def _queues(namespace: str, agent: Agent) -> list[str]:
    from bus.core.naming import agent_queue, capability_queue

    return [agent_queue(namespace, agent.name), *(capability_queue(namespace, each) for each in agent.capabilities)]


def _states(settings: Settings, declared: list[Agent]) -> Mapping[str, QueueState | None]:
    from bus import bootstrap
    from bus.core.errors import Unreachable
    from bus.shell.probe import connection, queue_states

    names = {name for agent in declared for name in _queues(settings.namespace, agent)}
    try:
        with connection(bootstrap.bus_url(bootstrap.running(settings))) as opened:
            return queue_states(opened, sorted(names))
    except Unreachable:
        return {}


def _record(agent: Agent, queues: Mapping[str, QueueState | None]) -> dict[str, Any]:
    return {
        "agent": agent.name,
        "adapter": agent.adapter,
        "capabilities": list(agent.capabilities),
        "subscribes": list(agent.subscribes),
        "publishes": list(agent.publishes),
        "queues": {
            name: None if state is None else {"depth": state.depth, "consumers": state.consumers}
            for name, state in queues.items()
        },
    }


def _line(agent: Agent, queues: Mapping[str, QueueState | None]) -> str:
    words = [f"{agent.name:20} {agent.adapter:8}"]
    for label, names in (("can", agent.capabilities), ("hears", agent.subscribes), ("says", agent.publishes)):
        if names:
            words.append(f"{label} {', '.join(names)}")
    known = [state for state in queues.values() if state is not None]
    if known:
        waiting, consumers = sum(each.depth for each in known), min(each.consumers for each in known)
        words.append(
            f"{waiting} waiting, {consumers} listening" if consumers else f"{waiting} waiting, NOBODY listening"
        )
    return "  ".join(words)


@agents.command("run")
@_paths
@click.option("--only", multiple=True, metavar="NAME", help="Only this agent; may be repeated.")
@settings_options
@output_option()
def run_agents(paths: tuple[Path, ...], only: tuple[str, ...], printer: Printer, **flags: Any) -> int:
    """Run the declared agents of PATH in this process, until Ctrl-C or SIGTERM.

    An agent that ends by a failure is started again after a pause. The bus must run: `bus run` in another
    terminal, or `bus dev` for all in one.
    """
    import sys

    from bus import bootstrap, bootstrap_roles
    from bus.shell.telemetry.logs import configure

    settings = bootstrap.running(settings_of(flags))
    configure(settings.log_level, settings.log_format, sys.stderr)
    loaded = bootstrap.load(folders_of(paths))

    def ready(names: list[str]) -> None:
        printer.emit({"event": "ready", "agents": names}, f"ready: {', '.join(names)}")

    bootstrap_roles.run_agents(settings, loaded, only, ready)
    return 0
