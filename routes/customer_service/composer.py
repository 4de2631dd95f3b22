"""Composer: writes the answer to the customer from what the specialists have found.

The route asks the specialists and sends what they said along with the inquiry, as `response.requested`.

The words come from wording.py, or from a language model when OPENAI_BASE_URL and OPENAI_API_KEY are set (endpoint.py).
A model that fails or is slow costs the customer nothing: wording.py writes instead, and the reply says `degraded`.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from adapters import Agent, Context, Json, Message
from endpoint import Endpoint, EndpointFailed
from wording import Findings, compose

SOURCES = 3  # help articles named in a reply
WRITERS = 32  # calls of the language model at once
PATIENCE_S = 20.0  # for the model, with waiting for a free writer; below the agent's timeout

agent = Agent("composer", concurrency=256, timeout_s=40.0)
endpoint = Endpoint.configured(os.environ)
writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")


@agent.capability("response")
async def respond(request: Message, context: Context) -> dict[str, Any]:
    """Answer `response.requested`: {text, found: {specialist: its reply}, missing: [specialist]}."""
    data: Any = request.data  # the bus has checked it against response.request.v1
    findings = Findings.of(data["text"], data["found"])
    text, fell_back = await write(findings, endpoint, context)
    return reply(findings, text, data["missing"], degraded=fell_back or bool(data["missing"]))


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
