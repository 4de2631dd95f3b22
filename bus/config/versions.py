"""Versions of agents: `2.1.0`, and what a target asks for: `^2` for this major version, or one exact version."""

from __future__ import annotations

import re

_VERSION = re.compile(r"(\^?)(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?")


def wanted(text: str) -> bool:
    """Whether the text asks for versions in a form that `suits` reads."""
    return _VERSION.fullmatch(text) is not None


def suits(version: str, text: str) -> bool:
    """Whether a version is what the text asks for.

    `^2.1` takes 2.1.0 and everything later before 3; `^0.3` takes 0.3 only, as below 1 the second number is what may
    break, as in semantic versioning. Numbers that are not written are 0 in a version, and anything in an exact one.
    """
    has, wants = _VERSION.fullmatch(version), _VERSION.fullmatch(text)
    if has is None or has[1] or wants is None:
        return False
    given = tuple(int(part or 0) for part in has.groups()[1:])
    least = tuple(int(part or 0) for part in wants.groups()[1:])
    if not wants[1]:
        written = sum(part is not None for part in wants.groups()[1:])
        return given[:written] == least[:written]
    fixed = next((at for at, part in enumerate(least) if part), 0)
    return given >= least and given[: fixed + 1] == least[: fixed + 1]
