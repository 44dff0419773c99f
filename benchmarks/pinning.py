"""One core for a measuring process: the one that had least to do just before."""

from __future__ import annotations

import os
import time
from pathlib import Path


def busy_ticks() -> dict[int, int]:
    """Return the clock ticks in which each core did something, since the system began; empty outside Linux."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit():
            ticks = [int(field) for field in fields]
            found[int(name[3:])] = sum(ticks[:3]) + sum(ticks[5:8])  # all but idle and waiting for a disk
    return found


def quietest_core(seconds: float = 0.2) -> int | None:
    """Return the core of this process' that was least busy over some time; None where the system does not tell."""
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except AttributeError:
        return None
    before = busy_ticks()
    time.sleep(seconds)
    after = busy_ticks()
    known = [core for core in allowed if core in before and core in after]
    if not known:
        return allowed[-1]
    # of equals the last: a board's first core serves its interrupts
    return min(known, key=lambda core: (after[core] - before[core], -core))


def pin(threads: int = 1) -> int | None:
    """Keep this process on its quietest core, if it has one thread, and return that core; None if it was not done.

    To be called before an interpreter makes its threads.
    """
    core = quietest_core() if threads == 1 else None
    if core is None:
        return None
    try:
        os.sched_setaffinity(0, {core})
    except OSError:
        return None
    return core
