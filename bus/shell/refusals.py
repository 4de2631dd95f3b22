"""When a target goes on refusing, the connection may be at fault: the bus then lets go of it, at most now and then.

RabbitMQ (seen on 3.10.8; rabbitmq-server issue 12206) tells the channels that publish to a quorum queue when it is
full, and when it is no more. When the limit itself is taken away while the queue is full, it never tells the second: a
channel that was refused before is refused for ever, though the queue is empty, and a new one is not. From here the two
look the same, so a target that has taken nothing for a while is tried on a new connection; one that is really full
costs a reconnect now and then, and ever more rarely. What waits is rows, so nothing depends on it but time.
"""

from __future__ import annotations

from typing import TypeAlias

Address: TypeAlias = tuple[str, str]  # exchange, routing key

REFUSED_S = 30.0  # a target refuses for so long, with retries after 1, 2, 4, 8, 16 s, and takes nothing meanwhile
AGAIN_S = (60.0, 3600.0)  # least time between two reconnects: doubles from the first to the last while it goes on


class Refusals:
    """Args:
    after_s: how long a target must have refused everything.
    again_s: least and largest of the least time between two reconnects.
    """

    def __init__(self, after_s: float = REFUSED_S, again_s: tuple[float, float] = AGAIN_S) -> None:
        self._after_s, self._again_s = after_s, again_s
        self._since: dict[Address, float] = {}  # first refusal since the last confirm, on this connection
        self._blamed: set[Address] = set()  # targets for which a connection was made anew, and that took nothing since
        self._pause_s = self._again_s[0]
        self._not_before = 0.0

    def connected(self) -> None:
        """A new connection: what was refused on an earlier one says nothing of it."""
        self._since.clear()

    @property
    def noted(self) -> bool:
        """Whether a target refuses, or did until the connection was made anew."""
        return bool(self._since or self._blamed)

    def taken(self, address: Address) -> None:
        """A target took a publish."""
        self._since.pop(address, None)
        if address in self._blamed:
            self._blamed.remove(address)
            if not self._blamed:
                self._pause_s = self._again_s[0]

    def refused(self, address: Address, now: float) -> str:
        """A target refused a publish; returns why the connection should be made anew, or "" when it should not."""
        seconds = now - self._since.setdefault(address, now)
        if seconds < self._after_s or now < self._not_before:
            return ""
        self._blamed.add(address)
        self._not_before = now + self._pause_s
        self._pause_s = min(self._again_s[1], self._pause_s * 2)
        exchange, key = address
        where = f"exchange {exchange}, key {key}" if exchange else f"queue {key}"
        return f"{where} has refused all publishes for {seconds:.0f} s; it may be this connection that it refuses"
