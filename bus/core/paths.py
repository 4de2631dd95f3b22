"""Reading and writing places in `data` and `vars` by path, always copying what is changed.

`request` is the message as it was matched, and other branches may hold the same tree, so a write copies the maps
along its path and nothing else.
"""

from __future__ import annotations

from bus.core.errors import StepFailed
from bus.core.expression import Path
from bus.core.message import Json


def put(names: dict[str, Json], path: Path, value: Json) -> None:
    """Write `value` at `path`, making the maps that are missing.

    Raises:
        StepFailed: something on the way is not a map.
    """
    if len(path) == 1:
        names[path[0]] = value
        return
    root = _copied(names.get(path[0]), path, 1)
    names[path[0]] = root
    for depth, key in enumerate(path[1:-1], start=2):
        child = _copied(root.get(key), path, depth)
        root[key] = child
        root = child
    root[path[-1]] = value


def _copied(value: Json, path: Path, depth: int) -> dict[str, Json]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise StepFailed(
            "internal", f"`{'.'.join(path[:depth])}` is not a map, so `{'.'.join(path)}` cannot be written"
        )
    return dict(value)


def find(names: dict[str, Json], path: Path) -> tuple[bool, Json]:
    """Return (True, value) at `path`, or (False, None) when there is none."""
    value: Json = names
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return False, None
        value = value[key]
    return True, value


def drop(names: dict[str, Json], path: Path) -> None:
    """Remove what is at `path`; nothing happens when there is nothing."""
    found, _ = find(names, path)
    if not found:
        return
    if len(path) == 1:
        names[path[0]] = {}
        return
    parent_path = path[:-1]
    _, parent = find(names, parent_path)
    assert isinstance(parent, dict)  # find() walked through it
    put(names, parent_path, {key: value for key, value in parent.items() if key != path[-1]})
