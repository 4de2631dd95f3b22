"""The checks on small sets made by hand: each kind of fault turns its own counter, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bus.audit.record import Record
from tests.chaos.check import check
from tests.chaos.effects import Effect
from tests.chaos.load import Expected, Mix, Sent
from tests.chaos.log import Log, Published, Turn, content_of
from tests.chaos.takeover import quantile_ms, takeovers
from tests.chaos.tally import Sight, Tally


def sent(number: int) -> Sent:
    token = f"t{number}"
    return Sent(token, token, "c", "c", number, "order", token.encode(), "routed", (Expected("fast"),))


def record(number: int, seq: int, end: str = "routed") -> Record:
    token = f"t{number}"
    content = content_of(token.encode())
    return Record(
        0, seq, 0.0, 0.0, end, "", "v", "ns.ingress.00", content, 2, True, token, "producer", "chaos.order", "c"
    )


def sight(number: int, id_: str = "", digest: str = "d", place: str = "fast", life: str = "") -> Sight:
    return Sight(f"t{number}", place, id_ or f"out-{number}", digest, life)


def judged(sights: Sequence[Sight], records: Sequence[Record], outputs: Sequence[int] = (1, 2, 3)) -> dict[str, int]:
    tally, log = Tally(), Log()
    tally.expect(sent(number) for number in (1, 2, 3))
    tally.sights += sights
    for each in records:
        log.decided[each.content].append(each)
    log.published += [Published((0, number, 0), f"out-{number}", ("fast",), "d") for number in outputs]
    return {name: count for name, count in check(tally, log, set()).counts.items() if count}


DECIDED = [record(number, number) for number in (1, 2, 3)]
SEEN = [sight(number) for number in (1, 2, 3)]


def test_all_is_well() -> None:
    assert judged(SEEN, DECIDED) == {}


def test_a_second_delivery_of_one_id_is_no_fault() -> None:
    assert judged([*SEEN, SEEN[0]], DECIDED) == {}


def test_what_comes_late_is_a_fault_unless_it_was_given_to_a_connection_that_died() -> None:
    late = [SEEN[1], SEEN[0], SEEN[2]]
    assert judged(late, DECIDED) == {"order_violations": 1}
    assert judged([SEEN[1], SEEN[0]._replace(again=True), SEEN[2]], DECIDED) == {}


def test_an_input_that_is_nowhere() -> None:
    assert judged(SEEN[:2], DECIDED) == {"lost": 1, "audit_missing": 1}


def test_an_input_without_an_end() -> None:
    assert judged(SEEN, DECIDED[:2]) == {"lost": 1}


def test_an_input_that_was_decided_twice() -> None:
    assert judged(SEEN, [*DECIDED, record(1, 9)]) == {"duplicated_effects": 1}


def test_an_effect_under_two_ids() -> None:
    assert judged([*SEEN, sight(1, "out-4")], DECIDED) == {"duplicated_effects": 1, "audit_missing": 1}


def test_one_id_with_two_contents() -> None:
    assert judged([*SEEN, sight(1, digest="other")], DECIDED) == {"duplicated_effects": 1, "audit_missing": 1}


def test_a_handler_that_one_process_called_twice() -> None:
    twice = [sight(1, life="pid"), sight(1, life="pid"), *SEEN[1:]]
    assert judged(twice, DECIDED) == {"duplicated_effects": 1}
    assert judged([sight(1, life="pid"), sight(1, life="other"), *SEEN[1:]], DECIDED) == {}


def test_a_request_that_was_worked_on_again_without_asking_or_after_its_answer() -> None:
    tally, log = Tally(), Log()
    tally.performed([Effect("work", "t1", 1, "r1", "d", "worker_one/7/1.0", "again", redelivered=True)])
    counts = check(tally, log, set()).counts
    log.go.add(("r1", "worker_one"))
    assert counts["duplicated_effects"] - check(tally, log, set()).counts["duplicated_effects"] == 1
    log.late_go.add("r1")
    assert check(tally, log, set()).counts["duplicated_effects"] == counts["duplicated_effects"]


def test_a_place_that_it_must_not_reach() -> None:
    assert judged([*SEEN, sight(1, place="slow")], DECIDED) == {"duplicated_effects": 1, "audit_missing": 1}


def test_a_dead_letter_that_should_have_been_delivered() -> None:
    assert judged([sight(1, "t1", place="dead"), *SEEN[1:]], DECIDED, (2, 3)) == {"set_aside": 1, "audit_missing": 1}


def test_a_later_one_that_comes_first() -> None:
    assert judged([SEEN[0], SEEN[2], SEEN[1]], DECIDED) == {"order_violations": 1}


def test_two_runs_of_a_key_at_the_same_time() -> None:
    def turns(*marks: str) -> dict[str, int]:
        log = Log()
        log.turns["k"] = [Turn((0, at, 0), mark.rstrip("."), mark.endswith(".")) for at, mark in enumerate(marks)]
        return {name: count for name, count in check(Tally(), log, set()).counts.items() if count}

    assert turns("a", "a.", "b", "b.") == {}
    assert turns("a", "b", "a.", "b.")["order_violations"] > 0


def test_more_than_one_message_comes_where_that_may_be() -> None:
    tally, log = Tally(), Log()
    tally.expect([replace(sent(1), expected=(Expected("fast", often=True),))])
    tally.sights += [sight(1), sight(1, "out-4")]
    assert check(tally, log, set()).counts["duplicated_effects"] == 0


def test_what_is_remembered_at_the_end() -> None:
    assert check(Tally(), Log(), set(), left=2).counts["left_remembered"] == 2


def test_a_delivery_without_a_record_and_a_record_without_a_delivery() -> None:
    assert judged(SEEN, DECIDED, (1, 2)) == {"audit_missing": 1}
    assert judged(SEEN, DECIDED, (1, 2, 3, 4)) == {"audit_missing": 1}


def test_a_takeover_lasts_until_the_last_partition_decides_again() -> None:
    # Partition 2 has nothing more to do, 3 is not served before the last of them, 4 was retired long ago.
    decided = {0: [1.0, 2.0, 2.1, 9.0], 1: [1.9, 5.0], 2: [1.5], 3: [30.0], 4: [-40.0, 50.0]}
    found = takeovers([2.0, 4.0, 10.0], decided)
    assert found == [(3.0, 2.0, 1), (5.0, 4.0, 0)]
    assert quantile_ms(found, 0.4) == 3000
    assert quantile_ms(found, 0.5) == quantile_ms(found, 0.99) == 5000
    assert quantile_ms([], 0.5) is None


def test_a_seed_gives_the_same_load_and_another_one_another() -> None:
    def drawn(seed: int) -> list[Sent]:
        mix = Mix(seed, "p", 4)
        return [mix.next() for _ in range(500)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len({each.kind for each in drawn(1)}) >= 12
