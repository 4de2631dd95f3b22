"""Claims: whether a task that an agent has been given, perhaps not as the first, is still to be done.

The agents behind a capability have no common memory. One that gets a task which may have been worked on before sends
`bus.task.claim`, and does nothing until the bus has said `go`. The bus knows from its log: the first recorded answer to
a task stands under an identity that follows from the task's id and fence (`bus.core.replies.answered_by`). A claim goes
to the partition of its conversation, behind any answer that the broker had confirmed by then.

    correlationid, fence, replyto   the task's; the seal proves that the task was given to whoever has them
    data                            {"capability": ..., "inbox": "client:..."}; the agent's own inbox if it says none

The answer is `bus.task.claimed`, `{"task": ..., "verdict": "go" | "answered" | "taken"}`. `answered` is also said of a
try whose lease has run out, `taken` of one that another agent has accepted.

A request with the attribute `lease` (seconds) may be accepted: a claim with `"lease": true` in its data takes the lease
of the task, and another one from the same inbox renews it. The verdict names the seconds then, and the commit that
holds the lease is durable; so the agent may ack the request, and must be heard of again before they have passed.
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
    back = asker(message, _capability(message.source, data.get("capability"), table), facts)
    address = _inbox(message.source, data.get("inbox"), back.address)
    verdict = _verdict(message, facts)
    said: dict[str, Json] = {"task": message.text(CORRELATION), "verdict": verdict}
    if accepts(message, facts) and facts.leased is not None:
        said["lease"] = facts.leased.seconds
    outbox = Outbox(message, facts, "claim")
    kind, name = place(address)
    outbox.send(kind, name, TASK_CLAIMED, said, correlation=message.id)
    return Decision("routed", message, why=f"claim: {verdict}{_because(facts, said)}", outputs=tuple(outbox.outputs))


def accepts(message: Message, facts: Facts) -> bool:
    """Whether a claim that was not refused takes or renews the lease of its task."""
    wants = isinstance(message.data, dict) and message.data.get("lease") is True
    return wants and facts.answered is None and facts.leased is not None and not _taken(message, facts)


def holder_of(message: Message) -> str:
    """Who claims: agent and inbox, so that two processes of one agent are two."""
    data = message.data if isinstance(message.data, dict) else {}
    return f"{message.source} {data.get('inbox') or f'agent:{message.source}'!s}"


def _taken(message: Message, facts: Facts) -> bool:
    return facts.leased is not None and facts.leased.holder not in ("", holder_of(message))


def _verdict(message: Message, facts: Facts) -> str:
    if facts.answered is not None:
        return "answered"
    return "taken" if _taken(message, facts) else "go"


def _because(facts: Facts, said: dict[str, Json]) -> str:
    if facts.answered is not None:
        return f", number {facts.answered}"
    return f", leased for {said['lease']} s" if "lease" in said else ""


def _capability(source: str, name: Json, table: RouteTable) -> str:
    agent = table.agent(source)
    if agent is not None and isinstance(name, str) and name in agent.capabilities:
        return name
    raise Refused(
        "not-published",
        f"agent `{source}` does not have the capability `{name!s:.100}`; claim only tasks of your own",
    )


def _inbox(source: str, text: Json, asking: str) -> str:
    """Where the verdict goes: not to whoever asked, who could take it for the answer, as the agent chooses its ids."""
    own = f"agent:{source}"
    if text is None or text == own:
        return own
    if isinstance(text, str) and text != asking and CLIENT_ADDRESS.fullmatch(text):
        return text
    raise Refused("bad-return-address", f"inbox `{text!s:.100}` is not this agent's; write `{own}` or `client:ID`")
