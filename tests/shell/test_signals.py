"""SIGTERM and SIGINT: taken wherever the main thread is."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from bus.shell.signals import graceful


def test_a_drain_may_take_a_lock_that_the_interrupted_code_holds() -> None:
    """pika's loop holds one whenever it wakes itself; a bus told to end just then hung."""
    lock, taken = threading.Lock(), list[bool]()

    def drain() -> None:
        taken.append(lock.acquire(timeout=3.0))

    with graceful() as it:
        it.drain = drain
        with lock:
            os.kill(os.getpid(), signal.SIGTERM)
    assert taken == [True]


def test_the_first_signal_ends_what_waits_and_the_second_what_drains() -> None:
    went_on = []
    with graceful():
        os.kill(os.getpid(), signal.SIGTERM)
        went_on.append(True)
    assert went_on == []
    with pytest.raises(KeyboardInterrupt), graceful() as it:  # noqa: PT012
        it.drain = lambda: None
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
