"""Waiting for what a bus cannot start without: its store and its broker, which may come up after it.

Only what may pass is waited for. A plain mistake, such as a wrong password, raises at once: waiting would hide it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from bus.core.errors import BrokerDown, StoreDown, StoreRefused

T = TypeVar("T")

PAUSE_S = (0.5, 5.0)  # between attempts: doubles from the first to the second, with jitter


def patiently(attempt: Callable[[], T], say: Callable[[str], None]) -> T:
    """Try until it succeeds.

    Args:
        say: told before each pause what is waited for.

    Raises:
        StoreRefused, Unreachable, StoreFailed: anything but `StoreDown` and `BrokerDown` is final.
    """
    pause_s = PAUSE_S[0]
    while True:
        try:
            return attempt()
        except StoreRefused:
            raise
        except (StoreDown, BrokerDown) as error:
            say(str(error))
        time.sleep(random.uniform(pause_s / 2, pause_s))
        pause_s = min(PAUSE_S[1], pause_s * 2)
