"""Message Translator: replace the payload by one built from it."""

from __future__ import annotations

from typing import Any

from bus.core.expression import Leaf
from bus.core.plain import form_of, meaning
from bus.core.spec import Field, Leaves, Record, Spec, Text
from bus.core.work import Ended, Step, Work


def build(parsed: dict[str, Any]) -> Step:
    data: Leaf = parsed["data"]
    named: str | None = parsed.get("type")

    def step(work: Work) -> Ended | None:
        work.names["data"] = data(work.names)
        if named is not None:
            msg = work.names["msg"]
            work.names["msg"] = {**msg, "type": named} if isinstance(msg, dict) else {"type": named}
        work.notes.append("translate")
        return None

    form = form_of(data)
    return meaning(step, None if form is None or named is not None else {"kind": "translate", "data": form})


SPEC = Spec(
    kind="translate",
    pattern="Message Translator",
    summary="Replaces the payload; `type` also renames the message for the steps that follow (`msg.type`).",
    shape=Record(
        {
            "data": Field(Leaves(), "The new payload; strings may be `{{ CEL }}`."),
            "type": Field(Text(), "The message type that the payload now has.", required=False),
        }
    ),
    build=build,
    example="""\
translate:
  data: {name: "{{ data.name }}"}
""",
)
