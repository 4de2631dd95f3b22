"""Loading: folders to a catalog that the core can run, and no text that makes it raise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.config import load
from bus.config.interpolate import fill
from bus.core.registry import STEPS
from bus.core.route import Catalog
from bus.core.work import Flow
from tests.config.corpus_cases import CORPUS, lay_out


def catalog(*folders: Path, environment: dict[str, str] | None = None) -> Catalog:
    loaded = load(folders, environment or {}, STEPS)
    assert loaded.catalog is not None, [str(each) for each in loaded.findings]
    return loaded.catalog


def write(root: Path, **files: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / f"{name}.yaml").write_text(text, encoding="utf-8")
    return root


TYPES = "integration: x\ntypes: {a.b: {contract: any}, a.c: {contract: any, unrouted: ok}}\n"
PING = "route: ping\nmatch: {type: a.b}\nto: {event: a.c}\n"


def test_a_catalog_has_everything_that_is_declared(tmp_path: Path) -> None:
    found = catalog(lay_out("", tmp_path))
    assert set(found.agents) == {"clerk", "checker", "pricer", "ledger"}
    assert found.agents["pricer"].concurrency == 4
    assert found.agents["pricer"].timeout_s == 5.0
    assert found.capabilities["check"].idempotent
    assert [found.capabilities[name].lease_s for name in ("check", "price")] == [None, 120]
    assert found.capabilities["check"].request.check({"text": 1})[0].pointer == "/text"
    assert found.types["order.placed"].contract is not None
    assert found.types["mail.in"].contract is None
    assert found.types["mail.out"].unrouted
    (route,) = found.routes
    assert (route.name, route.deadline_s) == ("shop/sound", 30.0)
    assert route.where.endswith("shop/sound.yaml:1")
    assert dict(route.config) == {"limit": 100.0, "desk": "front"}


def test_targets_know_their_type_contract_and_listeners(tmp_path: Path) -> None:
    (route,) = catalog(lay_out("", tmp_path)).routes
    (target,) = route.flow.to
    assert (target.kind, target.name, target.type) == ("capability", "check", "check.requested")
    assert target.contract is not None
    assert target.contract.check({}) != ()
    root = write(
        tmp_path / "x",
        x=TYPES + "---\n" + PING + "---\nroute: pong\nmatch: {type: a.c}\nto: {event: a.b}\n",
        agents="agents: {s: {adapter: external, subscribes: [a.b]}}\n",
    )
    ping, pong = catalog(root).routes
    assert (ping.flow.to[0].to_route, ping.flow.to[0].to_subscribers) == (True, False)
    assert (pong.flow.to[0].to_route, pong.flow.to[0].to_subscribers) == (True, True)


def test_a_pinned_agent_gets_requests_of_its_one_capability(tmp_path: Path) -> None:
    root = lay_out("", tmp_path)
    write(root, pinned="route: p\nmatch: {type: order.changed}\nto: {agent: checker, data: {text: x}}\n")
    route = next(each for each in catalog(root).routes if each.name == "shop/p")
    assert (route.flow.to[0].name, route.flow.to[0].type) == ("checker", "check.requested")


def test_steps_are_compiled_in_order_and_have_ids(tmp_path: Path) -> None:
    (route,) = catalog(lay_out("", tmp_path)).routes
    assert [each.id for each in route.flow.steps] == ["set#1", "render#1", "choose#1", "filter#1", "recipient_list#1"]
    assert route.flow.steps[3].when is not None
    assert [rule.classes for rule in route.on_error] == [("contract",), ("timeout", "unavailable")]
    assert isinstance(route.on_error[0].then, Flow)
    assert route.on_error[1].then == "dead_letter"


def test_secrets_reach_settings_and_neither_version_nor_findings(tmp_path: Path) -> None:
    text = (
        "agents:\n  s: {adapter: stdio, command: [run, '--key=${KEY}', '${PORT:-80}', '${file:%s}'],"
        " concurrency: '${N}', env: [HOME], restart: {attempts: 3, initial: 500ms}}\n"
    )
    secret = tmp_path / "secret"
    secret.write_text("from a file\n", encoding="utf-8")
    root = write(tmp_path / "x", a=text % secret)
    one = catalog(root, environment={"KEY": "k1", "N": "3"})
    agent = one.agents["s"]
    assert dict(agent.settings) == {
        "command": ["run", "--key=k1", "80", "from a file"],
        "env": ["HOME"],
        "restart": {"attempts": 3, "initial": 0.5},
    }
    assert agent.concurrency == 3
    assert agent.folder == str(root.resolve())
    assert catalog(root, environment={"KEY": "k2", "N": "3"}).version == one.version
    assert "k1" not in "".join(map(str, load([root], {"KEY": "k1", "N": "none k1"}, STEPS).findings))


def test_config_comes_from_the_environment_in_its_type(tmp_path: Path) -> None:
    config = "config: {n: {type: integer, env: N, default: 1}, b: {type: boolean, env: B, default: false}}\n"
    root = write(tmp_path / "x", a=TYPES + config, b=PING)
    assert dict(catalog(root, environment={"N": "7", "B": "true"}).routes[0].config) == {"n": 7, "b": True}
    assert dict(catalog(root).routes[0].config) == {"n": 1, "b": False}


def test_the_version_follows_every_file_and_not_the_place(tmp_path: Path) -> None:
    first = catalog(lay_out("", tmp_path / "a")).version
    root = lay_out("", tmp_path / "b")
    assert catalog(root).version == first
    assert len(first) == 12
    for name in ("prompt.j2", "schemas/order.v1.json", "sound.yaml"):
        path = root / name
        before = catalog(root).version
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        assert catalog(root).version != before, name


def test_all_files_are_told(tmp_path: Path) -> None:
    root = lay_out("", tmp_path)
    files = [each.relative_to(root).as_posix() for each in load([root], {}, STEPS).files]
    assert files == sorted(files)
    assert set(files) == {
        "agents.yaml", "integration.yaml", "sound.yaml", "prompt.j2", "schemas/order.v1.json",
        "schemas/check.request.v1.json", "schemas/check.reply.v1.json",
    }  # fmt: skip


def test_a_parent_of_integrations_and_tests_beside_routes(tmp_path: Path) -> None:
    write(tmp_path / "one", a=TYPES.replace("integration: x", "integration: one"), b=PING)
    write(tmp_path / "two", a="route: other\nmatch: {type: a.c}\nto: {event: a.b}\n")
    write(tmp_path / "two", **{"a.test": "tests: [nothing, {is: checked"})
    (tmp_path / "none").mkdir()
    assert [each.name for each in catalog(tmp_path).routes] == ["one/ping", "two/other"]
    assert [each.name for each in catalog(tmp_path / "one", tmp_path / "two", tmp_path / "one").routes] == [
        "one/ping",
        "two/other",
    ]


def test_an_integration_that_is_used_is_loaded_from_beside(tmp_path: Path) -> None:
    write(tmp_path / "base", a=TYPES.replace("integration: x", "integration: base"))
    root = write(tmp_path / "top", a="integration: top\nuses: [base]\n", b=PING)
    assert [each.name for each in catalog(root).routes] == ["top/ping"]


def test_a_folder_without_an_integration_is_a_finding(tmp_path: Path) -> None:
    loaded = load([tmp_path / "nowhere", tmp_path], {}, STEPS)
    assert loaded.catalog is None
    assert [each.code for each in loaded.findings] == ["missing-folder", "missing-folder"]


def test_files_are_named_relative_to_the_working_directory(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    inside = CORPUS / "ten"
    relative = inside.relative_to(Path.cwd()) if inside.is_relative_to(Path.cwd()) else inside
    assert load([inside], {}, STEPS).findings[0].path.startswith(str(relative))
    assert load([lay_out("ten", tmp_path)], {}, STEPS).findings[0].path.startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a${X}b", "a1b"),
        ("${E:-d}", "d"),
        ("${E}", ""),
        ("${NO:-}", ""),
        ("${NO:-${X}}", "${NO:-1}"),
        ("$X $${X}", "$X $1"),
    ],
)
def test_references(text: str, value: str) -> None:
    assert fill(text, {"X": "1", "E": ""})[0] == value


@pytest.mark.parametrize("text", ["${NO}", "${}", "${file:relative}", "${file:/no/such}", "${A B}"])
def test_references_without_a_value_stay_and_are_told(text: str) -> None:
    filled, unfilled = fill(f"é {text}", {})
    assert filled == f"é {text}"
    assert [each.offset for each in unfilled] == [2]


SOUND = {
    path.relative_to(CORPUS / "base").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((CORPUS / "base").rglob("*"))
    if path.is_file()
}
SPLICES = st.sampled_from(
    ["", " ", "\n", "\n---\n", ":", ": ", "- ", "{", "}", "[", "]", "{{", "}}", '"', "'", "|", "&a ", "*a", "!x ", "#",
     "~", "null", "1", "8s", "true", "data", "vars.x", "${X}", "é", "\t", "\x00", "route: r\n", "steps:\n- ", "to: ",
     "0.1e999"]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, str]:
    """A file of the sound integration with a few characters replaced."""
    name = draw(st.sampled_from(sorted(SOUND)))
    text = SOUND[name]
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        text = text[:start] + draw(SPLICES) + text[end:]
    return name, text


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(change=mutated())
def test_no_change_to_a_file_makes_load_raise(change: tuple[str, str], tmp_path: Path) -> None:
    root = tmp_path / "shop"
    if not root.exists():
        lay_out("", tmp_path)
    name, text = change
    (root / name).write_text(text, encoding="utf-8")
    try:
        loaded = load([root], {}, STEPS)
    finally:
        (root / name).write_text(SOUND[name], encoding="utf-8")
    errors = [each for each in loaded.findings if each.severity == "error"]
    assert (loaded.catalog is None) == bool(errors)
    for each in loaded.findings:
        assert each.line >= 1
        assert each.col >= 1
        assert each.code
        assert each.what
