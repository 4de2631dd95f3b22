"""Python's runtime and the C library's allocator, set for a process that relays messages and does nothing else."""

from __future__ import annotations

import ctypes
import gc
import sys

_YOUNG = 100_000  # objects; some batches. The default, 700, looks at the same batch's objects dozens of times
_SWITCH_S = 0.02  # how long a thread keeps the interpreter; the default, 5 ms, breaks a batch apart a few times

# glibc's mallopt(3): the default gives memory back to the kernel after each batch and fetches it again for the next.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_MALLOC = {_TRIM_THRESHOLD: 32 << 20, _TOP_PAD: 1 << 20, _MMAP_THRESHOLD: 4 << 20, _ARENA_MAX: 1}


def calm_process() -> None:
    """Collect rarely, switch threads rarely, keep memory. Call it once, when everything is loaded.

    Cycles are looked for more rarely, and never again among what start-up made: the messages' path makes none, what
    it makes is freed when it is done with. The default settings all the same take about a tenth of its time, most of it
    for looking at the compiled routes and the imported modules again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 50, 100)
    sys.setswitchinterval(_SWITCH_S)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # another C library has none, and needs none
        for name, value in _MALLOC.items():
            mallopt(name, value)
