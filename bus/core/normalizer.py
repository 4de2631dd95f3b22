"""Normalizer: messages of several versions of a contract become one, the newest, before any route sees them.

A message is of the newest version that it keeps. What it is made into is checked again, as people write upcasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from bus.core.errors import ExpressionFailed, Finding, Refused
from bus.core.expression import Contract
from bus.core.message import Json, Message
from bus.core.route import Older


def normalized(message: Message, newest: Contract, older: Sequence[Older]) -> tuple[Message, str]:
    """Check a message against its contract, and bring one of an older version up to it.

    Args:
        older: the versions before, oldest first.

    Returns:
        The message as routes see it, and which version it came in; "" when it is the newest.

    Raises:
        Refused: `contract`: it keeps no version; the findings are those of the newest. `upcast`: what it was made into
            does not keep the newest.
    """
    findings = newest.check(message.data)
    if not findings:
        return message, ""
    for number in reversed(range(len(older))):
        if not older[number].contract.check(message.data):
            name = older[number].contract.name
            data = _upcast(message, older[number:], name)
            findings = newest.check(data)
            if findings:
                raise Refused("upcast", f"the upcast of {name} makes what {_broken(newest, findings)}", findings)
            return Message(message.attributes, data), name
    raise Refused("contract", _broken(newest, findings), findings)


def _upcast(message: Message, steps: Sequence[Older], name: str) -> Json:
    data = message.data
    msg = cast("Json", message.attributes)
    for step in steps:
        if step.upcast is None:
            continue
        try:
            data = step.upcast({"data": data, "msg": msg})
        except ExpressionFailed as error:
            raise Refused("upcast", f"the upcast of {name} has no value for it: {error}") from error
    return data


def _broken(contract: Contract, findings: tuple[Finding, ...]) -> str:
    first = findings[0]
    more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
    return f"breaks {contract.name}: {first.pointer or '/'} expected {first.expected}, got {first.got}{more}"
