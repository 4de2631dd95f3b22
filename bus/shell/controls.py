"""What operators have told the running bus, as the store has it: see bus.core.control.

It belongs to no partition. Whoever decides a control message writes it in the same commit; every process reads it each
second, beside renewing its leases, and the one that wrote it at once. Used on the store's thread but for `standing`,
which is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from bus.core.actions import Change
from bus.core.control import KEY, LEVEL, PAUSED, STAMP, SWITCH
from bus.ports import SHARED, Store


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands.

    Args:
        paused: routes and targets, `route:shop/orders` for one.
        switches: controls that are on, as `detour` reads them.
        level: log level, or None for what the settings say.
        stamps: by verb, the id of the last message that had all processes do something.
    """

    paused: frozenset[str] = frozenset()
    switches: Mapping[str, bool] = field(default_factory=dict)
    level: str | None = None
    stamps: Mapping[str, str] = field(default_factory=dict)


class Controls:
    """Args:
    store: where it is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._said: dict[str, bytes] = {}
        self.standing = Standing()

    def read(self) -> None:
        """Read what stands.

        Raises:
            StoreDown: the store cannot be reached.
        """
        said = {}
        for key, _ in self._store.states(SHARED):
            body = self._store.recall(SHARED, key)
            if body is not None:
                said[key] = body
        if said != self._said:
            self._said = said
            self.standing = _standing({key: orjson.loads(body)["value"] for key, body in said.items()})


def _standing(values: Mapping[str, Any]) -> Standing:
    def below(prefix: str) -> dict[str, Any]:
        return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}

    return Standing(frozenset(below(PAUSED)), below(SWITCH), values.get(LEVEL), below(STAMP))


def shared(changes: Iterable[Change]) -> bool:
    """Whether changes are of what belongs to no partition."""
    return any(each.key.startswith(KEY) for each in changes)
