"""What was seen, by input and place: arrivals at raw sinks and effects of agents, each traced back to its input."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bus.core.message import FAILED
from tests.chaos.effects import Effect, digest_of
from tests.chaos.load import PRODUCER, Sent
from tests.chaos.sinks import Arrival

ASIDE = ("dead", "invalid")  # places that get the original, byte for byte
CAPABILITIES = ("work", "single", "moody", "broken")


class Sight(NamedTuple):
    """One arrival or effect. `token` is "" where it goes back to no input of ours; `life` is "" at raw sinks.

    `again`: the broker had given it to a connection of the sink that has died, and whose end of it nobody saw.
    """

    token: str
    place: str
    id: str
    digest: str
    life: str
    again: bool = False


@dataclass(slots=True)
class Tally:
    """Args:
    sent: every input that was published, confirmed or not, by token.
    confirmed: tokens that the broker confirmed.
    sights: all that was seen, in order.
    reworked: (id, agent) of requests that an agent worked on though another one may have had them.
    """

    sent: dict[str, Sent] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    sights: list[Sight] = field(default_factory=list)
    reworked: set[tuple[str, str]] = field(default_factory=set)
    unmet: set[tuple[str, str]] = field(default_factory=set)
    _met: set[tuple[str, str]] = field(default_factory=set)
    _by_body: dict[str, str] = field(default_factory=dict)
    _failing: dict[str, str] = field(default_factory=dict)

    def expect(self, sent: Iterable[Sent]) -> None:
        """Confirmed inputs: their places are expected from now on."""
        for each in sent:
            if each.token in self.confirmed:
                continue
            self.confirmed.add(each.token)
            self.know(each)
            places = {(each.token, expected.place) for expected in each.expected}
            self.unmet |= places - self._met

    def know(self, each: Sent) -> None:
        """An input that may arrive, confirmed or not."""
        if each.token in self.sent:
            return
        self.sent[each.token] = each
        self._by_body[digest_of(each.body)] = each.token
        if each.end != "routed" and any(expected.place == PRODUCER for expected in each.expected):
            self._failing[each.id] = each.token

    def arrived(self, arrivals: Iterable[Arrival]) -> None:
        """Deliveries at raw sinks."""
        for each in arrivals:
            self._see(Sight(self._token(each), each.place, each.id, each.digest, "", each.redelivered))

    def performed(self, effects: Iterable[Effect]) -> None:
        """Handler calls of agents."""
        for each in effects:
            if each.redelivered and each.place in CAPABILITIES:
                self.reworked.add((each.id, each.life.partition("/")[0]))
            self._see(Sight(each.token, each.place, each.id, each.digest, each.life))

    def _see(self, sight: Sight) -> None:
        self.sights.append(sight)
        self._met.add((sight.token, sight.place))
        self.unmet.discard((sight.token, sight.place))

    def _token(self, arrival: Arrival) -> str:
        if arrival.place in ASIDE:
            token = self._by_body.get(arrival.digest)
            if token is not None:
                return token
        data: Any = arrival.data
        if not isinstance(data, dict):
            return ""
        if arrival.place == PRODUCER and "message" in data and arrival.type == FAILED:
            return self._failing.get(str(data["message"]["id"]), "")
        return str(data.get("token", ""))

    def by_place(self) -> dict[tuple[str, str], list[Sight]]:
        """Sights by (token, place), each list in order."""
        found: dict[tuple[str, str], list[Sight]] = defaultdict(list)
        for sight in self.sights:
            found[sight.token, sight.place].append(sight)
        return found
