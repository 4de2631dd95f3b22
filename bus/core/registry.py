"""The table of steps. Adding a step is one file exporting SPEC and one line here; nothing scans, nothing registers."""

from __future__ import annotations

from collections.abc import Mapping

from bus.core.spec import Spec
from bus.core.steps import (
    call,
    choose,
    claim_check,
    contract,
    delay,
    detour,
    enrich,
    fail,
    filter,
    keep,
    label,
    load_balance,
    recipient_list,
    redact,
    remove,
    render,
    sample,
    scatter_gather,
    set,
    split,
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
        claim_check.SPEC,
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
        delay.SPEC,
        detour.SPEC,
        use.SPEC,
        fail.SPEC,
    )
}
