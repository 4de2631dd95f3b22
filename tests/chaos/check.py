"""The checks: sets against sets, and nothing else. Every count comes with examples.

    lost                a confirmed input has no end in the log, or no end at one of its targets
    duplicated_effects  one input was worked on twice: two ids for it at one place, two contents under one id, two
                        decisions, a target that it must not reach, a handler called twice for one id in one life, or
                        a request that came again and was worked on without the bus's word
    order_violations    the first delivery of a later input came before the first of an earlier one, same conversation
                        and place; or a run began while another one of its key was under way
    audit_missing       something was delivered that the log does not hold just so, or the log holds an output that is
                        nowhere
    set_aside           an input that should have been delivered is a dead letter
    left_remembered     something is still remembered though every run is over

`repeats` are second deliveries of one id: the receiver drops them, so they are no fault.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from tests.chaos.load import REUSED_KIND
from tests.chaos.log import Log, content_of
from tests.chaos.tally import ASIDE, Sight, Tally

EXAMPLES = 8
COUNTERS = ("lost", "duplicated_effects", "order_violations", "audit_missing", "set_aside", "left_remembered")


@dataclass(slots=True)
class Verdict:
    """Counts by name, and some examples of each."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, counter: str, example: str, count: int = 1) -> None:
        """Count a violation."""
        self.counts[counter] += count
        if len(self.examples[counter]) < EXAMPLES:
            self.examples[counter].append(example)

    @property
    def good(self) -> bool:
        """Whether nothing was violated."""
        return not any(self.counts.values())


def check(tally: Tally, log: Log, refused: set[str], left: int = 0) -> Verdict:
    """Compare what was sent, what was seen and what the log says.

    Args:
        refused: tokens that the ingress refused at first: others may have come before them.
        left: rows that are remembered at the end.
    """
    verdict = Verdict()
    seen = tally.by_place()
    swapped = swapped_pairs(tally, refused)
    _check_ends(tally, log, seen, swapped, verdict)
    _check_effects(tally, seen, swapped, verdict)
    _check_claims(tally, log, verdict)
    _check_order(tally, refused, verdict)
    _check_log(tally, log, verdict)
    _check_turns(log, verdict)
    if left:
        verdict.add("left_remembered", f"{left} rows of runs, or of what they share", left)
    return verdict


def swapped_pairs(tally: Tally, refused: set[str]) -> set[str]:
    """Inputs of which the other user of their id may have come first: then that one is good, and this one is not."""
    pairs = [(each.id, each.token) for each in tally.sent.values() if each.kind == REUSED_KIND]
    return {token for pair in pairs if not refused.isdisjoint(pair) for token in pair}


def _check_ends(
    tally: Tally, log: Log, seen: dict[tuple[str, str], list[Sight]], swapped: set[str], verdict: Verdict
) -> None:
    for token in sorted(tally.confirmed - swapped):
        sent = tally.sent[token]
        decided = log.decided.get(content_of(sent.body), [])
        if not decided:
            verdict.add("lost", f"{token} ({sent.kind}, {sent.conversation}): the log has no end of it")
        elif len(decided) > 1:
            numbers = ", ".join(f"{each.partition}/{each.seq} {each.end}" for each in decided)
            verdict.add("duplicated_effects", f"{token} ({sent.kind}): decided more than once: {numbers}")
        elif decided[0].end != sent.end and (token, "dead") not in seen:
            verdict.add("lost", f"{token} ({sent.kind}): ended as {decided[0].end}, not {sent.end}")
        missing = [each.place for each in sent.expected if (token, each.place) not in seen]
        aside = (token, "dead") in seen and all(each.place != "dead" for each in sent.expected)
        if missing and not aside:
            verdict.add(
                "lost", f"{token} ({sent.kind}, {sent.conversation}): never at {', '.join(missing)}", len(missing)
            )
        if aside:
            verdict.add("set_aside", f"{token} ({sent.kind}, {sent.conversation}): a dead letter")
        if aside and not missing:
            verdict.add("duplicated_effects", f"{token} ({sent.kind}): delivered, and a dead letter besides")


