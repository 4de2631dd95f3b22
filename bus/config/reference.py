"""The reference of the steps, written from their specs: what a step is, what stands under its key, an example.

`routes/README.md` holds it between marks; `fill` puts it there.
"""

from __future__ import annotations

from collections.abc import Mapping

from bus.core.spec import (
    Choice,
    Duration,
    Expr,
    FlowShape,
    Integer,
    Leaves,
    ListOf,
    MapOf,
    Number,
    PathTo,
    Rate,
    Record,
    SchemaFile,
    Shape,
    Size,
    Spec,
    TableFile,
    TargetShape,
    TemplateFile,
    Text,
)

_WORDS: dict[type, str] = {
    Leaves: "value",
    PathTo: "path",
    SchemaFile: "schema file",
    TemplateFile: "template file",
    TableFile: "JSON or CSV file",
    Text: "text",
    Integer: "whole number",
    Duration: "duration",
    Rate: "rate",
    Size: "size",
    TargetShape: "target",
    FlowShape: "flow",
}


def steps_reference(steps: Mapping[str, Spec]) -> str:
    """Return the Markdown of all steps, in the table's order."""
    return "\n".join(_step(spec) for spec in steps.values())


def patterns_table(steps: Mapping[str, Spec], tests: Mapping[str, str]) -> str:
    """Return the Markdown table of patterns, by name.

    Args:
        tests: for each step the file that tests it, relative to the repository.
    """
    lines = ["| pattern | step | file | test |", "|---|---|---|---|"]
    for spec in sorted(steps.values(), key=lambda each: (each.pattern, each.kind)):
        file, test = f"bus/core/steps/{spec.kind}.py", tests[spec.kind]
        step = f"[`{spec.kind}`](#{spec.kind})"
        lines.append(f"| {spec.pattern} | {step} | {_file(file)} | {_file(test)} |")
    return "\n".join(lines)


def _file(path: str) -> str:
    """A link from `routes/README.md`."""
    return f"[{path.rpartition('/')[2]}](../{path})"


def fill(readme: str, name: str, text: str) -> str:
    """Put a text between the marks `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises:
        ValueError: the marks are not there.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = readme.partition(start)
    _, ends, after = rest.partition(end)
    if not found or not ends:
        raise ValueError(f"there are no marks for `{name}`")
    return f"{before}{start}\n{text.strip()}\n\n{end}{after}"


def _step(spec: Spec) -> str:
    lines = [f"### {spec.kind}", "", f"*{spec.pattern}.* {spec.summary}", ""]
    if isinstance(spec.shape, TargetShape) and spec.shape.fields:
        lines += ["Takes: a target, and beside it:", ""]
    if isinstance(spec.shape, Record) or (isinstance(spec.shape, TargetShape) and spec.shape.fields):
        lines += ["| key | what | |", "|---|---|---|"]
        for name, field in spec.shape.fields.items():
            need = "" if field.required else "optional"
            lines.append(f"| `{name}` | {field.doc} ({shape_words(field.shape)}) | {need} |")
        if spec.shape.flow:
            lines.append("| `steps`, `to` | What runs. (flow) |  |")
    else:
        lines.append(f"Takes: {shape_words(spec.shape)}.")
    example = spec.example.rstrip().splitlines()
    return "\n".join([*lines, "", *(f"    - {row}" if n == 0 else f"      {row}" for n, row in enumerate(example)), ""])


def shape_words(shape: Shape) -> str:
    """Say in words what a shape takes."""
    match shape:
        case Expr(type=kind):
            return "CEL" if kind == "any" else f"CEL giving a {kind}"
        case Choice(values=values):
            return "one of " + ", ".join(f"`{value}`" for value in values)
        case Number(least=least, most=most):
            return f"number from {least:g} to {most:g}"
        case ListOf(item=item):
            return f"list of {shape_words(item)}"
        case MapOf(value=value, keys=keys):
            return f"map of {keys} to {shape_words(value)}"
        case TargetShape(fields=fields, flow=flow) if fields:
            beside = ", ".join(f"`{name}`" for name in fields)
            return f"target{' or `steps`' if flow else ''}, with {beside}"
        case Record(fields=fields, flow=flow):
            named = [f"`{name}`" for name in fields] + (["`steps`", "`to`"] if flow else [])
            return "map with " + ", ".join(named)
        case _:
            return _WORDS[type(shape)]


__all__ = ["fill", "patterns_table", "shape_words", "steps_reference"]
