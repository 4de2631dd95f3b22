"""How a value stands inside of a text, in leaves and in documents."""

from __future__ import annotations

from bus.core.errors import ExpressionFailed


def text_form(value: object) -> str:
    """Write a value into a text: ints without decimals, doubles in their shortest form, `true` and `false`.

    Raises:
        ExpressionFailed: lists, objects and null have no such form.
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    kind = "null" if value is None else "a list" if isinstance(value, (list, tuple)) else "an object"
    raise ExpressionFailed(f"{kind} cannot stand inside of a text")
