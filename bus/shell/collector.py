"""Python's cycle collector, set for a process that relays messages and does nothing else."""

from __future__ import annotations

import gc

_YOUNG = 20_000  # objects; about a batch. The default, 700, looks at the same batch's objects dozens of times


def calm_collector() -> None:
    """Look for reference cycles more rarely, and never again among what start-up made.

    The messages' path makes no cycles: what it makes is freed when it is done with. The default settings all the same
    take about a tenth of its time, most of it for looking at the compiled routes and the imported modules again.
    Call it once, when everything is loaded.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 50, 100)
