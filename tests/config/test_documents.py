"""Documents: what templates may do, and what no template and no message can make them do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bus.config.documents import MAX_OUTPUT, LoadedDocument, load_document
from bus.core.errors import ExpressionFailed
from bus.core.message import Json

DATA: dict[str, Json] = {
    "name": "Ada", "n": 10**9, "f": 3.0, "yes": True, "none": None, "items": ["p", "q"], "who": {"name": "x"},
    "long": "a" * 100_000, "big": list(range(100_000)),
}  # fmt: skip


def load(folder: Path, text: str, **others: str) -> Any:
    (folder / "letter.j2").write_text(text)
    for name, other in others.items():
        (folder / f"{name}.j2").write_text(other)
    return load_document(Path("letter.j2"), folder)


def render(folder: Path, text: str, **others: str) -> str:
    document = load(folder, text, **others)
    assert isinstance(document, LoadedDocument), document
    return document.render({"data": DATA})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Dear {{ data.name }}, {{ data.f }} {{ data.yes }} {{ data.n }}", "Dear Ada, 3 true 1000000000"),
        ("{% for each in data.items %}{{ loop.index }}{{ each }} {% endfor %}", "1p 2q "),
        ("{{ data.items | join(', ') }} {{ data.who | tojson }}", 'p, q {"name": "x"}'),
        ("{{ data.name ~ 1 ~ data.yes }}", "Ada1true"),
        ("{% if data.nope is defined %}a{% else %}{{ data.nope | default('b') }}{% endif %}", "b"),
        ("{{ data.name.upper() }} {{ data.n // 7 }} {{ 2.555 | round(2) }}", "ADA 142857142 2.56"),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
        ("{% include 'part.j2' %}!", "part Ada!"),
        ("{% raw %}{{ data.name }}{% endraw %}", "{{ data.name }}"),
        ("{% for key, value in data.who.items() %}{{ key }}={{ value }}{% endfor %}", "name=x"),
    ],
)
def test_templates_render(tmp_path: Path, text: str, wanted: str) -> None:
    assert render(tmp_path, text, part="part {{ data.name }}") == wanted


def test_names_include_those_of_included_templates(tmp_path: Path) -> None:
    document = load(tmp_path, "{{ data.a }}{% include 'part.j2' %}", part="{{ vars.b }}")
    assert document.name == "letter.j2"
    assert document.names == {"data", "vars"}


@pytest.mark.parametrize(
    "text",
    [
        "{{ 9 ** (9 ** 8) }}",
        "{{ data.name.center(10**8) }}",
        "{{ 'a'.center(100000000) }}",
        "{{ data.name | center(100000000) }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ 'a' * 100000000 }}",
        "{{ [1] * 100000000 }}",
        "{{ data.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ '{0.__class__}'.format(data) }}",
        "{{ data | attr('__class__') }}",
        "{{ lipsum(1000) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}",
        "{% block b %}{{ self.b() }}{{ self.b() }}{% endblock %}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% for each in data.items recursive %}{{ loop(data.items) }}{% endfor %}",
        "{% set x %}{% for i in data.big %}{{ data.long }}{% endfor %}{% endset %}",
        "{% include data.name %}",
        "{% import 'part.j2' as part %}",
        "{% from 'part.j2' import x %}",
        "{{ '%s' | format(data) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ data.name.format(x=data) }}",
        "{{ data.name.format_map(data) }}",
        "{{ data.name.encode() }}",
        "{{ data.name.ljust(100000000) }}",
        "{{ data.name.zfill(100000000) }}",
        "{{ data.name.expandtabs(100000000) }}",
        "{{ data.name.translate({65: 'x' * 10}) }}",
        "{{ data | pprint }}",
        "{{ data.items | batch(2) | list }}",
        "{{ data.items | slice(1000000000) | list }}",
        "{{ data.name | wordwrap(1) }}",
        "{{ data.name | urlize }}",
        "{{ data.who | xmlattr }}",
        "{{ data.items | random }}",
        "{% filter center(100000000) %}x{% endfilter %}",
        "{% call data.name() %}{% endcall %}",
        "{% set x = 'a' * 1000000000 %}",
        "{{ range(1000000000) | list }}",
        "{{ range(-1000000000, 1000000000) | length }}",
        "{{ (1).__class__ }}",
        "{{ [].__class__.__base__.__subclasses__() }}",
        "{{ [].append(1) }}",
        "{{ data.items.append(1) }}",
        "{{ data.who.update({'a': 1}) }}",
        "{{ data.items.clear() }}",
        "{{ self._TemplateReference__context }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ joiner.__init__ }}",
        "{{ data.name() }}",
        "{{ caller() }}",
        "{{ 2 ** data.n }}",
        "{% extends data.name %}",
        "{% include ['part.j2', data.name] %}",
        "{{ data.name is callable }}",
    ],
)
def test_unsafe_templates_are_refused_at_load(tmp_path: Path, text: str) -> None:
    found = load(tmp_path, "first line\n" + text, part="x")
    assert isinstance(found, tuple), found
    assert (found[0].code, found[0].offset) == ("unsafe-template", 11)
    assert found[0].instead


@pytest.mark.parametrize(
    "text",
    [
        "{{ data.name * data.n }}",
        "{{ data.items * data.n }}",
        "{{ '%1000000000d' % data.n }}",
        "{% for i in range(data.n) %}x{% endfor %}",
        "{% for i in data.big %}{% for j in data.big %}{% endfor %}{% endfor %}",
        "{% for i in range(10000) %}{% if i in data.big %}{% endif %}{% endfor %}",
        "{% for i in range(10000) %}{{ data.long }}{% endfor %}",
        "{% for i in range(10000) %}{% set x = data.big | sort | list %}{% endfor %}",
        "{% set x = data.long ~ data.long %}{% set x = x ~ x %}{% set x = x ~ x %}",
        "{{ data.long | replace('a', data.long) }}",
        "{{ data.big | join(data.long) }}",
        "{{ data.name | indent(data.n) }}",
        "{{ data.f | round(data.n) }}",
        "{{ data['__class__'] }}",
        "{{ data.items | map('upper') | map('__class__') | list }}",
        "{{ data.items | map(attribute='__class__') | list }}",
        "{{ data.items | map('center', data.n) | list }}",
        "{{ data.long | replace('', data.long) }}",
        "{{ data.long | list | tojson | replace('a', data.long) }}",
        "{{ data.items[data.n] }}",
        "{{ data.name[:data.n] * 2 }}",
        "{{ data.nope }}",
        "{{ nope }}",
        "{{ data.items }}",
        "{{ data.none }}",
        "{{ data.n // 0 }}",
    ],
)
def test_what_a_message_could_do_fails_quickly(tmp_path: Path, text: str) -> None:
    document = load(tmp_path, text)
    assert isinstance(document, LoadedDocument), document
    started = time.monotonic()
    with pytest.raises(ExpressionFailed, match=r"letter\.j2"):
        document.render({"data": DATA})
    assert time.monotonic() - started < 3.0


def test_output_is_bounded_exactly(tmp_path: Path) -> None:
    document = load(tmp_path, "{{ data.text }}")
    assert len(document.render({"data": {"text": "x" * MAX_OUTPUT}})) == MAX_OUTPUT
    with pytest.raises(ExpressionFailed, match="longer"):
        document.render({"data": {"text": "x" * (MAX_OUTPUT + 1)}})


def test_fields_named_like_methods_are_fields(tmp_path: Path) -> None:
    assert load(tmp_path, "{{ data.keys }}{{ data.get }}").render({"data": {"keys": "k", "get": "g"}}) == "kg"


@pytest.mark.parametrize(
    ("text", "code", "offset"),
    [
        ("a\n{{ data.a", "bad-template", 2),
        ("a\n{% if %}", "bad-template", 2),
        ("{{ data.a | nofilter }}", "unsafe-template", 0),
        ("a {% include 'nope.j2' %}", "missing-file", 14),
        ("a {% include '../secret.j2' %}", "missing-file", 14),
        ("a {% include '/etc/passwd' %}", "missing-file", 14),
        ("a {% include ['part.j2', '../secret.j2'] %}", "missing-file", 26),
        ("{% extends '../secret.j2' %}", "missing-file", 12),
        ("a {% include 'loop/../../secret.j2' %}", "missing-file", 14),
        ("a {% include 'letter.j2' %}", "bad-template", 0),
        ("a {% include 'loop.j2' %}", "bad-template", 0),
    ],
)
def test_bad_template_is_refused_at_its_place(tmp_path: Path, text: str, code: str, offset: int) -> None:
    folder = tmp_path / "route"
    folder.mkdir()
    (tmp_path / "secret.j2").write_text("secret")
    found = load(folder, text, loop="{% include 'letter.j2' %}")
    assert isinstance(found, tuple), found
    assert (found[0].code, found[0].offset) == (code, offset)


@pytest.mark.parametrize("path", ["../secret.j2", "letter.txt", "nope.j2"])
def test_only_templates_of_the_folder_are_loaded(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "route"
    folder.mkdir()
    (tmp_path / "secret.j2").write_text("secret")
    (folder / "letter.txt").write_text("x")
    found = load_document(Path(path), folder)
    assert isinstance(found, tuple)
    assert found[0].code == "missing-file"
