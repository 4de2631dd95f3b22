"""The agent of `bus bench scatter`: `python -m bus.cli.bench.echo_agent`, with the settings in the environment."""

from __future__ import annotations

import signal

from bus import bootstrap
from bus.cli.bench.echoing import READY
from bus.settings import Settings
from bus.shell.bench.echo import Echo
from bus.shell.calm import calm_process


def main() -> None:
    """Answer until SIGTERM."""
    settings = Settings.from_environment()
    transport = bootstrap.transport(settings, None)
    signal.signal(signal.SIGTERM, lambda *_: transport.call_threadsafe(transport.stop))
    calm_process()
    transport.run(Echo(transport, settings.namespace, lambda: print(READY, flush=True)))


if __name__ == "__main__":
    main()
