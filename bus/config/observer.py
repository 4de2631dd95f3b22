"""What the loader compiles, handed to a coverage on its way into the catalog; nothing happens without one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bus.config.nodes import Node
from bus.core.expression import Expression
from bus.core.joins import made
from bus.core.work import Flow, OnError, Placed, Target
from bus.rehearsal.coverage import Coverage, Place

_COMMENT = re.compile(r"\s#\s.*")


@dataclass(frozen=True, slots=True)
class Observer:
    """Args:
    coverage: what notes which of it runs, or None.
    route: whose flows they are: `integration/route`, or an integration.
    """

    coverage: Coverage | None
    route: str

    def _place(self, node: Node) -> Place:
        line, col = node.source.position(node.start)
        return Place(
            self.route, node.source.path, line, col, _COMMENT.sub("", node.source.line_of(node.start)[1]).strip()
        )

    def whole(self, node: Node, flow: Flow) -> Flow:
        """A route's own flow."""
        return flow if self.coverage is None else self.coverage.route(self._place(node), flow)

    def nested(self, node: Node, flow: Flow) -> Flow:
        """A flow within a step or an error rule."""
        return flow if self.coverage is None else self.coverage.branch(self._place(node), flow)

    def step(self, node: Node, placed: Placed, *, falls_through: bool, join: Mapping[str, Any] | None) -> Placed:
        """A step, with its parsed `join` if it has one."""
        if self.coverage is None:
            return placed
        partial = join is not None and join.get("on_deadline") == "partial"  # of messages: then it cannot fail
        joined = None if join is None else made({"policy": "best_effort" if partial else "all", **join})
        return self.coverage.step(self._place(node), placed, falls_through=falls_through, join=joined)

    def condition(self, node: Node, expression: Expression, what: str) -> Expression:
        """A condition that is no guard of a nested flow."""
        return expression if self.coverage is None else self.coverage.condition(self._place(node), expression, what)

    def rule(self, node: Node, rule: OnError) -> OnError:
        return rule if self.coverage is None else self.coverage.rule(self._place(node), rule)

    def target(self, target: Target) -> Target:
        return target if self.coverage is None else self.coverage.target(target)


UNOBSERVED = Observer(None, "")
