"""What a handler returns, as plain JSON, or a sentence on what is wrong with it."""

from __future__ import annotations

import math

from bus.core.message import Json

_DEPTH = 64  # as deep as the bus accepts
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


class NotJson(ValueError):
    """The agent's fault: a value that JSON cannot say. The text names the place and what to return instead."""


def plain(value: object, what: str, pointer: str = "", depth: int = 0) -> Json:
    """Copy `value` as JSON; the copy is the SDK's own, so that what a handler does to the value later changes nothing.

    Args:
        value: what the handler gave.
        what: `reply` or `message`, for the error.

    Raises:
        NotJson: something in it is no JSON value.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        if _INT_MIN <= value <= _INT_MAX:
            return int(value)
        raise NotJson(f"the {what} has an integer beyond 64 bits at {pointer or '/'}; return it as a string")
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        raise NotJson(f"the {what} has {value} at {pointer or '/'}, which JSON cannot say; return None or a number")
    if depth >= _DEPTH:
        raise NotJson(f"the {what} is nested deeper than {_DEPTH} levels")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise NotJson(f"the {what} has the key {key!r:.60} at {pointer or '/'}; keys must be strings")
        return {key: plain(each, what, f"{pointer}/{key}", depth + 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each, what, f"{pointer}/{index}", depth + 1) for index, each in enumerate(value)]
    raise NotJson(
        f"the {what} has a {type(value).__name__} at {pointer or '/'}; return dict, list, str, int, float, bool or None"
    )
