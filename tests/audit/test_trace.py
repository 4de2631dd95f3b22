"""A conversation's tree shows who caused what, what became of it, and what took how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from bus.audit.record import OutputNote, Record
from bus.audit.trace import PENDING, Fate, Node, trace_tree


def record(seq: int, name: str, *sends: tuple[str, str], cause: str | None = None, at_s: float = 0.0) -> Record:
    """A record at `at_s` that was decided a second later and sends (`kind:name`, id)."""
    pairs = [(*target.split(":"), output) for target, output in sends]
    outputs = tuple([OutputNote(kind, name_, output, "t") for kind, name_, output in pairs])
    return Record(
        partition=0, seq=seq, received_s=at_s, decided_s=at_s + 1, end="routed", reason="", config="c", queue="q",
        content="", size=0, decoded=True, id=name, source="a", type="t", conversation="c", correlation=cause,
        causation=cause, outputs=outputs,
    )  # fmt: skip


def shape(nodes: Sequence[Node]) -> list[object]:
    """Ids only: [id, {output id: [...]}, [effects]]."""
    return [[n.record.id, {leg.output.id: shape(leg.answers) for leg in n.legs}, shape(n.effects)] for n in nodes]


SCATTERED = [
    record(1, "ask", ("capability:intent", "r1"), ("capability:mood", "r2"), at_s=10.0),
    record(2, "a2", ("agent:composer", "e2"), cause="r2", at_s=12.0),
    record(3, "a1", ("agent:composer", "e1"), cause="r1", at_s=15.0),
    record(4, "answer", ("client:cli", "back"), cause="e1", at_s=17.0),
]


def test_replies_stand_under_the_request_that_asked_for_them() -> None:
    answer = ["answer", {"back": []}, []]
    assert shape(trace_tree(SCATTERED, {})) == [
        ["ask", {"r1": [["a1", {"e1": [answer]}, []]], "r2": [["a2", {"e2": []}, []]]}, []]
    ]


def test_times_and_fates() -> None:
    fate = Fate("returned", "no such client", 18.0)
    (root,) = trace_tree(SCATTERED, {(0, 1, 0): Fate("delivered"), (0, 4, 0): fate})
    assert (root.hop_s, root.agent_s) == (1.0, None)
    assert [leg.fate for leg in root.legs] == [Fate("delivered"), PENDING]
    reply = root.legs[0].answers[0]
    assert reply.agent_s == 4.0  # decided at 11, answered at 15
    assert reply.legs[0].answers[0].legs[0].fate == fate


def test_a_message_that_reenters_the_bus_stands_under_its_output_and_its_effects_under_it() -> None:
    records = [
        record(1, "m", ("ingress:", "again")),
        record(2, "again", ("event:order.paid", "e")),
        record(3, "late", cause="again"),
        record(4, "next", cause="e"),
    ]
    assert shape(trace_tree(records, {})) == [
        ["m", {"again": [["again", {"e": [["next", {}, []]]}, [["late", {}, []]]]]}, []]
    ]


def test_an_event_passed_on_under_its_own_id_is_not_its_own_child() -> None:
    records = [record(1, "e", ("event:order.paid", "e")), record(2, "r", cause="e"), record(3, "e")]
    assert shape(trace_tree(records, {})) == [["e", {"e": [["r", {}, []], ["e", {}, []]]}, []]]


def test_a_repeat_stands_under_the_first_and_strangers_are_roots() -> None:
    records = [record(1, "m"), record(2, "m"), record(3, "x", cause="elsewhere"), record(4, ""), record(5, "")]
    assert shape(trace_tree(records, {})) == [
        ["m", {}, [["m", {}, []]]], ["x", {}, []], ["", {}, []], ["", {}, []]
    ]  # fmt: skip


def test_a_long_chain_needs_no_deep_stack() -> None:
    chain = [record(seq, f"m{seq}", cause=f"m{seq - 1}") for seq in range(1, 5001)]
    (node,) = trace_tree(chain, {})
    depth = 1
    while node.effects:
        (node,) = node.effects
        depth += 1
    assert depth == 5000


IDS = st.sampled_from("abcd")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(IDS, st.none() | IDS, st.none() | IDS, st.lists(IDS, max_size=2)), max_size=12))
def test_every_record_stands_in_the_tree_once_whatever_agents_claim(
    claims: list[tuple[str, str | None, str | None, list[str]]],
) -> None:
    records = [
        replace(record(seq, name, *[("agent:x", each) for each in sends]), causation=cause, correlation=request)
        for seq, (name, cause, request, sends) in enumerate(claims, 1)
    ]
    todo, seen = trace_tree(records, {}), list[int]()
    while todo:
        node = todo.pop()
        seen.append(node.record.seq)
        todo += [*node.effects, *[each for leg in node.legs for each in leg.answers]]
    assert sorted(seen) == [each.seq for each in records]