def _check_effects(tally: Tally, seen: dict[tuple[str, str], list[Sight]], swapped: set[str], verdict: Verdict) -> None:
    for (token, place), sights in seen.items():
        ids = {each.id for each in sights}
        sent = tally.sent.get(token)
        often = sent is not None and any(each.place == place and each.often for each in sent.expected)
        if token and len(ids) > 1 and not often:
            verdict.add(
                "duplicated_effects", f"{token} came to {place} under {len(ids)} ids: {sorted(ids)}", len(ids) - 1
            )
        contents = {(each.id, each.digest) for each in sights}
        if len(contents) > len(ids):
            verdict.add("duplicated_effects", f"{token} at {place}: one id, different contents: {sorted(contents)}")
        lives = [(each.id, each.life) for each in sights if each.life]
        if len(lives) > len(set(lives)):
            verdict.add("duplicated_effects", f"{token}: {place} was called twice for one id by the same process")
        wanted = sent is not None and any(each.place == place for each in sent.expected)
        if not wanted and place != "dead" and token not in swapped:
            kind = "nothing of ours" if sent is None else sent.kind
            verdict.add("duplicated_effects", f"{token or sights[0].id} ({kind}) came to {place}, where it must not")


def _check_claims(tally: Tally, log: Log, verdict: Verdict) -> None:
    for id_, agent in sorted(tally.reworked - log.go):
        verdict.add("duplicated_effects", f"{agent} worked on {id_} for the second time without asking")
    for id_ in sorted(log.late_go):
        verdict.add("duplicated_effects", f"{id_} was answered, and the bus let an agent work on it again")


def _check_order(tally: Tally, refused: set[str], verdict: Verdict) -> None:
    highest: dict[tuple[str, str], tuple[int, str]] = {}
    first: set[tuple[str, str]] = set()
    for sight in tally.sights:
        sent = tally.sent.get(sight.token)
        if sent is None or (sight.token, sight.place) in first or sight.token in refused:
            continue
        first.add((sight.token, sight.place))
        if not any(each.place == sight.place and each.ordered for each in sent.expected):
            continue
        key = sent.conversation, sight.place
        before = highest.get(key, (0, ""))
        if sent.number < before[0]:
            if sight.again:
                continue  # it was given out in time, to a connection that died; what is given back comes after others
            verdict.add(
                "order_violations", f"{sight.token} came to {sight.place} after {before[1]}, {sent.conversation}"
            )
        else:
            highest[key] = sent.number, sight.token


def _check_log(tally: Tally, log: Log, verdict: Verdict) -> None:
    recorded: dict[tuple[str, str], set[str]] = defaultdict(set)
    arrived = {(each.place, each.id) for each in tally.sights}
    for output in log.published:
        for place in output.places:
            recorded[place, output.id].add(output.digest)
            there = output.id in log.inputs if place == "ingress" else (place, output.id) in arrived
            if not (there or output.where in log.elsewhere or output.id in log.bounced):
                verdict.add("audit_missing", f"output {output.id} for {place}, number {output.where}, is nowhere")
    for place, id_, digest, token in sorted({(s.place, s.id, s.digest, s.token) for s in tally.sights}):
        known = recorded.get((place, id_))
        if known is None:
            verdict.add("audit_missing", f"{id_} ({token}) came to {place}, and no record has it")
        elif digest not in known:
            verdict.add("audit_missing", f"{id_} ({token}) came to {place} with another content than is recorded")


def _check_turns(log: Log, verdict: Verdict) -> None:
    """A key's runs follow each other: each ends before the next one begins."""
    for key, turns in log.turns.items():
        open_ = ""
        for turn in sorted(turns):
            if turn.token != open_ if turn.ends else open_:
                verdict.add("order_violations", f"{turn.token} and {open_ or 'nothing'} at the same time, key {key}")
            open_ = "" if turn.ends else turn.token


def summary(tally: Tally) -> dict[str, int]:
    """Counts of what went well: confirmed inputs, and the ends that were seen."""
    seen = tally.by_place()
    delivered = sum(1 for token, place in seen if token in tally.confirmed and place not in ASIDE)
    return {
        "confirmed": len(tally.confirmed),
        "delivered": delivered,
        "dead_lettered": sum(1 for _, place in seen if place == "dead"),
        "invalid": sum(1 for _, place in seen if place == "invalid"),
        "repeats": len(tally.sights) - len({(each.place, each.id) for each in tally.sights}),
    }
