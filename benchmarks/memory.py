"""Memory of this process, from Linux' own books.

RSS counts every resident page, PSS shares common pages among their users, USS counts those that only this process
has: it falls when another process loads the same library. Anonymous pages belong to no file: what the process itself
allocated, whoever else runs. The peak is the high-water mark of RSS since the process began.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """Bytes; None where the system does not tell (all but RSS outside Linux)."""

    rss: int | None
    pss: int | None
    uss: int | None
    anonymous: int | None = None

    def to_dict(self) -> dict[str, int | None]:
        """Return plain values that JSON can hold."""
        return asdict(self)


def now() -> Memory:
    """Return the process' memory as it is."""
    try:
        text = Path("/proc/self/smaps_rollup").read_text()
    except OSError:
        return Memory(_status("VmRSS"), None, None)
    kib = {}
    for line in text.splitlines()[1:]:
        key, _, value = line.partition(":")
        kib[key] = int(value.split()[0])
    uss = kib.get("Private_Clean", 0) + kib.get("Private_Dirty", 0)
    return Memory(kib["Rss"] * 1024, kib["Pss"] * 1024, uss * 1024, kib["Anonymous"] * 1024)


def peak() -> int | None:
    """Return the largest RSS so far, bytes."""
    value = _status("VmHWM")
    if value is not None:
        return value
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":")), None)
