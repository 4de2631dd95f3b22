"""What a compiled piece of a route means, as data, where that can be said simply.

Routes are compiled to closures. One that means no more than a path, a literal, a comparison or a tree of these bears
its meaning beside it, so that another engine can run the same (bus.core.express).
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar, cast

from bus.core.message import Json

Form: TypeAlias = "dict[str, Json]"
"""One of `{"const": value}`, `{"path": [root, field, ...]}`, `{"has": [path, field]}`,
`{"object": [[name, form], ...]}`, `{"list": [form, ...]}`, `{"text": [form, ...]}`, `{"not": form}`,
`{"and": [form, form]}`, `{"or": [form, form]}`, `{"compare": [operator, form, form]}`; of a step: its kind, too."""

T = TypeVar("T")


def meaning(piece: T, form: Form | None) -> T:
    """Have a closure bear what it means; None when that cannot be said."""
    cast(Any, piece).form = form
    return piece


def form_of(piece: object) -> Form | None:
    """What a closure means, or None when it does not say."""
    return cast("Form | None", getattr(piece, "form", None))
