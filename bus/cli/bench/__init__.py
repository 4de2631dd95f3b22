"""`bus bench`: what this machine does, always beside a baseline in the same run; one benchmark a file."""

from __future__ import annotations

import rich_click as click

from bus.cli.bench.backlog import backlog
from bus.cli.bench.latency import latency
from bus.cli.bench.relay import relay
from bus.cli.bench.routes import routes
from bus.cli.bench.scale import scale
from bus.cli.bench.scatter import scatter


@click.group()
def bench() -> None:
    """Measure what this machine does, always beside a baseline in the same run.

    Figures of one run compare with each other, not with those of another run or machine: trust the ratios. Every
    benchmark works in a namespace of its own and removes it.

    \b
    Examples:
      bus bench relay
      bus bench relay --messages 50000 --output json
      bus bench latency --rate 500
      bus bench routes --routes 10,1000
      bus bench scatter --conversations 5000
      bus bench backlog --messages 500000
      bus bench scale --store postgresql://bus:secret@127.0.0.1/bus
    """


for _command in (relay, latency, routes, backlog, scale, scatter):
    bench.add_command(_command)
