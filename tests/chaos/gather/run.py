"""One run: open them all, then let the agents answer; processes die at even steps of the way."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bus.shell.history_log import records_of
from tests.chaos.children import PATIENCE_S, poll
from tests.chaos.faults.network import cut
from tests.chaos.gather.check import BAD, BRANCHES, check
from tests.chaos.load import PRODUCER, Expected, Sent
from tests.chaos.node import Node
from tests.chaos.options import Options
from tests.chaos.world import Bus, Scene, World

ROUTES = Path(__file__).parent / "routes"
SINKS = {"collector": "agent.collector", "dead": "dead", "invalid": "invalid"}
FILL_PER_S = 5000.0  # more than the bus takes: it opens runs as fast as it can
TAIL_S = 2.0


class Runs:
    """The load: so many runs, each a conversation of its own.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.all = [_run(number) for number in range(count)]
        self._left = iter(self.all)

    def next(self) -> Sent | None:
        """The next one."""
        return next(self._left, None)

    def rest(self) -> list[Sent]:
        """Nothing."""
        return []


def _run(number: int) -> Sent:
    name = f"run-{number}"
    event = {"specversion": "1.0", "id": name, "source": PRODUCER, "type": "gather.asked", "conversationid": name}
    body = orjson.dumps({**event, "data": {"run": name}})
    return Sent(name, name, name, name, number, "gather", body, "routed", (Expected("collector", False),))


@dataclass(frozen=True, slots=True)
class Result:
    """Counts by name, what else there is to say, and where the evidence lies."""

    shown: dict[str, Any]
    remarks: list[str]
    evidence: Path

    @property
    def good(self) -> bool:
        """Whether nothing is bad, and all is there."""
        right = self.shown["composed"] == self.shown["runs"] and self.shown["kills"] > 0
        return right and not any(self.shown[name] for name in BAD)


def gather(runs: int, options: Options, node: Node | None = None) -> Result:
    """Open so many runs, have their agents answer, kill on the way, and count what has been composed.

    Args:
        runs: how many are open at once.
        options: seed, kills, store, workers and broker count; after `quiet_s` without any progress, what is missing is
            lost.
        node: a broker that runs already.
    """
    folder = options.keep or Path(tempfile.mkdtemp(prefix=f"agentbus-gather-{options.seed}-"))
    folder.mkdir(parents=True, exist_ok=True)
    load = Runs(runs)
    agents = {name: ("-m", "tests.chaos.gather.agent", name) for name in BRANCHES}
    with World(options, folder, node, Scene(ROUTES, agents, SINKS, lambda *_: load)) as world:
        result = _Gathering(world, load).run()
    (folder / "verdict.json").write_bytes(orjson.dumps(result.shown, option=orjson.OPT_INDENT_2))
    if result.good and options.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    return result


class _Gathering:
    """Args:
    world: entered.
    load: what its producer sends.
    """

    def __init__(self, world: World, load: Runs) -> None:
        self._world, self._load = world, load
        self._count = len(load.all)
        self._peak_mb = 0.0
        self._came: set[str] = set()
        self._looked = 0

    def run(self) -> Result:
        world = self._world
        (producer,) = world.producers
        kills = world.options.kills
        began = time.monotonic()
        producer.start()
        self._with_kills(range(kills // 2), self._open)
        self._until(self._open, self._count)
        open_at_once, opened = self._open(), time.monotonic()
        if not producer.finish(PATIENCE_S):
            world.remarks.append("the producer did not get all its confirms")
        world.note("open", runs=open_at_once)
        (world.folder / "gate").touch()
        self._with_kills(range(kills // 2, kills), self._composed)
        self._until(self._composed, self._count)
        answered = time.monotonic()
        poll(lambda: world.remembered() == 0 or self._composed() < self._count, world.options.quiet_s, 0.2)
        self._end()
        left = world.remembered()
        counts = check({each.token for each in self._load.all}, world.sinks.arrivals, self._logged(), left)
        shown = {
            "runs": self._count,
            "open_at_once": open_at_once,
            **counts,
            "kills": world.kills,
            "cuts": world.counts["cut"],
            "opening_s": round(opened - began, 1),
            "answering_s": round(answered - opened, 1),
            "seconds": round(answered - began, 1),
            "bus_peak_rss_mb": round(self._peak_mb, 1),
            "store": world.options.store,
            "workers": world.options.workers,
            "seed": world.options.seed,
        }
        return Result(shown, world.remarks, world.folder)

    def _with_kills(self, numbers: Iterable[int], progress: Callable[[], int]) -> None:
        """Kill at even steps of the progress."""
        steps = list(numbers)
        for step, number in enumerate(steps, start=1):
            self._until(progress, self._count * step // (len(steps) + 1))
            self._fault(number)

    def _fault(self, number: int) -> None:
        """Two in three times the bus dies, else an agent; now and then connections are cut besides."""
        world = self._world
        if number % 3 == 2:
            name = BRANCHES[number // 3 % len(BRANCHES)]
            world.note("fault", name="agent-kill", agent=name)
            world.agents[name].signal(signal.SIGKILL)
            world.kills += 1
        else:
            bus = world.a_bus()
            self._measure(bus)
            world.note("fault", name="kill")
            bus.signal(signal.SIGKILL)
            world.kills += 1
        if world.chance.random() < 0.3:
            (cut(world) if world.chance.random() < 0.5 else world.agent_wire.cut())
            world.counts["cut"] += 1
        for child in (*world.buses, *world.agents.values()):
            child.wait_ready()

    def _until(self, progress: Callable[[], int], wanted: int) -> None:
        """Wait until so many are done, or nothing moves any more."""
        seen, since = -1, time.monotonic()
        while (done := progress()) < wanted:
            if done != seen:
                seen, since = done, time.monotonic()
            elif time.monotonic() - since > self._world.options.quiet_s:
                self._world.remarks.append(f"it does not get beyond {done}; {wanted} were to come")
                return
            time.sleep(0.05)

    def _composed(self) -> int:
        arrivals = self._world.sinks.arrivals
        new, self._looked = arrivals[self._looked :], len(arrivals)
        self._came.update(str(each.data["run"]) for each in new if each.place == "collector")
        return len(self._came)

    def _open(self) -> int:
        """Runs that the store remembers now."""
        return self._world.remembered("flow:")

    def _logged(self) -> list[str]:
        """Ids of requests and results, as often as a decision has them."""
        found: list[str] = []
        with contextlib.closing(self._world.log()) as store:
            mark, rows = store.after((), 64)
            while rows:
                outputs = [output for row in rows for record in records_of(row) for output in record.outputs]
                found += [each.id for each in outputs if each.kind in ("capability", "event")]
                mark, rows = store.after(mark, 64)
        return found

    def _measure(self, bus: Bus) -> None:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{bus.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self._peak_mb = max(self._peak_mb, int(line.split()[1]) / 1024)

    def _end(self) -> None:
        world = self._world
        for bus in world.buses:
            self._measure(bus)
        for agent in world.agents.values():
            agent.stop()
        for bus in world.buses:
            code = bus.stop()
            if code != 0:
                world.remarks.append(f"{bus.name} ended with {code} at the end")
        world.sinks.stop(TAIL_S)
        self._composed()
