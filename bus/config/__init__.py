"""Configuration: YAML and schemas to nodes with positions, to findings, to a catalog of routes.

`load` is the one entry: `bus lint` prints what it finds, `bus run` works from what it makes.
"""

from bus.config.finding import ConfigFinding
from bus.config.loading import Loaded, load

__all__ = ["ConfigFinding", "Loaded", "load"]
