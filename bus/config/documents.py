"""Documents: Jinja2 templates in `*.j2` files, for prompts, mails and reports; sandboxed, strict and bounded.

A template comes from the configuration, its values from messages, which are hostile. Jinja2's sandbox keeps
attributes and calls in check but knows no limit of time or memory, so what is left of the language here is what can
be bounded (see `document_rules`): no macros, no `**`, filters and methods from a list. Loops are counted and output
is generated piece by piece, up to 64 KiB. A field that is absent is an error, as in expressions; so is a list,
object or null where text is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bus.config import document_rules as rules
from bus.config.problem import Found, Problem, did_you_mean
from bus.config.text_form import text_form
from bus.core.errors import ExpressionFailed
from bus.core.expression import Names

MAX_OUTPUT = 64 * 1024
"""Longest rendered document, characters."""

_FAILURES = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class LoadedDocument:
    """A template file; it is a `bus.core.expression.Document`.

    Args:
        name: the file's path below its folder.
        names: the names that it reads.
    """

    name: str
    names: frozenset[str]
    _template: jinja2.Template = field(repr=False)

    def render(self, names: Names) -> str:
        """Render with the names that the template mentions.

        Raises:
            ExpressionFailed: a field is absent, a value has no text, or the output or work is too large.
        """
        values: dict[str, Any] = {name: names[name] for name in self.names if name in names}
        values[rules.BUDGET] = rules.Budget()
        pieces, left = [], MAX_OUTPUT
        try:
            for piece in self._template.generate(values):
                left -= len(piece)
                if left < 0:
                    raise ExpressionFailed(f"the document is longer than {MAX_OUTPUT} characters")
                pieces.append(piece)
        except ExpressionFailed as error:
            raise ExpressionFailed(f"{self.name}: {error}") from error
        except _FAILURES as error:
            raise ExpressionFailed(f"{self.name}: {str(error)[:200] or type(error).__name__}") from error
        return "".join(pieces)


def load_document(path: Path, root: Path) -> LoadedDocument | tuple[Problem, ...]:
    """Load a template and check it together with all that it includes.

    Args:
        path: the `*.j2` file, absolute or relative to `root`.
        root: folder that no include may leave.

    Returns:
        The document, or its problems: `missing-file`, `bad-template`, `unsafe-template`; offsets are in `Problem.file`.
    """
    root = root.resolve()
    try:
        environment = _Sandbox(root)
        name = _name(path, root)
        used = _check(environment, name, root, ())
        return LoadedDocument(name, frozenset(used), environment.get_template(name))
    except Found as found:
        return found.problems


def _name(path: Path, root: Path) -> str:
    full = (root / path).resolve()
    if not full.is_relative_to(root) or full.suffix != ".j2":
        what = f"{path.name} is no template of this folder"
        raise Found(Problem(0, "missing-file", what, "a `*.j2` file below it", file=full))
    if not full.is_file():
        close = did_you_mean(full.name, [each.name for each in full.parent.glob("*.j2")])
        shown = full.relative_to(root)
        instead = f"`{shown.with_name(close)}`" if close else "a template that exists"
        raise Found(Problem(0, "missing-file", f"there is no file {shown}", instead, file=full))
    return full.relative_to(root).as_posix()


def _check(environment: _Sandbox, name: str, root: Path, above: tuple[str, ...]) -> set[str]:
    """Check a template and everything that it includes; return the names that they read."""
    file = root / name
    if name in above:
        raise Found(Problem(0, "bad-template", f"{name} includes itself", "a loop", file=file))
    try:
        text = file.read_text("utf-8")
        tree = environment.parse(text, name, str(file))
        environment.compile(text, name, str(file))
    except (jinja2.TemplateSyntaxError, UnicodeDecodeError) as error:
        at = _line(file, getattr(error, "lineno", 1))
        raise Found(Problem(at, "bad-template", f"{name}: {str(error).splitlines()[0][:200]}", file=file)) from error
    except rules.Unsafe as unsafe:
        at = _line(file, unsafe.line)
        raise Found(Problem(at, "unsafe-template", f"{name}: {unsafe.what}", unsafe.instead, file=file)) from unsafe
    used = set(meta.find_undeclared_variables(tree)) - {"range"}
    for other in sorted(rules.included(tree)):
        try:
            inner = _name(Path(other), root)
        except Found as found:
            at = text.find(other)
            problem = found.problems[0]
            raise Found(Problem(max(at, 0), problem.code, problem.what, problem.instead, file=file)) from found
        used |= _check(environment, inner, root, (*above, name))
    return used


def _line(file: Path, number: int | None) -> int:
    """Return the offset at which a line starts; templates are reported by line."""
    try:
        lines = file.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return 0
    return sum(len(line) + 1 for line in lines[: (number or 1) - 1])


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, narrowed to what can be bounded."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, root: Path) -> None:
        super().__init__(
            loader=jinja2.FileSystemLoader(root),
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            optimized=False,
            auto_reload=False,
            finalize=_text,
            keep_trailing_newline=False,
        )
        self.filters = {**{name: self.filters[name] for name in rules.FILTERS}, **rules.BOUNDED_FILTERS}
        self.tests = {name: self.tests[name] for name in rules.TESTS}
        self.globals = {"range": rules.bounded_range}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return rules.bounded(super()._parse(source, name, filename))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Fields of an object come before methods of its Python type: `data.items` is the field."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def is_safe_callable(self, obj: Any) -> bool:
        if getattr(obj, "__self__", None) is not None:
            return getattr(obj, "__name__", "") in rules.METHODS
        return obj is rules.bounded_range or type(obj).__name__ == "BlockReference"

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        check: Callable[[Any, Any], None] | None = rules.OPERATORS.get(operator)
        if check is None:
            raise SecurityError(f"`{operator}` is not available in documents")
        check(left, right)
        return super().call_binop(context, operator, left, right)


def _text(value: Any) -> str:
    """Write a value into the document as `{{ }}` in a leaf would."""
    if isinstance(value, jinja2.Undefined):
        return str(value)  # says which name is absent
    return text_form(value)
