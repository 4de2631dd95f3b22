"""Failures in the process log; the audit log has them in any case."""

from __future__ import annotations

import logging

from bus.core.actions import Decision

_log = logging.getLogger(__name__)


def log_failure(decision: Decision) -> None:
    """Say that a message has failed, and with which identity it is found."""
    message, failure = decision.message, decision.failure
    assert failure is not None
    extra = {
        "end": decision.end,
        "code": failure.code,
        "route": decision.route,
        "message_id": message.id if message is not None else None,
        "conversation_id": message.conversation if message is not None else None,
    }
    _log.warning("%s: %s", decision.end, failure.reason, extra=extra)
