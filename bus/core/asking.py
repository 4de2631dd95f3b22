"""Asking an agent from within a flow, and asking again when its answer breaks the contract.

Contract repair: the request goes out once more with the attribute `repair`, JSON text that says what was wrong: which
of how many repairs this is, every failing field, and what the agent said, as far as it fits. So an agent that makes its
answers by a model can show the model its mistake.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

from bus.core.dispatch import dispatch
from bus.core.errors import StepFailed
from bus.core.memory import BEGAN
from bus.core.message import REPAIR, Attribute, Json
from bus.core.work import Target, Work

_ATTEMPT = re.compile(r"@[0-9]+$")
_SAID_LETTERS = 2000  # of the answer, and a dozen findings: together below the 4 KiB that an attribute may have
_MOST_FINDINGS = 12
_MOST_LETTERS = 60


def ask(
    target: Target, work: Work, timeout_s: float | None = None, deadline_s: float | None = None, repairs: int = 0
) -> Json:
    """The data of the answer.

    Args:
        timeout_s: seconds for one attempt, or None.
        deadline_s: seconds for all attempts of the step together, or None.
        repairs: how often an answer that breaks its contract goes back to the agent.

    Raises:
        Suspended: there is no answer yet.
        StepFailed: there will be none, or none that can be used.
    """
    memory, at = work.remembering, work.at
    if deadline_s is not None:
        began = cast("float", memory.once(BEGAN + _ATTEMPT.sub("", at), lambda: memory.now_s))
        left = max(0.0, began + deadline_s - memory.now_s)
        timeout_s = left if timeout_s is None else min(timeout_s, left)
    path = at
    attributes: dict[str, Attribute] = {}
    for repair in range(1, repairs + 2):
        try:
            answer = memory.ask(path, lambda: dispatch(target, work, answerable=False), timeout_s, attributes)
            work.gain(str(cast("dict[str, Any]", memory.known(path)).get("labels", "")))
            return answer
        except StepFailed as error:
            said = cast("dict[str, Any] | None", memory.known(path))
            if repair > repairs or said is None or "said" not in said:
                raise
            work.notes.append(f"repair {repair} of {repairs}: {error.reason}")
            attributes = {REPAIR: _repair(repair, repairs, error, said["said"])}
            path = f"{at}.repair{repair}"
    raise AssertionError("the last round returns or raises")


def _repair(repair: int, of: int, error: StepFailed, said: Json) -> str:
    text = json.dumps(said, ensure_ascii=True)
    findings = [
        {
            "pointer": each.pointer[:_MOST_LETTERS],
            "expected": each.expected[:_MOST_LETTERS],
            "got": each.got[:_MOST_LETTERS],
        }
        for each in error.findings[:_MOST_FINDINGS]
    ]
    room = _SAID_LETTERS if len(findings) > 3 else _SAID_LETTERS + 1000
    return json.dumps({"attempt": repair, "of": of, "findings": findings, "said": text[:room]}, ensure_ascii=True)[
        :4000
    ]
