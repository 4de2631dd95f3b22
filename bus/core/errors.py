"""Every error of the project: one sentence each, saying whose fault it is.

Failures that an agent can cause are never raised out of the core: `decide` turns them into decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FailureClass = Literal[
    "refusal",
    "rate_limit",
    "truncation",
    "timeout",
    "contract",
    "tool_error",
    "unavailable",
    "budget",
    "expired",
    "internal",
]
FAILURE_CLASSES: tuple[FailureClass, ...] = FailureClass.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Finding:
    """One field that breaks a contract: JSON pointer, what the contract expects, what was there.

    Args:
        excerpt: the part of the contract that speaks of this place, cut to a few hundred bytes of JSON, or "".
        alternatives: what may stand there, or names that may be meant; a few.
    """

    pointer: str
    expected: str
    got: str
    excerpt: str = ""
    alternatives: tuple[str, ...] = ()


class BusError(Exception):
    """Base of every error that agentbus raises on purpose."""


class Refused(BusError):
    """The sender's fault: the message cannot be understood or breaks its contract.

    Args:
        code: short stable code, e.g. `not-json`, `too-deep`, `contract`, `unknown-agent`.
        reason: one sentence for a person, saying what was expected.
        findings: every failing field, when a contract was broken.
    """

    def __init__(self, code: str, reason: str, findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.findings = findings


class StepFailed(BusError):
    """The route author's or an agent's fault: a step could not do its work on this message.

    Args:
        code: short stable code; the class, when there is none more exact.
        agent: the agent whose fault it is, or None.
    """

    def __init__(
        self,
        failure: FailureClass,
        reason: str,
        findings: tuple[Finding, ...] = (),
        *,
        code: str = "",
        agent: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason
        self.findings = findings
        self.code = code or failure
        self.agent = agent


class ExpressionFailed(BusError):
    """The route author's fault: an expression has no value for this message."""


class ConfigurationRefused(BusError):
    """The route author's fault: the configuration has findings of severity error."""


class Unreachable(BusError):
    """The operator's fault: the broker or the store cannot be reached."""


class BrokerDown(Unreachable):
    """The operator's fault: no broker answers for now; asking again later may help."""


class StoreFailed(BusError):
    """The operator's fault: the store could not commit; nothing of the batch may be published."""


class NoStore(StoreFailed):
    """The operator's fault, or nobody's: what should be read has not been made yet."""


class StoreDown(StoreFailed):
    """The operator's fault: the store cannot be reached or written for now; claim again before anything else."""


class StoreRefused(StoreDown):
    """The operator's fault: the store turns us away (password, database); only who was let in before asks again."""


class BlobsDown(BusError):
    """The operator's fault: the blob store cannot be read or written for now; what needs it fails, and nothing else."""


class Fenced(StoreFailed):
    """Nobody's fault: another worker has claimed the partition since; nothing was written."""


class AgentError(BusError):
    """Raised by an agent's handler to answer with a failure, as data.

    Args:
        failure: the failure class that routes select on with `on_error`.
        reason: one sentence for a person.
    """

    def __init__(self, failure: FailureClass, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason
