"""Claims: whether a task that an agent has been given, perhaps not as the first, is still to be done.

The agents behind a capability have no common memory. One that gets a task which may have been worked on before sends
`bus.task.claim`, and does nothing until the bus has said `go`. The bus knows from its log: the first recorded answer to
a task stands under an identity that follows from the task's id and fence (`bus.core.replies.answered_by`). A claim goes
to the partition of its conversation, behind any answer that the broker had confirmed by then.

    correlationid, fence, replyto   the task's; the seal proves that the task was given to whoever has them
    data                            {"capability": ..., "inbox": "client:..."}; the agent's own inbox if it says none

The answer is `bus.task.claimed`, `{"task": ..., "verdict": "go" | "answered"}`.
"""

from __future__ import annotations

from bus.core.actions import Decision
from bus.core.errors import Refused
from bus.core.facts import Facts
from bus.core.identity import CLIENT_ADDRESS
from bus.core.message import CORRELATION, TASK_CLAIMED, Json, Message
from bus.core.outputs import Outbox
from bus.core.replies import asker
from bus.core.table import RouteTable
from bus.core.telling import place


def claimed(message: Message, table: RouteTable, facts: Facts) -> Decision:
    """Decide a claim; `facts.answered` says whether its task has an answer.

    Raises:
        Refused: `not-published`: not an agent of that capability. `unsolicited-reply`: it was not given this task.
            `bad-return-address`: not an inbox of its own.
    """
    data = message.data if isinstance(message.data, dict) else {}
    asker(message, _capability(message.source, data.get("capability"), table), facts)
    address = _inbox(message.source, data.get("inbox"))
    task, verdict = message.text(CORRELATION), "go" if facts.answered is None else "answered"
    outbox = Outbox(message, facts, "claim")
    kind, name = place(address)
    outbox.send(kind, name, TASK_CLAIMED, {"task": task, "verdict": verdict}, correlation=message.id)
    why = "claim: go" if facts.answered is None else f"claim: answered, number {facts.answered}"
    return Decision("routed", message, why=why, outputs=tuple(outbox.outputs))


def _capability(source: str, name: Json, table: RouteTable) -> str:
    agent = table.catalog.agents.get(source)
    if agent is not None and isinstance(name, str) and name in agent.capabilities:
        return name
    raise Refused(
        "not-published",
        f"agent `{source}` does not have the capability `{name!s:.100}`; claim only tasks of your own",
    )


def _inbox(source: str, text: Json) -> str:
    own = f"agent:{source}"
    if text is None or text == own:
        return own
    if isinstance(text, str) and CLIENT_ADDRESS.fullmatch(text):
        return text
    raise Refused("bad-return-address", f"inbox `{text!s:.100}` is not this agent's; write `{own}` or `client:ID`")
