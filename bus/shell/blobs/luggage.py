"""What decisions leave in the blob store and take from it: between `decide`, which is pure, and the store.

Blobs are written before the commit of the decision that refers to them: one whose commit fails is left over, and does
no harm. Used on the store's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bus.core.actions import Decision
from bus.core.blobs import BLOB
from bus.core.errors import BlobsDown
from bus.ports import Blobs

_log = logging.getLogger(__name__)


class Luggage:
    """Args:
    blobs: where it is kept.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def reading(self, recall: Callable[[str], bytes | None]) -> Callable[[str], bytes | None]:
        """The same as `recall`, with blobs besides; one that cannot be read now is not there."""

        def read(key: str) -> bytes | None:
            if not key.startswith(BLOB):
                return recall(key)
            try:
                return self._blobs.get(key.removeprefix(BLOB))
            except BlobsDown as error:
                _log.warning("a claim check cannot be honoured: %s", error)
                return None

        return read

    def keep(self, decision: Decision) -> Decision | None:
        """Write the blobs of a decision; returns it without them, or None when one could not be written."""
        blobs = [each for each in decision.changes if each.key.startswith(BLOB)]
        try:
            for each in blobs:
                if each.body is not None:
                    self._blobs.put(each.key.removeprefix(BLOB), each.body)
        except BlobsDown as error:
            _log.warning("a claim check cannot be given: %s", error)
            return None
        left = tuple(each for each in decision.changes if not each.key.startswith(BLOB))
        return decision._replace(changes=left) if blobs else decision
