"""Memory that a training frees and asks for again at every step stays with the process."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # malloc.h
_LARGEST = 2**31 - 1  # bytes


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep what is freed; return whether it was told (musl and macOS have no such call).

    A step's activations are blocks of tens of megabytes. By default each one is mapped and returned anew, and the
    kernel clears its pages again (`tests/test_heap.py` counts the page faults). So no block is mapped by itself. To
    raise the size from which blocks are mapped would not last: under Python 3.11 TensorFlow sets it to 128 KiB as soon
    as a dataset comes from a generator (``ApplyPython311MemoryPatch``), which every ``fit`` on batches of ours does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    options = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST))
    told = [mallopt(option, value) for option, value in options]
    return all(told)
