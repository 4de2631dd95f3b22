"""Where the time of the machine's cores goes while something is measured: the kernel's own counts, in ticks of 10 ms.

On a shared machine a rate tells little; what a message takes of the cores, and of whose time, tells what to work on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Cores(NamedTuple):
    """Seconds of one core, summed over all cores: since boot, or between two looks.

    Fields:
        broker: the private node's process, in and out of the kernel.
        own: this process.
        others: interrupts and all other processes.
        idle: nothing to do, and waiting for the disk.
        stolen: the hypervisor gave it to somebody else.
    """

    broker: float
    own: float
    others: float
    idle: float
    stolen: float

    def since(self, before: Cores) -> Cores:
        """What went by since an earlier look."""
        return Cores(*(now - then for now, then in zip(self, before, strict=True)))


@dataclass(frozen=True, slots=True)
class CoreTimes:
    """Looks at the cores' time.

    Args:
        broker: process of the private node.
        proc: where the kernel tells it.
    """

    broker: int
    proc: Path = Path("/proc")

    def look(self) -> Cores | None:
        """The counts since boot; None where the kernel does not tell (it is not Linux), or the broker is gone."""
        try:
            machine = (self.proc / "stat").read_text().partition("\n")[0].split()
            broker = self._of(self.broker)
            own = self._of(os.getpid())
            # user, nice, system, idle, iowait, irq, softirq, steal (proc(5)); guests are in user and nice already.
            user, nice, system, idle, iowait, irq, softirq, steal = (int(each) for each in machine[1:9])
        except (OSError, ValueError, IndexError):
            return None
        busy = user + nice + system + irq + softirq
        ticks = broker, own, busy - broker - own, idle + iowait, steal
        return Cores(*(each / os.sysconf("SC_CLK_TCK") for each in ticks))

    def _of(self, pid: int) -> int:
        """utime and stime, fields 14 and 15, counted after the name's parenthesis."""
        fields = (self.proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
