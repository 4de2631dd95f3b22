"""Who may get a message: agents by their attributes, and what each of its labels requires of them.

A request for a capability goes to its queue when all who take from there may have it. When only some may, it goes to
the own inbox of one of them, the same one for the whole conversation, as order is kept per target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bus.core.labels import names_of
from bus.core.message import Json

Attributes = Mapping[str, Json]
"""Of an agent, as it is declared; or what is wanted of one: a value, or a list of which one will do."""


def unmet(has: Attributes, wanted: Attributes) -> str:
    """The first attribute that an agent lacks, as `name: value`; "" when it has all.

    An agent's list has each of its items.
    """
    for name, value in wanted.items():
        given = has.get(name)
        if not any(each in _all(given) for each in _all(value)):
            return f"{name}: {' or '.join(map(_said, _all(value)))}"
    return ""


def _all(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _said(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def barrier(has: Attributes, labels: str, rules: Mapping[str, Attributes]) -> str:
    """Why an agent may not have a message with these labels: what it lacks, and for which label; "" when it may.

    Args:
        labels: text of the attribute.
        rules: what a label requires, by label.
    """
    for label in names_of(labels):
        lacks = unmet(has, rules.get(label, {}))
        if lacks:
            return f"lacks `{lacks}`, which the label `{label}` requires"
    return ""


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom a target may reach.

    Args:
        members: attributes of these agents, by name, in file order.
        rules: what a label requires, by label.
        whole: nobody else takes from the target's queue.
    """

    members: Mapping[str, Attributes]
    rules: Mapping[str, Attributes]
    whole: bool = True

    def fit(self, labels: str) -> tuple[str, ...]:
        """The agents that may have a message with these labels."""
        if not labels:
            return tuple(self.members)
        return tuple(name for name, has in self.members.items() if not barrier(has, labels, self.rules))

    def blocked(self, labels: str, only: str | None = None) -> str:
        """Say of the first agent that may not have a message with these labels why, and what to write; "" if all may.

        Args:
            only: look at this agent alone, which need not be a member.
        """
        for name, has in self.members.items():
            if only not in (None, name):
                continue
            lacks = barrier(has, labels, self.rules)
            if lacks:
                return f"agent `{name}` {lacks}; write it into its `attributes`, or send the message elsewhere"
        return ""
