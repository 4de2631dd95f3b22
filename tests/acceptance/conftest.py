"""A bus with the `hello` integration, on the shared broker, in a namespace and home of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.crew import Crew
from tests.acceptance.live import HELLO, LiveBus
from tests.conftest import TestBroker


@pytest.fixture
def live(broker: TestBroker, namespace: str, tmp_path: Path) -> Iterator[LiveBus]:
    """Started; stopped at the end if the test has not."""
    bus = LiveBus(HELLO, tmp_path / "home", namespace, broker.bus_url, broker.agent_url)
    bus.start()
    yield bus
    bus.stop()


@pytest.fixture
def crew(live: LiveBus) -> Iterator[Crew]:
    """Starts workers; all of them are stopped at the end."""
    made = Crew(live)
    yield made
    made.stop()
