"""What went wrong in YAML, said in terms of what the author meant to write.

The three faults that everybody makes with expressions in YAML have codes of their own: an unquoted `{{` is a mapping, a
`: ` ends an unquoted value, and a leading `!` is a tag.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from bus.config.finding import ConfigFinding
from bus.config.source import Source

_SHOWN = 80  # characters of the author's text that a finding repeats
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FIRST_KEY = re.compile(r"^(?:---\s+)?[\"']?([a-z]+)[\"']?\s*:", re.MULTILINE)
_BRACE = re.compile(r"(?:^|[:\-,\[{]\s*)(\{\{)")
_BANG = re.compile(r"(?:[:\-]\s+|[\[,]\s*)(![^\s!]\S*)")
_VALUE = re.compile(r"^(\s*(?:-\s+)*(?:[^\s:\"'{\[]+:\s+)?)(.*)$")


def bad_character(source: Source) -> ConfigFinding | None:
    """Find the first character that YAML does not allow."""
    match = _FORBIDDEN.search(source.text)
    if match is None:
        return None
    what = f"the character U+{ord(match.group()):04X} is not allowed in YAML"
    return source.finding(match.start(), "bad-character", what, f'`"\\u{ord(match.group()):04x}"` in double quotes')


def first_key(text: str) -> str:
    """The first key of a document that cannot be parsed, as far as one can tell."""
    match = _FIRST_KEY.search(text)
    return match.group(1) if match else ""


def duplicate(source: Source, first: int, second: int, key: str) -> ConfigFinding:
    line, col = source.position(first)
    what = f"`{clip(key)}` is already written at {line}:{col}"
    return source.finding(second, "duplicate-key", what, "each key once")


def brace(source: Source, start: int, end: int) -> ConfigFinding:
    """An unquoted `{{ ... }}`."""
    text = source.text[start:end] if end - start <= 80 and "\n" not in source.text[start:end] else "{{ ... }}"
    return source.finding(start, "yaml-brace", "unquoted `{{` is a YAML mapping", f"`{quoted(text)}`")


def tag(source: Source, start: int, name: str) -> ConfigFinding:
    """A `!...` before a value: usually a negation, else a real tag."""
    key_start, line = source.line_of(start)
    if source.text[start : start + 2] == "!!" or "." not in name:
        return source.finding(start, "yaml-tag", f"`{clip(name)}` is a YAML tag", "the value without it")
    return _bang(source, key_start, line, start - key_start)


def _bang(source: Source, line_start: int, line: str, at: int) -> ConfigFinding:
    match = _VALUE.match(line)
    prefix, value = (match.group(1), line[at:]) if match and match.end(1) == at else ("", line[at:].rstrip("]}, "))
    text = f"{prefix.strip().removeprefix('- ')} {quoted(_uncommented(value))}".strip()
    return source.finding(line_start + at, "yaml-bang", "leading `!` is a YAML tag", f"`{text}`")


def quoted(text: str) -> str:
    """`text` as a quoted YAML scalar."""
    if '"' not in text and "\\" not in text:
        return f'"{text}"'
    return "'" + text.replace("'", "''") + "'"


def _uncommented(text: str) -> str:
    return clip(re.sub(r"\s+#.*$", "", text[:400]).strip())


def clip(text: str) -> str:
    """`text`, short enough for a finding."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def explain(source: Source, base: int, error: yaml.YAMLError) -> ConfigFinding:
    """Turn a parser error into a finding at the place where the author should look."""
    problem = str(getattr(error, "problem", None) or error)
    mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    at = min(mark.index + base if mark is not None else base, len(source.text))
    start, line = source.line_of(at)
    match = _BRACE.search(line)
    if match and match.start(1) <= at - start:
        value = _uncommented(line[match.start(1) :])
        instead = f"`{quoted(value)}`"
        return source.finding(start + match.start(1), "yaml-brace", "unquoted `{{` is a YAML mapping", instead)
    match = _BANG.search(line)
    if match and match.start(1) <= at - start:
        return _bang(source, start, line, match.start(1))
    opened: Any = getattr(error, "context_mark", None)
    if "expected ','" in problem and opened is not None and opened.line < mark.line:
        # The parser notices at the next key; the author wants to know which bracket it was.
        what = f"the `{source.text[opened.index + base]}` here is not closed"
        return source.finding(opened.index + base, "yaml-syntax", what, "the missing bracket")
    inline = "expected ','" in problem and (source.text[at : at + 1] == ":" or " : " in line)
    if "mapping values are not allowed" in problem or inline:
        return _colon(source, start, line, at)
    context = str(getattr(error, "context", None) or "")
    if "quoted scalar" in context and opened is not None:
        first = opened.index + base
        what = "the quoted text that begins here does not end"
        return source.finding(first, "yaml-syntax", what, f"the missing `{source.text[first : first + 1]}`")
    if "block mapping" in context and opened is not None:
        col = source.position(opened.index + base)[1]
        what = "this line does not stand in one column with the keys before it"
        return source.finding(at, "yaml-syntax", what, f"it in column {col}")
    if "cannot start any token" in problem:
        return _start(source, at)
    return source.finding(at, "yaml-syntax", f"{problem} {context}".strip(), _hint(problem))


def _start(source: Source, at: int) -> ConfigFinding:
    """A character with which YAML begins nothing."""
    if source.text[at : at + 1] == "\t":
        return source.finding(at, "yaml-syntax", "YAML is not indented by tabs", "spaces")
    value = _uncommented(source.text[at : at + 400].partition("\n")[0])
    what = f"a value cannot begin with `{value[:1]}`"
    return source.finding(at, "yaml-syntax", what, f"`{quoted(value)}`")


def _colon(source: Source, start: int, line: str, at: int) -> ConfigFinding:
    if line.find(": ") in (-1, at - start):
        return source.finding(at, "yaml-syntax", "the lines before are not `key: value`", "each as `key: value`")
    match = _VALUE.match(line)
    value = _uncommented(match.group(2)) if match else ""
    inline = not value or value[0] in "{[" or line.lstrip()[0] in "{["
    instead = "the whole value in quotes" if inline else f"`{quoted(value)}`"
    return source.finding(at, "yaml-colon", "`: ` ends an unquoted value", instead)


def _hint(problem: str) -> str:
    if "expected ','" in problem:
        return "the missing `,`, `]` or `}`, or the value in quotes"
    if "anchor" in problem or "alias" in problem:
        return "the value in quotes"
    return ""
