"""What this process does when an operator has told all of them something: see bus.core.control."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from bus.shell.controls import Standing
from bus.shell.telemetry.logs import set_level

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Obedience:
    """Args:
    level: log level that the settings say.
    reload, drain: begin to do that; they return at once.
    """

    level: str
    reload: Callable[[], None] | None = None
    drain: Callable[[], None] | None = None
    _known: Standing | None = None

    def told(self, standing: Standing) -> None:
        """Follow what is new; what all processes were to do once is not done for what was said before the start."""
        before, self._known = self._known, standing
        level = standing.level or self.level
        if level != ((before and before.level) or self.level):
            set_level(level)
            _log.warning("log level %s", level)
        for what in standing.paused ^ (before.paused if before else frozenset()):
            _log.warning("%s %s", what, "is paused" if what in standing.paused else "goes on")
        if before is None:
            return
        for verb, act in (("reload", self.reload), ("drain", self.drain)):
            if act is not None and standing.stamps.get(verb) != before.stamps.get(verb):
                act()
