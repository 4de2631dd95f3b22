"""Labels of a message that has come in: those of its task come back, and they decide who may have it."""

from __future__ import annotations

from collections.abc import Iterable

from bus.core.actions import Failure
from bus.core.address import labels_within
from bus.core.errors import Refused
from bus.core.identity import GATEWAY
from bus.core.labels import names_of, text_of
from bus.core.message import LABELS, REPLYTO, Message
from bus.core.route import Catalog


def labelled_again(message: Message) -> Message:
    """Give a message the labels of the task in the course of which an agent says it: the agent cannot shed them.

    Raises:
        Refused: `bad-attribute`: with its own it has too many.
    """
    carried = labels_within(message.attributes.get(REPLYTO))
    given = message.text(LABELS) or ""
    if not carried or carried == given:
        return message
    try:
        labels = text_of((*names_of(carried), *names_of(given)))
    except ValueError as error:
        raise Refused("bad-attribute", f"attribute `labels`, with those of the request: {error}") from error
    return Message({**message.attributes, LABELS: labels}, message.data)


def barred(message: Message, agents: Iterable[str], catalog: Catalog) -> Failure | None:
    """Why one of these agents may not have the message, or None when all may.

    The gateway stands for clients, as the command line does: it hands on what it is asked for, and is no agent.
    """
    labels = message.text(LABELS)
    if not labels or not catalog.labels:
        return None
    reason = catalog.audience(name for name in agents if name != GATEWAY).blocked(labels)
    return Failure("refusal", "label", f"`{message.type}`: {reason}") if reason else None
