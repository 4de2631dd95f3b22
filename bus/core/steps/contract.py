"""Canonical Data Model: check the payload against a contract in the middle of a route."""

from __future__ import annotations

from bus.core.errors import StepFailed
from bus.core.expression import Contract
from bus.core.spec import SchemaFile, Spec
from bus.core.work import Ended, Step, Work


def build(contract: Contract) -> Step:
    def step(work: Work) -> Ended | None:
        findings = contract.check(work.names["data"])
        if findings:
            first = findings[0]
            raise StepFailed(
                "contract",
                f"{contract.name}: {first.pointer or '/'} expected {first.expected}, got {first.got}",
                findings,
            )
        work.notes.append(f"contract {contract.name} kept")
        return None

    return step


SPEC = Spec(
    kind="contract",
    pattern="Canonical Data Model",
    summary="Fails with class `contract` and every failing field when the payload breaks the schema.",
    shape=SchemaFile(),
    build=build,
    example="contract: schemas/payment.v1.json",
)
