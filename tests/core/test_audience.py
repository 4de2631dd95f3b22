"""Who may get a message: labels stay with it through agents and answers, and count wherever it is handed over."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.config.versions import suits
from bus.core.actions import Decision, Output
from bus.core.audience import unmet
from bus.core.labels import names_of, text_of
from bus.core.leases import lapsed
from bus.core.pipeline import decide
from bus.core.table import RouteTable
from tests.config.written import table
from tests.core.world import FACTS, carried, opened, structured

ANYTHING = "{}"
INTEGRATION = """
integration: shop
types:
  ticket: {contract: any}
  seen: {contract: any}
  noted: {contract: any, unrouted: ok}
labels:
  personal: {requires: {region: [eu, ch]}}
  secret: {requires: {cleared: true}}
  loose: {}
"""
AGENTS = """
agents:
  desk: {adapter: external, publishes: [ticket, seen], attributes: {region: eu}}
  far: {adapter: external, publishes: [ticket], attributes: {region: us}}
  watcher: {adapter: external, subscribes: [seen], attributes: {region: us}}
  one: {adapter: external, capabilities: [sum, ask], version: 1.4.0, attributes: {region: us}}
  two: {adapter: external, capabilities: [sum], version: 2.0.0, publishes: [noted], attributes: {region: [eu, us]}}
  three: {adapter: external, capabilities: [sum], version: 2.3.1, attributes: {region: eu}}
capabilities:
  sum: {request: any.json, reply: any.json, lease: 10s}
  ask: {request: any.json, reply: any.json}
