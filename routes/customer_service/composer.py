"""Composer: waits for what the specialists of a conversation find, and writes the answer to the customer.

The route sends it the inquiry as `response.requested`, with the names of the specialists it asked; their replies come
as events. See joining.py for how they meet. While an inquiry waits, its deliveries (the request and a finding for each
specialist) stay unacked and take a slot each of this agent's `concurrency`: with 8000, up to 2000 inquiries
are in flight; what is beyond waits in RabbitMQ.

The words come from wording.py, or from a language model when OPENAI_BASE_URL and OPENAI_API_KEY are set (endpoint.py).
A model that fails or is slow costs the customer nothing: wording.py writes instead, and the reply says `degraded`.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from adapters import Agent, Context, Json, Message
from endpoint import Endpoint, EndpointFailed
from joining import Joiner
from wording import Findings, compose

SOURCES = 3  # help articles named in a reply
WRITERS = 32  # calls of the language model at once
PATIENCE_S = 20.0  # for the model, with waiting for a free writer; with joining's deadline below the agent's timeout

agent = Agent("composer", concurrency=8000, timeout_s=40.0)
joiner = Joiner(time.monotonic)
endpoint = Endpoint.configured(os.environ)
writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")


@agent.on("understanding.replied")
@agent.on("sentiment.replied")
@agent.on("knowledge.replied")
async def found(event: Message) -> None:
    """Take what a specialist found."""
    await joiner.bring(event.conversation, event.type.removesuffix(".replied"), event.data)


@agent.on("understanding.failed")
@agent.on("sentiment.failed")
@agent.on("knowledge.failed")
async def failed(event: Message) -> None:
    """Take note that a specialist found nothing, so that nobody waits for it."""
    await joiner.bring(event.conversation, event.type.removesuffix(".failed"), None)


@agent.capability("response")
async def respond(request: Message, context: Context) -> dict[str, Any]:
    """Answer `response.requested`: {text, specialists}."""
    data: Any = request.data  # the bus has checked it against response.request.v1
    results = await joiner.collect(request.conversation, data["specialists"])
    missing = [name for name in data["specialists"] if results.get(name) is None]
    findings = Findings.of(data["text"], results)
    text, fell_back = await write(findings, endpoint, context)
    return reply(findings, text, missing, degraded=fell_back or bool(missing))


async def write(findings: Findings, model: Endpoint | None, context: Context) -> tuple[str, bool]:
    """Word the answer; tells too whether the model was wanted and failed."""
    if model is None:
        return compose(findings), False
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.get_running_loop().run_in_executor(writers, model.write, findings), False
    except (EndpointFailed, TimeoutError) as error:
        context.log.warning("the language model gave no answer (%s); writing without it", error)
        return compose(findings), True


def reply(findings: Findings, text: str, missing: list[str], *, degraded: bool) -> dict[str, Json]:
    """Build the reply's data, as response.reply.v1 wants it."""
    return {
        "text": text,
        "intent": findings.intent,
        "sentiment": findings.mood,
        "sources": [str(passage["id"]) for passage in findings.passages[:SOURCES]],
        "missing": list(missing),
        "degraded": degraded,
    }
