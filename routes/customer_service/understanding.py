"""Understanding: what does the customer want? A small trained classifier behind the capability `understanding`.

It trains when it starts, before it takes its first request: on data/inquiries.csv and the help articles, or on the
CSV file that BUS_JOB_TRAINING names (columns text and category). Of either it learns only the rows that split.py
gives it, so that the others can measure it.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapters import Agent, Message
from intents import IntentModel, train

HERE = Path(__file__).parent

agent = Agent("understanding")


def trained() -> IntentModel:
    """Train on the file that the environment names, or on the shipped ones."""
    named = os.environ.get("BUS_JOB_TRAINING")
    return train(Path(named)) if named else train(HERE / "data" / "inquiries.csv", HERE / "data" / "articles")


# This file is a program: its host imports it to start the agent, which is ready only after this line.
model = trained()


@agent.capability("understanding")
def understand(request: Message) -> dict[str, Any]:
    """Answer `understanding.requested`: {text}."""
    data: Any = request.data  # the bus has checked it against understanding.request.v1
    best, *others = model.guess(data["text"])
    return {**asdict(best), "alternatives": [asdict(other) for other in others]}
