"""A configuration as bytes, to be compiled again when the files are gone: runs stay with the one that they began under.

It holds the files as they were read and what configuration values took from the environment (`env:`), so that neither
a later edit nor another environment changes a run that is under way. What `${VAR}` and `${file:}` gave is not in it:
no secret is stored, and one that was replaced meanwhile is the new one for older versions, too.
"""

from __future__ import annotations

import json
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError

from bus.core.errors import StoreFailed

_FORMAT = 1
_MOST_BYTES = 256 << 20  # of one configuration, unpacked: a damaged row must not fill the memory


@dataclass(frozen=True, slots=True)
class Bundle:
    """Args:
    files: contents by `integration/path in its folder`.
    variables: what configuration values took from the environment; None for a variable that is not set.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    variables: Mapping[str, str | None] = field(default_factory=dict)

    def pack(self) -> bytes:
        """Write it, compressed."""
        files = {name: b64encode(data).decode() for name, data in sorted(self.files.items())}
        text = json.dumps({"v": _FORMAT, "files": files, "variables": dict(self.variables)}, sort_keys=True)
        return ZstdCompressor().compress(text.encode())

    def environment(self, now: Mapping[str, str]) -> dict[str, str]:
        """The environment as its configuration values saw it, and as secrets are now."""
        pinned = {name: value for name, value in self.variables.items() if value is not None}
        return {**{name: value for name, value in now.items() if name not in self.variables}, **pinned}

    def lay_out(self, folder: Path) -> list[Path]:
        """Write the files below a folder; returns the integrations' folders."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return sorted({folder / name.partition("/")[0] for name in self.files})


def unpack(blob: bytes) -> Bundle:
    """Read what `Bundle.pack` wrote.

    Raises:
        StoreFailed: it is damaged, or of a newer agentbus.
    """
    try:
        made = json.loads(ZstdDecompressor().decompress(blob, max_output_size=_MOST_BYTES))
        if made["v"] != _FORMAT:
            raise StoreFailed(
                f"a configuration of format {made['v']} is of a newer agentbus; use the one that wrote it"
            )
        files = {name: b64decode(data) for name, data in made["files"].items()}
        return Bundle(files, made["variables"])
    except (ZstdError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreFailed(f"a configuration in the store is damaged: {error}") from error


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder to lay a bundle out in, readable by its owner only."""
    return tempfile.TemporaryDirectory(prefix="agentbus-config-")