"""
ROUTES = """
route: tickets
match: {type: ticket}
steps: [{label: {add: [personal]}}]
to: {capability: sum}
---
route: noted
match: {type: noted, labels: [personal]}
to: {reply: ok}
"""


def made(folder: Path, routes: str = ROUTES) -> RouteTable:
    return table(folder, integration=INTEGRATION, agents=AGENTS, routes=routes, any__json=ANYTHING)


def asked(shop: RouteTable, type_: str = "ticket", **attributes: Any) -> Decision:
    return decide(structured(type_, {"n": 1}, **attributes), shop, FACTS)


def answered(shop: RouteTable, request: Output, agent: str, type_: str = "sum.replied", **more: Any) -> Decision:
    """An answer that brings back only what it must."""
    given = opened(request)
    back = {"correlationid": given["id"], "replyto": given["replyto"], "conversationid": given["conversationid"]}
    return decide(structured(type_, {"sum": 2}, source=agent, id_="a1", **{**back, **more}), shop, FACTS)


def places(decision: Decision) -> list[str]:
    return [output.target for output in decision.outputs if output.kind != "lease"]


def test_only_agents_that_may_have_it_get_it_and_a_conversation_stays_with_one(tmp_path: Path) -> None:
    shop = made(tmp_path)
    chosen = Counter(places(asked(shop, id_=f"m{number}"))[0] for number in range(200))
    assert chosen.keys() == {"agent:two", "agent:three"}
    assert min(chosen.values()) > 60
    same = {places(asked(shop, id_=f"m{number}", conversationid="c"))[0] for number in range(9)}
    assert len(same) == 1


def test_without_a_rule_the_queue_of_the_capability_takes_it(tmp_path: Path) -> None:
    shop = made(tmp_path, "route: r\nmatch: {type: ticket}\nsteps: [{label: {add: [loose]}}]\nto: {capability: sum}\n")
    decision = asked(shop)
    assert places(decision) == ["capability:sum"]
    assert opened(decision.outputs[0])["labels"] == "loose"


@pytest.mark.parametrize("to", ["{capability: ask}", "{agent: watcher2}", "{event: seen}"])
def test_what_nobody_there_may_have_is_refused_with_what_to_write(tmp_path: Path, to: str) -> None:
    routes = f"route: r\nmatch: {{type: ticket}}\nsteps: [{{label: {{add: [secret, loose]}}}}]\nto: {to}\n"
    agents = AGENTS.replace("agents:\n", "agents:\n  watcher2: {adapter: external, capabilities: [ask]}\n")
    shop = table(tmp_path, integration=INTEGRATION, agents=agents, routes=routes, any__json=ANYTHING)
    decision = asked(shop)
    assert decision.end == "dead_letter"
    assert decision.failure is not None
    assert decision.failure.failure == "refusal"
    assert "lacks `cleared: true`, which the label `secret` requires; write it into its `attributes`" in decision.reason


def test_subscribers_of_a_published_event_are_asked_too(tmp_path: Path) -> None:
    shop = made(tmp_path)
    assert places(asked(shop, "seen", labels="loose")) == ["event:seen"]
    refused = asked(shop, "seen", labels="personal")
    assert places(refused) == ["dead", "agent:desk"]
    assert "agent `watcher` lacks `region: eu or ch`" in refused.reason


def test_an_agent_cannot_shed_labels(tmp_path: Path) -> None:
    shop = made(tmp_path)
    request = asked(shop, replyto="agent:desk").outputs[0]
    assert opened(request)["labels"] == "personal"
    reply = answered(shop, request, request.name)
    assert places(reply) == ["agent:desk"]
    assert opened(reply.outputs[0])["labels"] == "personal"
    more = answered(shop, request, request.name, labels="loose")
    assert opened(more.outputs[0])["labels"] == "loose,personal"
    shed = answered(shop, request, request.name, replyto=opened(request)["replyto"].replace(";personal", ""))
    assert shed.failure is not None
    assert shed.failure.code == "unsolicited-reply"
    again = lapsed(asked(shop, replyto="agent:desk").outputs[1], FACTS, "silent")[1].outputs[0]
    late = answered(shop, again, request.name, fence=1)
    assert opened(late.outputs[0])["labels"] == "personal"


def test_what_is_published_in_the_course_of_a_task_has_its_labels(tmp_path: Path) -> None:
    shop = made(tmp_path)
    request = next(output for number in range(9) if (output := asked(shop, id_=f"m{number}").outputs[0]).name == "two")
    noted = answered(shop, request, "two", "noted")
    assert noted.route == "shop/noted"


def test_an_asker_that_may_not_have_the_answer_is_told_so(tmp_path: Path) -> None:
    shop = made(tmp_path)
    request = asked(shop, source="far", replyto="agent:far").outputs[0]
    refused = answered(shop, request, request.name)
    assert places(refused) == ["dead", "agent:far"]
    told = opened(refused.outputs[1])
    assert told["type"] == "bus.failed"
    assert told["data"]["class"] == "refusal"
    assert "sum" not in told["data"]
    routes = "route: r\nmatch: {type: ticket}\nsteps: [{label: {add: [personal]}}]\nto: {reply: ok}\n"
    refused = asked(made(tmp_path, routes), source="far", replyto="agent:far")
    assert (places(refused), "agent `far` lacks" in refused.reason) == (["dead", "agent:far"], True)


def test_clients_of_the_gateway_are_no_agents(tmp_path: Path) -> None:
    entry = 'gateway: {tickets: {http: "POST /tickets", type: ticket, wait: 5s}}\n'
    shop = table(tmp_path, integration=INTEGRATION + entry, agents=AGENTS, routes=ROUTES, any__json=ANYTHING)
    request = asked(shop, source="gateway", replyto="agent:gateway").outputs[0]
    assert opened(request)["labels"] == "personal"
    assert places(answered(shop, request, request.name)) == ["agent:gateway"]


def test_labels_can_be_removed_and_read(tmp_path: Path) -> None:
    shop = made(
        tmp_path,
        """
