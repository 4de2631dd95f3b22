"""The table of steps. Adding a step is one file exporting SPEC and one line here; nothing scans, nothing registers."""

from __future__ import annotations

from collections.abc import Mapping

from bus.core.spec import Spec
from bus.core.steps import (
    call,
    choose,
    contract,
    delay,
    fail,
    filter,
    keep,
    recipient_list,
    remove,
    render,
    scatter_gather,
    set,
    translate,
    wire_tap,
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
        render.SPEC,
        contract.SPEC,
        recipient_list.SPEC,
        wire_tap.SPEC,
        call.SPEC,
        scatter_gather.SPEC,
        delay.SPEC,
        fail.SPEC,
    )
}
