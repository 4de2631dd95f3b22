"""A configuration that is kept: compiled again it is the same one, in another place and another environment."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bus.config.again import compile_again
from bus.config.bundle import Bundle, unpack
from bus.config.loading import Loaded, load
from bus.core.errors import ConfigurationRefused, StoreFailed
from bus.core.registry import STEPS

INTEGRATION = """\
integration: shop
config:
  limit: {type: integer, default: 3, env: LIMIT}
  key: {type: string, default: "${KEY}"}
types:
  order.placed: {contract: schemas/order.v1.json}
  order.noted: {contract: any, unrouted: ok}
"""
AGENTS = """\
agents:
  shop: {adapter: sdk, run: "shop.py:agent", publishes: [order.placed]}
  mailer: {adapter: external, subscribes: [order.noted]}
"""
ROUTE = """\
route: small
match: {type: order.placed, when: data.n < config.limit}
steps:
- render: {template: note.j2, into: vars.text}
to: {event: order.noted, data: {n: "{{ data.n }}", text: "{{ vars.text }}"}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    (root / "schemas").mkdir(parents=True)
    for name, text in (
        ("integration.yaml", INTEGRATION),
        ("agents.yaml", AGENTS),
        ("small.yaml", ROUTE),
        ("note.j2", "n is {{ data.n }}"),
        ("shop.py", "agent = None"),
        ("schemas/order.v1.json", '{"type": "object", "properties": {"n": {"$ref": "n.json"}}, "required": ["n"]}'),
        ("schemas/n.json", '{"type": "integer"}'),
    ):
        (root / name).write_text(text)
    return root


def loaded(root: Path, **environment: str) -> Loaded:
    found = load([root], {"KEY": "hush-hush", **environment}, STEPS)
    assert found.catalog is not None, [str(each) for each in found.findings]
    return found


def test_it_comes_out_the_same_when_the_files_are_gone(shop: Path) -> None:
    before = loaded(shop)
    assert before.catalog is not None
    blob = before.bundle.pack()
    shutil.rmtree(shop)
    again = compile_again(before.catalog.version, blob, {"KEY": "other"}, STEPS)
    assert again.version == before.catalog.version
    assert [each.name for each in again.routes] == ["shop/small"]
    assert again.routes[0].where == "shop/small.yaml:1"
    assert again.types["order.placed"].contract is not None
    assert again.types["order.placed"].contract.check({"n": "x"})


def test_no_secret_is_in_it_and_one_that_is_gone_does_not_matter(shop: Path) -> None:
    found = loaded(shop)
    bundle = unpack(found.bundle.pack())
    assert "hush-hush" not in repr(bundle)
    assert found.catalog is not None
    assert compile_again(found.catalog.version, bundle.pack(), {}, STEPS).routes[0].config["key"] == "${KEY}"


def test_another_environment_is_another_version_and_leaves_the_one_before_alone(shop: Path) -> None:
    three, five = loaded(shop), loaded(shop, LIMIT="5")
    assert three.catalog is not None
    assert five.catalog is not None
    assert three.catalog.version != five.catalog.version
    kept = compile_again(five.catalog.version, five.bundle.pack(), {"LIMIT": "9"}, STEPS)
    assert kept.routes[0].config["limit"] == 5
    kept = compile_again(three.catalog.version, three.bundle.pack(), {"LIMIT": "9"}, STEPS)
    assert kept.routes[0].config["limit"] == 3


def test_what_is_damaged_or_means_something_else_is_refused(shop: Path) -> None:
    found = loaded(shop)
    assert found.catalog is not None
    with pytest.raises(StoreFailed, match="damaged"):
        unpack(found.bundle.pack()[:-9])
    files = {**found.bundle.files, "shop/note.j2": b"{{ broken"}
    with pytest.raises(ConfigurationRefused, match=r"shop/note.j2"):
        compile_again(found.catalog.version, Bundle(files).pack(), {}, STEPS)
    with pytest.raises(ConfigurationRefused, match="comes out as"):
        compile_again("0" * 12, found.bundle.pack(), {}, STEPS)
