"""A bus of one partition in memory for routes with memory: real routes, real decisions, agents played by the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from bus.config import Loaded, load
from bus.core.actions import Decision, Delivery, Output
from bus.core.memory import CELL
from bus.core.message import Json
from bus.core.pipeline import decide
from bus.core.registry import STEPS
from bus.core.running import due
from bus.core.table import RouteTable
from bus.core.times import rfc3339
from tests.core.world import FACTS

AGENTS = """\
agents:
  desk: {adapter: external, publishes: [asked, item, piece, numbered]}
  grader: {adapter: external, capabilities: [grade], attributes: {cleared: true}}
  other: {adapter: external, capabilities: [other], attributes: {cleared: true}}
  third: {adapter: external, capabilities: [third]}
capabilities:
  grade: {request: schemas/any.v1.json, reply: schemas/text.v1.json, idempotent: true}
  other: {request: schemas/any.v1.json, reply: schemas/any.v1.json, idempotent: true}
  third: {request: schemas/any.v1.json, reply: schemas/any.v1.json, idempotent: true}
"""
TYPES = ("asked", "item", "piece", "numbered", "done", "seen")
OF = {"grade": "grader", "other": "other", "third": "third"}


def catalog(folder: Path, routes: str) -> RouteTable:
    """Compile an integration with three capabilities around these routes."""
    made = loaded(folder, routes)
    assert made.catalog is not None
    return RouteTable(made.catalog)


def loaded(folder: Path, routes: str, agents: str = AGENTS) -> Loaded:
    """The same, with all that a load gives."""
    (folder / "t" / "schemas").mkdir(parents=True, exist_ok=True)
    (folder / "t" / "schemas" / "any.v1.json").write_text("{}")
    text = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
    (folder / "t" / "schemas" / "text.v1.json").write_bytes(orjson.dumps(text))
    types = "".join(f"  {name}: {{contract: any, unrouted: ok}}\n" for name in TYPES)
    labels = "labels: {personal: {requires: {cleared: true}}, inner: {}, said: {}}\n"
    (folder / "t" / "integration.yaml").write_text(f"integration: t\ntypes:\n{types}{labels}")
    (folder / "t" / "agents.yaml").write_text(agents)
    (folder / "t" / "routes.yaml").write_text(routes)
    made = load([folder / "t"], {}, STEPS)
    assert made.catalog is not None, [str(each) for each in made.findings]
    return made


@dataclass
class RunWorld:
    """Args:
    table: the routes.
    controls: what is switched on.

    Attributes:
        memory: what is remembered, by key, with its due time.
        requests: what agents were asked and have not answered, oldest first.
        told: what came to clients, dead letters and so on.
    """

    table: RouteTable
    now_s: float = 1_800_000_000.0
    memory: dict[str, tuple[bytes, float | None]] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    controls: dict[str, bool] = field(default_factory=dict)

    def recall(self, key: str) -> bytes | None:
        found = self.memory.get(key)
        return None if found is None else found[0]

    def send(self, data: Json, type_: str = "asked", id_: str = "m1", **more: Any) -> Decision:
        """A client sends a message and waits for its answer."""
        event = {"specversion": "1.0", "id": id_, "source": "cli", "type": type_, "replyto": "client:me", **more}
        return self._hear(orjson.dumps({**event, "data": data}), str(more.get("conversationid", id_)), "agents")

    def redrive(self, data: Json, times: int, type_: str = "asked", id_: str = "m1") -> Decision:
        """The bus sends a dead letter again, as it was."""
        event = {"specversion": "1.0", "id": id_, "source": "cli", "type": type_, "replyto": "client:me"}
        return self._hear(orjson.dumps({**event, "redrive": times, "data": data}), id_, "bus")

    def answer(
        self, capability: str, data: Json, *, word: str = "replied", again: bool = False, **more: Any
    ) -> Decision:
        """The agent answers the oldest request for a capability."""
        request = next(each for each in self.requests if each["type"] == f"{capability}.requested")
        if not again:
            self.requests.remove(request)
        event = {
            "specversion": "1.0", "id": f"r-{request['id']}", "source": OF[capability], "type": f"{capability}.{word}",
            "conversationid": request["conversationid"], "correlationid": request["id"],
            "replyto": request["replyto"], "data": data, **more,
        }  # fmt: skip
        return self._hear(orjson.dumps(event), str(request["conversationid"]), "agents")

    def fail(self, capability: str, class_: str) -> Decision:
        return self.answer(capability, {"class": class_, "reason": "no"}, word="failed")

    def pass_time(self, seconds: float) -> None:
        """Let time pass, from one due time to the next."""
        until = self.now_s + seconds
        while True:
            times = [(at, key) for key, (_, at) in self.memory.items() if at is not None and at <= until]
            if not times:
                break
            self.now_s = max(self.now_s, min(times)[0])
            if min(times)[1].startswith(CELL):
                del self.memory[min(times)[1]]
                continue
            found = due(min(times)[1], self._facts(), self.table)
            assert found is not None
            self._take(found[1])
        self.now_s = until

    @property
    def asked(self) -> list[str]:
        return [each["type"].removesuffix(".requested") for each in self.requests]

    def _facts(self) -> Any:
        return replace(FACTS, now_s=self.now_s, now=rfc3339(self.now_s), recall=self.recall, controls=self.controls)

    def _hear(self, body: bytes, key: str, user: str) -> Decision:
        delivery = Delivery(body, "application/cloudevents+json", {}, user, None, None, key, "ns.ingress.00")
        return self._take(decide(delivery, self.table, self._facts()))

    def _take(self, decision: Decision) -> Decision:
        self.decisions.append(decision)
        assert len({each.key for each in decision.changes}) == len(decision.changes)
        for change in decision.changes:
            if change.body is None:
                self.memory.pop(change.key, None)
            else:
                self.memory[change.key] = (change.body, change.due_s)
        self._deliver(decision.outputs)
        return decision

    def _deliver(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if output.kind in ("capability", "agent") and output.type.endswith(".requested"):
                self.requests.append(orjson.loads(output.body))
            elif output.kind == "ingress":
                self._hear(output.body, output.conversation, "bus")
            elif output.kind in ("dead", "invalid"):
                self.told.append((output.kind, dict(output.headers)))
            elif output.kind != "agent":
                self.told.append((output.name or output.kind, orjson.loads(output.body)))

    def heard(self) -> list[Any]:
        """Data of what came to the client, in order."""
        return [each["data"] for who, each in self.told if who == "me"]
