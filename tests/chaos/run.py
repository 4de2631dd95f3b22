"""One run: load, faults, drain, checks."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bus.core.errors import BusError
from bus.shell.history import History
from tests.chaos.check import Verdict, check, summary, swapped_pairs
from tests.chaos.children import PATIENCE_S, poll
from tests.chaos.faults import FAULTS
from tests.chaos.faults.stores import UNREACHABLE
from tests.chaos.log import content_of, read_log
from tests.chaos.node import Node
from tests.chaos.options import Options
from tests.chaos.takeover import quantile_ms, takeovers
from tests.chaos.tally import Tally
from tests.chaos.world import World

WARM_S = 1.0  # load before the first fault
DRAIN_S = 900.0  # held outputs are retried after five minutes at most
FENCED = "was claimed by another owner; nothing was written"  # as a worker that is late says it
ENDING_S = 30.0  # for runs that nothing more is expected of: of an input that was never confirmed, for one
TAIL_S = 1.5  # after the bus has ended: what it published last is still on its way to the sinks


@dataclass(slots=True)
class Report:
    """What a run found. `shown` is what is printed."""

    verdict: Verdict
    shown: dict[str, Any]
    examples: dict[str, list[str]]
    evidence: Path
    good: bool
    remarks: list[str] = field(default_factory=list)


def run(options: Options, node: Node | None = None) -> Report:
    """Run the world through its faults and judge what is left.

    Args:
        options: of the run.
        node: one that runs already, and may be killed; None starts one unless the options name a broker.

    Evidence lies in `options.keep`, or in a folder that is removed when all is well.
    """
    folder = options.keep or Path(tempfile.mkdtemp(prefix=f"agentbus-chaos-{options.seed}-"))
    folder.mkdir(parents=True, exist_ok=True)
    tally = Tally()
    with World(options, folder, node) as world:
        for producer in world.producers:
            producer.start()
        time.sleep(WARM_S)
        try:
            _faults(world)
        finally:
            world.mend()
        _drain(world, tally)
        report = _judge(world, tally)
        if world.database is not None and not (report.good and options.keep is None):
            world.database.save(folder)
    _keep(report, tally, world)
    if report.good and options.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _faults(world: World) -> None:
    options = world.options
    names = [name for name in options.faults if FAULTS[name].weight and FAULTS[name].needs <= world.has]
    weights = [FAULTS[name].weight for name in names]
    deadline = time.monotonic() + options.minutes * 60
    while names and world.kills < options.kills and time.monotonic() < deadline:
        time.sleep(world.chance.uniform(*options.pause_s))
        (name,) = world.chance.choices(names, weights)
        world.note("fault", name=name)
        began = time.monotonic()
        FAULTS[name].inject(world)
        world.counts[name] += 1
        world.note("lifted", name=name, seconds=round(time.monotonic() - began, 3), arrivals=len(world.sinks.arrivals))
    if not names:
        time.sleep(max(0.0, deadline - time.monotonic()))
    if world.kills < options.kills and any("kill" in name for name in names):
        world.remarks.append(
            f"{world.kills} kills of {options.kills} in the {options.minutes:g} minutes that faults had"
        )


def _drain(world: World, tally: Tally) -> None:
    """Stop the load, let everything end, and stop the bus."""
    world.note("drain")
    world.drain_s = time.time()
    for producer in world.producers:
        if not producer.finish(PATIENCE_S):
            world.remarks.append("a producer did not get all its confirms")
        tally.expect(producer.confirmed)
        for sent in producer.unconfirmed:
            tally.know(sent)
    swapped = swapped_pairs(tally, _refused(world))
    tally.unmet = {each for each in tally.unmet if each[0] not in swapped}
    taken, last, deadline = 0, time.monotonic(), time.monotonic() + DRAIN_S
    while True:
        effects = world.effects.new()
        tally.performed(effects)
        arrivals = world.sinks.arrivals[taken:]
        taken += len(arrivals)
        tally.arrived(arrivals)
        now = time.monotonic()
        if effects or arrivals:
            last = now
        if not tally.unmet or now > deadline or (now - last > world.options.quiet_s and not _held(world, tally)):
            break
        time.sleep(0.1)
    poll(lambda: world.remembered() == 0, ENDING_S, 0.2)
    world.note("drained", unmet=len(tally.unmet), remembered=world.remembered())
    for bus in world.buses:
        code = bus.stop()
        if code != 0:
            world.remarks.append(f"{bus.name} ended with {code} at the end")
    world.sinks.stop(TAIL_S)
    for agent in world.agents.values():
        agent.stop()
    tally.arrived(world.sinks.arrivals[taken:])
    tally.performed(world.effects.new())


def _held(world: World, tally: Tally) -> bool:
    """Whether something that is missing waits in the store for its next try."""
    history = History(world.log())
    try:
        wanted = {content_of(tally.sent[token].body) for token, _ in tally.unmet}
        records, tail = [], history.tail(None)
        while found := tail.read():
            records += [each for each in found if each.content in wanted and each.outputs]
        return any(fate.how == "held" for fate in history.fates(records[:2000]).values())
    except BusError:
        return False
    finally:
        history.close()


def _judge(world: World, tally: Tally) -> Report:
    store = world.log()
    try:
        log = read_log(store)
    finally:
        store.close()
    verdict = check(tally, log, _refused(world), world.remembered())
    died_s = [each.at_s for bus in world.buses for each in bus.ends if each.ready and each.at_s < world.drain_s]
    taken = takeovers(died_s, {partition: sorted(times) for partition, times in log.decided_s.items()})
    for each in taken:
        world.note("takeover", **each._asdict())
    surprises = [each for child in (*world.buses, *world.agents.values()) for each in child.ends if not each.asked]
    if surprises:
        world.remarks.append(
            f"{len(surprises)} processes ended by themselves, codes {[s.code for s in surprises][:20]}"
        )
    crashed = sum(1 for bus in world.buses for each in bus.ends if not each.asked and each.code != UNREACHABLE)
    accepted = world.counts.pop("second-store accepted", 0)
    shown = {
        **summary(tally),
        **verdict.counts,
        "kills": world.kills,
        "takeover_p50_ms": quantile_ms(taken, 0.5),
        "takeover_p99_ms": quantile_ms(taken, 0.99),
        "fenced": sum(bus.log.read_text(errors="replace").count(FENCED) for bus in world.buses),
        "faults": dict(sorted(world.counts.items())),
        "ends": dict(sorted(log.ends.items())),
        "crashed": crashed,
        "stores_accepted": accepted,
        "refused": len(_refused(world)),
        "seed": world.options.seed,
    }
    return Report(
        verdict,
        shown,
        dict(verdict.examples),
        world.folder,
        verdict.good and not accepted and not crashed and bool(tally.confirmed),
        world.remarks,
    )


def _refused(world: World) -> set[str]:
    return {token for producer in world.producers for token in producer.nacked}


def _keep(report: Report, tally: Tally, world: World) -> None:
    """Write what was sent and seen beside the logs and the store."""
    with (world.folder / "sent.jsonl").open("wb") as file:
        for sent in tally.sent.values():
            line = {"token": sent.token, "id": sent.id, "kind": sent.kind, "conversation": sent.conversation,
                    "end": sent.end, "places": [each.place for each in sent.expected],
                    "confirmed": sent.token in tally.confirmed, "content": content_of(sent.body)}  # fmt: skip
            file.write(orjson.dumps(line) + b"\n")
    with (world.folder / "seen.jsonl").open("wb") as file:
        file.writelines(orjson.dumps(sight._asdict()) + b"\n" for sight in tally.sights)
    whole = {**report.shown, "examples": report.examples, "remarks": report.remarks}
    (world.folder / "verdict.json").write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
