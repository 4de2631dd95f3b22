"""`bus new`: what it writes is sound as it is, and nothing that was there is touched."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from adapters.sdk.__main__ import check_declared, load
from bus.config.nodes import parse, to_json
from tests.cli.conftest import Bus


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def assert_sound(bus: Bus, folder: str) -> None:
    """Lint has nothing to say, the tests pass, and every file is valid to the editor that reads its first line."""
    assert (bus("lint", folder, "--output", "text").out, bus("lint", folder).code) == ("", 0)
    assert bus("test", folder).code == 0
    for file in Path(folder).glob("*.yaml"):
        modeline = file.read_text().splitlines()[0]
        schema = json.loads((file.parent / modeline.partition("$schema=")[2]).read_text())
        for node in parse(str(file), file.read_bytes()).documents:
            assert list(Draft202012Validator(schema).iter_errors(to_json(node))) == []


def test_an_integration_is_sound_and_says_what_is_next(bus: Bus) -> None:
    ran = bus("new", "integration", "hello", "--output", "text")
    assert (ran.code, ran.out) == (
        0,
        "routes/hello: integration.yaml agents.yaml hello.yaml hello.test.yaml schemas/ greeter.py\n",
    )
    assert "bus lint routes/hello" in ran.err
    assert_sound(bus, "routes/hello")
    (row,) = bus("explain", "hello.asked", '{"name": " Ada "}').rows
    (output,) = row["outputs"]
    assert (output["target"], output["data"]) == ("capability:greeting", {"name": "Ada"})


def test_a_second_integration_stands_beside_the_first(bus: Bus) -> None:
    bus("new", "integration", "hello")
    (row,) = bus("new", "integration", "order-desk").rows
    assert "order_desk_greeter.py" in row["files"]
    assert_sound(bus, "routes")
    assert_sound(bus, "routes/order-desk")


def test_a_route_and_an_agent_come_into_the_only_integration(bus: Bus) -> None:
    bus("new", "integration", "hello")
    (route,) = bus("new", "route", "refund").rows
    assert (route["folder"], route["changed"]) == ("routes/hello", ["routes/hello/integration.yaml"])
    assert bus("new", "agent", "my-scorer").code == 0
    assert_sound(bus, "routes/hello")
    assert bus("explain", "refund.asked", '{"text": " a "}').rows[0]["outputs"][0]["data"] == {"text": "a"}
    assert bus("explain", "refund.asked", '{"text": ""}').rows[0]["end"] == "filtered"


def test_the_agents_are_what_the_documents_say(monkeypatch: pytest.MonkeyPatch) -> None:
    from bus.cli.new.templates import agent_files, integration_files

    for name, text in {**integration_files("hello", "greeter", "greeting"), **agent_files("scorer")}.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])  # a loaded agent's folder comes into it
    for module in ("greeter", "scorer"):
        monkeypatch.setitem(sys.modules, module, sys)  # so that it is gone again afterwards
    check_declared(load("greeter.py:agent"), "greeter", ["greeting"])
    check_declared(load("scorer.py:agent"), "scorer", ["scorer"])


@pytest.mark.parametrize("what", ["integration", "route", "agent"])
def test_nothing_is_written_over(bus: Bus, what: str) -> None:
    bus("new", "integration", "hello")
    bus("new", what, "twice")
    before = {path: path.read_bytes() for path in Path("routes").rglob("*") if path.is_file()}
    into = ["--in", "routes/hello"] if what != "integration" else []
    ran = bus("new", what, "twice", *into)
    assert ran.code == 2
    assert "already" in ran.err or "taken" in ran.err
    assert {path: path.read_bytes() for path in Path("routes").rglob("*") if path.is_file()} == before


def test_a_file_in_the_way_stops_all_of_it(bus: Bus) -> None:
    Path("routes/hello").mkdir(parents=True)
    Path("routes/hello/greeter.py").write_text("mine")
    ran = bus("new", "integration", "hello")
    assert ran.code == 2
    assert "routes/hello/greeter.py is there already, so nothing was written" in ran.err
    assert [path.name for path in Path("routes/hello").iterdir()] == ["greeter.py"]


@pytest.mark.parametrize("name", ["Hello", "../x", "a/b", "9", "", "a" * 61])
def test_a_bad_name_is_usage(bus: Bus, name: str) -> None:
    ran = bus("new", "integration", name)
    assert ran.code == 2
    assert "write small letters" in ran.err
    assert not Path("routes").exists()


def test_which_integration_is_asked_when_it_is_not_clear(bus: Bus) -> None:
    assert "bus new integration NAME" in bus("new", "route", "refund").err
    bus("new", "integration", "hello")
    bus("new", "integration", "orders")
    assert "write --in with one of routes/hello, routes/orders" in bus("new", "route", "refund").err


def test_a_type_that_cannot_be_added_is_for_a_person(bus: Bus) -> None:
    bus("new", "integration", "hello")
    document = Path("routes/hello/integration.yaml")
    document.write_text("integration: hello\ntypes: {hello.asked: {contract: any}}\n")
    ran = bus("new", "route", "refund")
    assert ran.code == 2
    assert "write `refund.asked: {contract: schemas/refund.v1.json}` below `types`" in ran.err
    assert not Path("routes/hello/refund.yaml").exists()
