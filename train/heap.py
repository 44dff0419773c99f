"""Memory that a training frees and asks for again at every step stays with the process."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h
_LARGEST = 2**31 - 1  # bytes; a larger block still goes back to the system


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep what is freed; return whether it was told (musl and macOS have no such call).

    A step's activations are blocks of tens of megabytes. By default each one is mapped and returned anew, and the
    kernel clears its pages again (`tests/test_heap.py` counts the page faults).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    options = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _LARGEST))
    told = [mallopt(option, value) for option, value in options]
    return all(told)
