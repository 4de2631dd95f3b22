"""`python -m bus` is the command `bus`, and this is where both begin.

Ctrl-C is quiet from here on: an interrupt in the middle of an import is an end like any other, not a traceback.
"""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130


def main() -> None:
    """Run the command line of this process and exit."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where a shell's `&` has made us ignore it
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(INTERRUPTED))  # nothing is open yet
    from bus.cli import main as command

    signal.signal(signal.SIGINT, before)
    command()


if __name__ == "__main__":
    main()
