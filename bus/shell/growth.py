"""What partitions a namespace gets when it begins, and how it is told to grow: both are notes in the store.

Workers do the rest when they see the note: see bus.core.ingress and bus.shell.entry.
"""

from __future__ import annotations

import logging

from bus.core.errors import BusError
from bus.core.ingress import Ingress, grown, setting_note
from bus.ports import Store
from bus.shell.controls import Controls

_log = logging.getLogger(__name__)


def begin_ingress(store: Store, wanted: int | None, first: int) -> Ingress:
    """Give a namespace its partitions if it has none yet; otherwise the store says what they are, and no setting.

    Args:
        wanted: BUS_PARTITIONS, or None.
        first: partitions of a namespace that has none.

    Raises:
        BusError: `wanted` is another number than it ever was.
    """
    while not (found := store.ingress()).sizes:
        store.set_ingress(found, grown(found, first))
    note = setting_note(found, wanted)
    if note:
        _log.warning("%s", note)
    return found


def note_growth(store: Store, partitions: int) -> None:
    """Note in a store that several may write that the namespace is to grow.

    Raises:
        BusError: it cannot grow so.
    """
    while True:
        before = store.ingress()
        controls = Controls(store)
        controls.read()
        if controls.standing.paused and grown(before, partitions) != before:
            raise BusError(
                f"{', '.join(sorted(controls.standing.paused))} is paused: what waits for it would hold up the growth, "
                "and `resume` waits in the new queues; write `bus control resume` first"
            )
        if store.set_ingress(before, grown(before, partitions)):
            return
