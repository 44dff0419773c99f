"""Processes of this machine: when one began, what came from it, and ending all of that."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def kill(pid: int) -> None:
    """End a process and all that came from it (unshare takes its own with it, proot does not)."""
    for one in [pid, *descendants(pid)]:
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            pass


def descendants(pid: int) -> list[int]:
    """Return the processes that came from one and are still its children's children, by their parents in /proc."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def born(pid: int) -> int | None:
    """Return when a process began, clock ticks after the system's start; None when there is none or only its name."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])
