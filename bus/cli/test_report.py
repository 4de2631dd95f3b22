"""How `bus test` shows what it found: to people, to programs, in a pull request, to a CI server.

A failing test says, in this order: what was expected and where it is written, what came instead and why, the difference
line by line, and then all that happened, decision by decision, with what each step did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import rich_click as click

from bus.cli.common import Printer, printable
from bus.cli.dlq import finding_text
from bus.cli.explain import seen_data, seen_text
from bus.cli.tap import failure_data
from bus.config.finding import as_command
from bus.core.message import FLOW_TOLD
from bus.core.running import FLOW_DUE, REHOMED
from bus.rehearsal.coverage import UNITS, percent
from bus.rehearsal.matching import clipped, shown
from bus.rehearsal.stage import NOT_SENT, decoded
from bus.rehearsal.verdict import seconds

if TYPE_CHECKING:
    from bus.cli.suite import Suite
    from bus.core.actions import Decision, Output
    from bus.core.message import Message
    from bus.rehearsal.coverage import Point
    from bus.rehearsal.stage import Hop
    from bus.rehearsal.stand_ins import Call
    from bus.rehearsal.verdict import Miss, Outcome

_DATA = 120  # characters of a payload in the account of what happened
_EXPRESSIONS = 40  # of one decision; more hide the rest of it
_COLOURS = {"-": "red", "+": "green", "?": "cyan", "!": "yellow"}
_HEADS = {"FAIL": "red", "ok": "green", "because": "yellow"}


def report(suite: Suite, printer: Printer, *, listed: bool, least: float | None, verbose: bool) -> int:
    """Write it; returns the exit code."""
    shortfalls = suite.shortfalls(least)
    failed = [each for each in suite.outcomes if not each.passed]
    {"github": _github, "junit": _junit}.get(printer.form, _lines)(suite, printer, shortfalls, listed, verbose)
    return 1 if failed or suite.refused or shortfalls else 0


def _lines(suite: Suite, printer: Printer, shortfalls: tuple[str, ...], listed: bool, verbose: bool) -> None:
    for finding in suite.findings:
        printer.emit(finding.as_dict(), str(finding))
    for outcome in suite.outcomes:
        if printer.form == "json":
            printer.emit(as_data(outcome, verbose), "")
        elif not outcome.passed or verbose:
            for line in outcome_lines(outcome, verbose):
                _echo(line)
    if suite.refused:
        printer.note("nothing was tested: the configuration has errors")
        return
    missed = suite.coverage.missed(suite.named) if listed else ()
    for point in missed:
        printer.emit(_point(point), point_text(point))
    for text in shortfalls:
        printer.emit({"shortfall": text}, f"coverage: {text}")
    printer.emit(summary_data(suite), summary(suite))


def _echo(line: str) -> None:
    """A line for people; a diff is coloured on a terminal, and only there."""
    first = line.split(maxsplit=1)[0] if line.strip() else ""
    text = printable(line)
    bold = line.startswith(("FAIL ", "ok "))
    colour = _HEADS.get(first) if bold or line.startswith("  because ") else _COLOURS.get(first)
    click.echo(click.style(text, fg=colour, bold=bold) if colour else text)


# --- people -------------------------------------------------------------------------------------------------------


def outcome_lines(outcome: Outcome, every: bool) -> Iterator[str]:
    """One test, as people read it.

    Args:
        every: show the expressions of all decisions, not only where a look at them may be wanted.
    """
    test = outcome.test
    yield f"{'ok  ' if outcome.passed else 'FAIL'} {test.where}  {test.name}"
    yield from _misses(outcome)
    yield ""
    yield from account(outcome, every)
    yield ""


def _misses(outcome: Outcome) -> Iterator[str]:
    """What was expected and did not come; one failure often explains them all, and is said once."""
    known: set[str] = set()
    for miss in outcome.misses:
        yield ""
        yield from _miss_lines(miss, outcome.test.path, miss.because in known)
        known.add(miss.because)


def _miss_lines(miss: Miss, path: str, known: bool = False) -> Iterator[str]:
    yield f"  expected  {miss.expected}    ({path}:{miss.line})"
    yield f"  but       {miss.got}"
    if miss.because:
        yield f"  because   {'(as above)' if known else miss.because}"
    for line in miss.lines:
        yield f"    {line.mark} {'  ' * line.depth}{line.text}"


def account(outcome: Outcome, every: bool = False) -> Iterator[str]:
    """All that happened, in order."""
    if not outcome.hops:
        yield "  nothing happened"
        return
    yield f"  what happened in {seconds(outcome.took_s)}"
    calls = {each.request.id: each for each in outcome.calls}
    shown_in = {miss.hop for miss in outcome.misses}
    for hop in outcome.hops:
        if hop.decision.why == REHOMED and not every:
            continue  # only the way to where it is decided, which comes next
        yield from _hop_lines(hop, calls, hop.number in shown_in, every)
    for text in outcome.waiting:
        yield f"          ! {text}"


def _hop_lines(hop: Hop, calls: dict[str, Call], pointed: bool, every: bool) -> Iterator[str]:
    decision, message = hop.decision, hop.message
    yield f"  {'>' if pointed else ' '} {seconds(hop.at_s):>6}  {_what(message)}"
    yield f"            {decided(decision)}"
    if pointed or every or decision.failure is not None or decision.end == "filtered":
        texts = list(dict.fromkeys(seen_text(each) for each in hop.aside))
        yield from (f"              {text}" for text in texts[:_EXPRESSIONS])
        if len(texts) > _EXPRESSIONS:
            yield f"              ... and {len(texts) - _EXPRESSIONS} more expressions; --output json has them all"
    for step in decision.steps:
        yield f"          {'!' if ': failed (' in step else ' '}   {step}"
    if decision.failure is not None:
        failure = failure_data(decision.failure)
        if not any(failure["reason"] in step for step in decision.steps):
            yield f"          !   {failure['class']} [{failure['code']}]: {failure['reason']}"
        for each in failure["findings"]:
            yield f"          !     {finding_text(each)}"
    elif decision.reason and decision.reason not in decision.steps:
        yield f"              {decision.reason}"
    for output in decision.outputs:
        if output.kind not in NOT_SENT:
            yield f"              -> {_sent(output)}{_answer(calls.get(output.id))}"


def _what(message: Message | None) -> str:
    if message is None:
        return "(not a message)"
    if message.type == FLOW_DUE:
        return "the time has come"
    if message.type == FLOW_TOLD:
        return "word of it comes to the run"
    return f"{message.type} from {message.source}  {clipped(shown(message.data), _DATA)}"


def _sent(output: Output) -> str:
    if output.kind in ("dead", "invalid"):
        return f"{output.target}  {output.type} as it came"
    type_ = "" if output.kind in ("event", "ingress") else f"  {output.type}"
    if output.type == FLOW_TOLD:
        return "the run that waits for it"
    target = output.target if output.kind != "ingress" else f"event:{output.type}"
    return f"{target}{type_}  {clipped(shown(decoded(output).data), _DATA)}"


def _answer(call: Call | None) -> str:
    if call is None:
        return ""
    if call.stub is None:
        return f"  (no stub says what `{call.capability}` answers)"
    after = f" after {seconds(call.stub.after_s)}" if call.stub.after_s else ""
    how = {"reply": "answers", "fail": f"fails with {call.stub.failure}", "never": "never answers"}[call.stub.how]
    return f"  ({call.agent} {how}{after})"


def decided(decision: Decision) -> str:
    """Who took a message and why, in one line."""
    if decision.route:
        where = ", ".join(each for each in (decision.where, decision.why) if each)
        return f"{decision.end}: route {decision.route} ({where})"
    return f"{decision.end}: {decision.why}" if decision.why else decision.end


def point_text(point: Point) -> str:
    place = point.place
    what = "route" if point.unit == "routes" else ""
    return (
        f"{place.path}:{place.line}:{place.col}: {what}{' ' if what else ''}{point.what}: `{clipped(place.text, 80)}`"
    )


def summary(suite: Suite) -> str:
    """`3 passed, 1 failed, branches 92 % (no broker, 0.02 s)`."""
    failed = sum(not each.passed for each in suite.outcomes)
    parts = [f"{len(suite.outcomes) - failed} passed"] + ([f"{failed} failed"] if failed else [])
    if suite.whole:
        counts = suite.coverage.counts(suite.named)
        less = [unit for unit in UNITS[:2] if counts[unit][0] < counts[unit][1]]
        parts += [f"{unit} {percent(*counts[unit]):.0f} %" for unit in (*less, "branches")]
    return f"{', '.join(parts)} (no broker, {suite.took_s:.2f} s)"


# --- programs -----------------------------------------------------------------------------------------------------


def as_data(outcome: Outcome, verbose: bool) -> dict[str, Any]:
    """One test, for programs; what happened only where it failed, or when all is wanted."""
    test = outcome.test
    data: dict[str, Any] = {
        "test": test.name,
        "path": test.path,
        "line": test.line,
        "integration": test.integration,
        "passed": outcome.passed,
        "virtual_s": round(outcome.took_s, 3),
    }
    if not outcome.passed:
        data["misses"] = [_miss_data(each) for each in outcome.misses]
    if verbose or not outcome.passed:
        data["waiting"] = list(outcome.waiting)
        data["happened"] = [_hop_data(each) for each in outcome.hops]
    return data


def _miss_data(miss: Miss) -> dict[str, Any]:
    diff = [f"{each.mark} {'  ' * each.depth}{each.text}" for each in miss.lines]
    return {
        "line": miss.line,
        "expected": miss.expected,
        "got": miss.got,
        "because": miss.because or None,
        "diff": diff,
        "decision": miss.hop,
    }


def _hop_data(hop: Hop) -> dict[str, Any]:
    decision, message = hop.decision, hop.message
    return {
        "at_s": round(hop.at_s, 3),
        "type": None if message is None else message.type,
        "source": None if message is None else message.source,
        "data": None if message is None else message.data,
        "end": decision.end,
        "route": decision.route,
        "where": decision.where,
        "why": decision.why,
        "reason": decision.reason,
        "expressions": [seen_data(each) for each in hop.aside],
        "steps": list(decision.steps),
        "failure": None if decision.failure is None else failure_data(decision.failure),
        "outputs": [{"target": each.target, "type": each.type} for each in decision.outputs],
    }


def summary_data(suite: Suite) -> dict[str, Any]:
    counts = suite.coverage.counts(suite.named)
    failed = sum(not each.passed for each in suite.outcomes)
    covered = {unit: {"reached": counts[unit][0], "of": counts[unit][1]} for unit in UNITS}
    return {
        "passed": len(suite.outcomes) - failed,
        "failed": failed,
        "coverage": covered if suite.whole else None,
        "took_s": round(suite.took_s, 3),
    }


def _point(point: Point) -> dict[str, Any]:
    place = point.place
    return {
        "uncovered": point.unit,
        "route": place.route,
        "path": place.path,
        "line": place.line,
        "col": place.col,
        "what": point.what,
    }


# --- pull requests and CI servers ---------------------------------------------------------------------------------


def _github(suite: Suite, printer: Printer, shortfalls: tuple[str, ...], listed: bool, verbose: bool) -> None:
    for finding in suite.findings:
        click.echo(finding.as_github())
    for outcome in suite.outcomes:
        for miss in outcome.misses:
            text = "\n".join([*_miss_lines(miss, outcome.test.path), "", *account(outcome)])
            click.echo(as_command("error", outcome.test.path, miss.line, 1, outcome.test.name, printable(text)))
    for point in suite.coverage.missed(suite.named) if listed and not suite.refused else ():
        place = point.place
        click.echo(as_command("warning", place.path, place.line, place.col, "coverage", point_text(point)))
    for text in shortfalls:
        click.echo(f"::error title=coverage::{text}")
    click.echo(f"::notice title=bus test::{summary(suite)}")


def _junit(suite: Suite, printer: Printer, shortfalls: tuple[str, ...], listed: bool, verbose: bool) -> None:
    from xml.etree import ElementTree

    failed = sum(not each.passed for each in suite.outcomes)
    bad = [str(each) for each in suite.findings if each.severity == "error"]
    root = ElementTree.Element(
        "testsuites",
        tests=str(len(suite.outcomes) + len(bad) + len(shortfalls)),
        failures=str(failed + len(shortfalls)),
        errors=str(len(bad)),
        time=f"{suite.took_s:.3f}",
    )
    by_integration: dict[str, ElementTree.Element] = {}
    for outcome in suite.outcomes:
        name = outcome.test.integration
        if name not in by_integration:
            by_integration[name] = ElementTree.SubElement(root, "testsuite", name=name)
        case = _case(by_integration[name], name, outcome.test.name)
        case.set("file", outcome.test.path)
        case.set("line", str(outcome.test.line))
        for miss in outcome.misses:
            text = "\n".join([*_miss_lines(miss, outcome.test.path), "", *account(outcome)])
            said = f"expected {miss.expected}, but {miss.got}" + (f", because {miss.because}" if miss.because else "")
            ElementTree.SubElement(case, "failure", message=printable(said)).text = printable(text)
    for kind, texts in (("error", bad), ("failure", list(shortfalls))):
        if texts:
            group = ElementTree.SubElement(root, "testsuite", name="coverage" if kind == "failure" else "configuration")
            for text in texts:
                ElementTree.SubElement(_case(group, group.get("name", ""), text), kind, message=printable(text))
    ElementTree.indent(root)
    click.echo(ElementTree.tostring(root, encoding="unicode", xml_declaration=True))


def _case(group: Any, suite: str, name: str) -> Any:
    from xml.etree import ElementTree

    return ElementTree.SubElement(group, "testcase", classname=printable(suite), name=printable(name))
