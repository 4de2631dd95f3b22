"""Reads the text protocol buffers of the CEL conformance suite: nested messages of scalars, nothing more."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, list[Any]]
"""Field name -> all its values: bytes, int, float, bool, str (an enum) or a Message."""

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<name>\[[\w./]+\]|[\w.+-]+)|(?P<sign>[{}<>:,;])"""
)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.S)
_SIMPLE = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def _unescape(found: re.Match[bytes]) -> bytes:
    code = found[1]
    if code[:1] == b"x" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    if code[:1] in b"uU" and len(code) > 1:
        return chr(int(code[1:], 16)).encode()
    if code.isdigit():
        return bytes([int(code, 8) & 255])
    return _SIMPLE.get(code, code)


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens = [(each.lastgroup, each[0]) for each in _TOKEN.finditer(text) if each.lastgroup]
        self._at = 0

    def message(self) -> Message:
        found: Message = {}
        while self._at < len(self._tokens):
            _, name = self._tokens[self._at]
            self._at += 1
            if name in "}>":
                break
            if name in ",;":
                continue
            if self._tokens[self._at][1] == ":":
                self._at += 1
            found.setdefault(name, []).append(self._value())
        return found

    def _value(self) -> Any:
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "sign":
            return self.message()
        if kind == "name":
            return _scalar(text)
        body = b""
        while True:  # adjacent strings are one
            body += _ESCAPE.sub(_unescape, text[1:-1].encode())
            if self._at >= len(self._tokens) or self._tokens[self._at][0] != "string":
                return body
            text = self._tokens[self._at][1]
            self._at += 1


def _scalar(text: str) -> str | int | float | bool:
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text, 0)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def read(text: str) -> Message:
    """Parse one text protocol buffer: field name -> all its values; strings are bytes, enum values are str."""
    return _Reader(text).message()
