"""Whether what a route sends can keep the contract of whom it sends it to."""

from __future__ import annotations

from bus.config.contracts import LoadedContract
from bus.config.problem import Problem, did_you_mean
from bus.config.types import ANY, DOUBLE, INT, NEVER, List, Object, OneOf, Optional, Type, an, describe, options


def mismatches(produced: Type, wanted: LoadedContract) -> tuple[Problem, ...]:
    """Compare a value's static type with a contract.

    Args:
        produced: what the route makes.
        wanted: what the target accepts.

    Returns:
        `data-mismatch` problems; `pointer` says which part of the value is meant, "" the whole of it.
    """
    return tuple(_compare(produced, wanted.type, "", wanted.name))


def _compare(produced: Type, wanted: Type, pointer: str, name: str) -> list[Problem]:
    if ANY in options(wanted) or ANY in options(produced) or produced == NEVER or isinstance(produced, Optional):
        return []
    if isinstance(produced, OneOf):
        each = [_compare(option, wanted, pointer, name) for option in produced.options]
        return [] if any(not _errors(problems) for problems in each) else each[0]
    choices = [option for option in options(wanted) if _alike(produced, option)]
    if not choices:
        where = f"`{pointer.rpartition('/')[2]}` as {describe(wanted)}" if pointer else an(wanted)
        return [Problem(0, "data-mismatch", f"{name} needs {where}, got {an(produced)}", an(wanted), pointer=pointer)]
    each = [_inside(produced, option, pointer, name) for option in choices]
    return min(each, key=lambda problems: (len(_errors(problems)), len(problems)))


def _errors(problems: list[Problem]) -> list[Problem]:
    return [each for each in problems if each.severity == "error"]


def _alike(produced: Type, wanted: Type) -> bool:
    if produced == wanted or {produced, wanted} == {INT, DOUBLE}:
        return True
    return isinstance(produced, (List, Object)) and type(produced) is type(wanted)


def _inside(produced: Type, wanted: Type, pointer: str, name: str) -> list[Problem]:
    if isinstance(produced, List) and isinstance(wanted, List):
        return _compare(produced.item, wanted.item, f"{pointer}/0", name)
    if isinstance(produced, Object) and isinstance(wanted, Object):
        return _fields(produced, wanted, pointer, name)
    return []


def _fields(produced: Object, wanted: Object, pointer: str, name: str) -> list[Problem]:
    problems: list[Problem] = []
    missing = sorted(wanted.required - produced.fields.keys()) if produced.exact else []
    foreign = sorted(produced.fields.keys() - wanted.fields.keys()) if produced.exact else []
    for field in missing:
        close = did_you_mean(field, foreign)
        what = f"{name} needs `{field}`, got {f'`{close}`' if close else _listed(produced)}"
        at = f"{pointer}/{close}" if close else pointer
        problems.append(Problem(0, "data-mismatch", what, f"`{field}`", pointer=at))
        foreign = [each for each in foreign if each != close]
    for field in foreign if wanted.exact else ():
        close = did_you_mean(field, wanted.fields.keys() - produced.fields.keys())
        instead = f"`{close}`" if close else f"only {', '.join(f'`{each}`' for each in sorted(wanted.fields))}"
        problems.append(Problem(0, "data-mismatch", f"{name} has no `{field}`", instead, pointer=f"{pointer}/{field}"))
    for field in sorted(wanted.required & produced.fields.keys() - produced.required):
        what = f"{name} needs `{field}`, which may be absent here"
        problems.append(Problem(0, "data-mismatch", what, f"`{field}` with a default", "warning", f"{pointer}/{field}"))
    for field, type_ in produced.fields.items():
        if field in wanted.fields:
            problems.extend(_compare(type_, wanted.fields[field], f"{pointer}/{field}", name))
    return problems


def _listed(produced: Object) -> str:
    return ", ".join(f"`{each}`" for each in sorted(produced.fields)) or "nothing"
