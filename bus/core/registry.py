"""The table of steps. Adding a step is one file exporting SPEC and one line here; nothing scans, nothing registers."""

from __future__ import annotations

from collections.abc import Mapping

from bus.core.spec import Spec
from bus.core.steps import (
    aggregate,
    call,
    choose,
    circuit_breaker,
    contract,
    delay,
    detour,
    dynamic_router,
    enrich,
    fail,
    filter,
    idempotent,
    keep,
    label,
    load_balance,
    loop,
    recipient_list,
    redact,
    remove,
    render,
    resequence,
    routing_slip,
    sample,
    scatter_gather,
    set,
    split,
    throttle,
    translate,
    unwrap,
    use,
    wire_tap,
    wrap,
)

STEPS: Mapping[str, Spec] = {
    spec.kind: spec
    for spec in (
        filter.SPEC,
        choose.SPEC,
        translate.SPEC,
        set.SPEC,
        keep.SPEC,
        remove.SPEC,
        redact.SPEC,
        enrich.SPEC,
        render.SPEC,
        contract.SPEC,
        label.SPEC,
        wrap.SPEC,
        unwrap.SPEC,
        sample.SPEC,
        load_balance.SPEC,
        split.SPEC,
        recipient_list.SPEC,
        wire_tap.SPEC,
        call.SPEC,
        scatter_gather.SPEC,
        routing_slip.SPEC,
        dynamic_router.SPEC,
        loop.SPEC,
        circuit_breaker.SPEC,
        aggregate.SPEC,
        resequence.SPEC,
        idempotent.SPEC,
        throttle.SPEC,
        delay.SPEC,
        detour.SPEC,
        use.SPEC,
        fail.SPEC,
    )
}
