"""`bus schema`: the JSON Schema of the YAML documents, for editors."""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from bus.core.errors import BusError


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
def schema(file: Path | None) -> int:
    """Write the JSON Schema (2020-12) of integrations, agents, routes and tests to FILE, or print it.

    With it an editor completes keys, shows what they mean, and marks what is unknown. `bus new` writes it
    to .schema.json beside the integrations, and into each file the line that editors look for. `bus lint`
    knows more: what it accepts, the schema accepts.

    \b
    Examples:
      bus schema routes/.schema.json
      # yaml-language-server: $schema=../.schema.json      the first line of a file in routes/hello
    """
    text = schema_text()
    if file is None:
        click.echo(text, nl=False)
        return 0
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BusError(f"cannot write `{file}`: {error.strerror}; name a file in a folder that exists") from error
    return 0


def schema_text() -> str:
    """The schema as a file holds it."""
    from bus.config.editor_schema import editor_schema
    from bus.core.registry import STEPS

    return json.dumps(editor_schema(STEPS), indent=1, ensure_ascii=False) + "\n"
