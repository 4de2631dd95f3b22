"""Rehearsals: routes run on a virtual clock, with stand-ins for the agents, and no broker, store or time of day.

Theory of operation. A `Stage` holds one table of routes, a clock and a queue of what is due. Every delivery goes
through the same `decide` as on the bus. Of the outputs, requests go to the stand-ins (`stand_ins`), which answer as an
agent with the SDK does; events that a route owns come round again; everything else is noted as `Seen`. The clock moves
only when nothing is due now, and then jumps to what is due next.

    script      a test as a value: what is sent, how agents answer, what is expected
    matching    expected data against actual data, as lines of a diff
    stage       the simulator
    verdict     what was seen against what was expected, and (causes) why it was not
    coverage    which routes, steps and branches ran

`bus test` runs scripts that people wrote; `bus replay` and `bus test --record` make them from the log (`recording`).
"""
