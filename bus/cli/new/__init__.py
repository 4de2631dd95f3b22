"""`bus new`: the files of an integration, a route or an agent, which work as they are."""

from __future__ import annotations

import rich_click as click

from bus.cli.new.commands import agent, integration, route


@click.group()
def new() -> None:
    """Write the files of a new integration, route or agent.

    They are small, `bus lint` has nothing to say about them, and their tests pass; make them yours from there.
    A file that exists is never written over.

    \b
    Examples:
      bus new integration hello          routes/hello: a route, an agent, contracts and tests
      bus new route refund               into the integration of the working directory, or the only one in routes/
      bus new agent scorer --in routes/hello
    """


for _command in (integration, route, agent):
    new.add_command(_command)