route: r
match: {type: ticket}
steps:
- label: {add: [personal, loose], remove: [secret]}
- wire_tap: {event: noted, data: "{{ msg.labels }}"}
- label: {remove: [personal]}
- wire_tap: {capability: ask}
- label: {remove: [loose]}
to: {capability: ask}
---
route: noted
match: {type: noted}
to: {reply: ok}
""",
    )
    tap, request, bare = asked(shop, labels="secret").outputs
    assert (opened(tap)["data"], opened(tap)["labels"]) == ("loose,personal", "loose,personal")
    assert opened(request)["labels"] == "loose"
    assert "labels" not in opened(bare)


def test_a_redriven_request_goes_only_to_who_may_have_it(tmp_path: Path) -> None:
    shop = made(tmp_path)
    request = carried(asked(shop, replyto="agent:desk").outputs[0])
    event = opened(asked(shop, replyto="agent:desk").outputs[0]) | {"redrive": 1}
    del event["data"]
    again = structured(event.pop("type"), {"n": 1}, source=event.pop("source"), id_=event.pop("id"), **event)
    decision = decide(again._replace(user_id="bus"), shop, FACTS)
    assert request.body
    assert places(decision)[0] in ("agent:two", "agent:three")


@pytest.mark.parametrize("labels", ["Personal", "a,,b", "a b", ",".join(f"l{n}" for n in range(33)), 7])
def test_labels_of_a_sender_are_checked(tmp_path: Path, labels: Any) -> None:
    refused = asked(made(tmp_path), labels=labels)
    assert (refused.end, refused.failure and refused.failure.code) == ("invalid", "bad-attribute")


@pytest.mark.parametrize(
    ("chooser", "reached"),
    [
        ("version: ^2", {"agent:two", "agent:three"}),
        ("version: 2.3", {"agent:three"}),
        ("where: {region: us}", {"agent:one", "agent:two"}),
        ("version: ^2, where: {region: us}", {"agent:two"}),
        ("where: {region: [us, eu]}", {"capability:sum"}),
    ],
)
def test_a_target_chooses_among_the_agents_of_a_capability(tmp_path: Path, chooser: str, reached: set[str]) -> None:
    shop = made(tmp_path, f"route: r\nmatch: {{type: ticket}}\nto: {{capability: sum, {chooser}}}\n")
    assert {places(asked(shop, id_=f"m{number}"))[0] for number in range(40)} == reached
    labelled = {places(asked(shop, id_=f"m{number}", labels="personal"))[0] for number in range(40)}
    assert labelled == (reached - {"agent:one"} if reached != {"capability:sum"} else {"agent:two", "agent:three"})


def test_the_message_names_a_target_only_out_of_allow(tmp_path: Path) -> None:
    routes = """
route: r
match: {type: ticket}
to: {capability: "{{ data.skill }}", allow: [sum, ask], data: {n: 1}}
"""
    shop = made(tmp_path, routes)
    for name, end in (("sum", "routed"), ("ask", "routed"), ("bus", "dead_letter"), (3, "dead_letter")):
        decision = decide(structured("ticket", {"skill": name}, replyto="agent:desk"), shop, FACTS)
        assert decision.end == end
        if end == "routed":
            assert places(decision) == [f"capability:{name}"]
            assert opened(decision.outputs[0])["type"] == f"{name}.requested"
        else:
            assert decision.reason == f"target `{name}` is not in `allow`: sum, ask"


@pytest.mark.parametrize(
    ("version", "text", "suited"),
    [
        ("2", "^2", True), ("2.9.9", "^2", True), ("3.0.0", "^2", False), ("1.9.9", "^2", False),
        ("2.0.9", "^2.1", False), ("2.1", "^2.1.0", True), ("0.3.4", "^0.3", True), ("0.4.0", "^0.3", False),
        ("0.3.0", "^0.3.1", False), ("2.1.7", "2.1", True), ("2.1.7", "2.1.0", False), ("", "^0", False),
        ("new", "^1", False),
    ],
)  # fmt: skip
def test_versions(version: str, text: str, suited: bool) -> None:
    assert suits(version, text) is suited


NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)


@given(st.lists(NAMES, max_size=20))
def test_labels_are_a_set(names: list[str]) -> None:
    text = text_of(names)
    assert names_of(text) == tuple(sorted(set(names)))
    assert text_of(reversed(names)) == text


@pytest.mark.parametrize(
    ("has", "wanted", "lacks"),
    [
        ({"region": "eu"}, {"region": "eu"}, ""),
        ({"region": ["us", "eu"]}, {"region": "eu"}, ""),
        ({"region": "eu"}, {"region": ["us", "eu"]}, ""),
        ({"region": "eu", "gpu": False}, {"region": "eu", "gpu": True}, "gpu: true"),
        ({}, {"region": ["us", "eu"]}, "region: us or eu"),
        ({"region": []}, {"region": "eu"}, "region: eu"),
    ],
)
def test_attributes(has: Any, wanted: Any, lacks: str) -> None:
    assert unmet(has, wanted) == lacks
