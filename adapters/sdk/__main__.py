"""Run an agent from a file: `python -m adapters.sdk FILE.py:agent`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from adapters.sdk.agent import HOSTED, Agent
from adapters.sdk.runner import run_until_signal
from bus.core.errors import BusError
from bus.settings import Settings


def load(target: str) -> Agent:
    """Import the file and return the agent in it.

    Args:
        target: `FILE.py:NAME`; the file's folder can be imported from, as when the file is run itself.

    Raises:
        BusError: there is no such file or no agent of that name in it.
    """
    file, _, name = target.partition(":")
    path = Path(file).resolve()
    if not path.is_file():
        raise BusError(f"no file {path}; write `run: FILE.py:agent`, relative to the integration's folder")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise BusError(f"{path} is no Python file; write `run: FILE.py:agent`")
    sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    loading = HOSTED.set(True)
    try:
        spec.loader.exec_module(module)
    finally:
        HOSTED.reset(loading)
    agent = getattr(module, name or "agent", None)
    if not isinstance(agent, Agent):
        raise BusError(f"{path.name} has no agent `{name or 'agent'}`; write `{name or 'agent'} = Agent(...)` in it")
    return agent


def check_declared(agent: Agent, name: str, capabilities: list[str]) -> None:
    """Compare the agent with what its integration declares.

    Raises:
        BusError: they differ.
    """
    if agent.name != name:
        raise BusError(f"the file's agent is `{agent.name}`, declared is `{name}`; write Agent({name!r})")
    missing = sorted(set(capabilities) - set(agent.capabilities))
    if missing:
        raise BusError(f"agent `{name}` declares {', '.join(missing)}; write @agent.capability({missing[0]!r})")
    extra = sorted(set(agent.capabilities) - set(capabilities))
    if extra:
        raise BusError(f"agent `{name}` handles {', '.join(extra)}; write it in its `capabilities` under `agents:`")


def main() -> int:
    """Parse the arguments and run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m adapters.sdk", description=__doc__)
    parser.add_argument("target", metavar="FILE.py:agent")
    parser.add_argument("--name", help="declared name; differing is an error")
    parser.add_argument("--capability", action="append", default=[], help="declared capability, once for each")
    parser.add_argument("--concurrency", type=int, help="handlers running at once, instead of the file's")
    parser.add_argument("--timeout", type=float, help="seconds a handler may take, instead of the file's")
    parser.add_argument("--parent", type=int, help="file descriptor of the hosting process")
    given = parser.parse_args()
    try:
        agent = load(given.target)
        if given.name is not None:
            check_declared(agent, given.name, given.capability)
        agent.limit(given.concurrency or agent.concurrency, given.timeout or agent.timeout_s)
        run_until_signal(agent.name, agent.serve, Settings.from_environment(), given.parent)
    except BusError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
