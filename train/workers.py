"""A pool of processes that use the cores this process may use, and that end when it ends, however it ends."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

_EVERY_S = 1.0

# What a fork inherits is its parent's to collect: TensorFlow aborts a process that frees a traced function without
# TensorFlow's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=gc.freeze)


def cores() -> int:
    """Return how many cores this process may use."""
    there = os.cpu_count() or 1
    return min(there, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else there


def worker_pool(
    count: int | None = None, *, start: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """Return a pool whose processes call ``start(*arguments)`` first.

    Parameters
    ----------
    count : int, optional
        Of processes; one a core by default.
    """
    return ProcessPoolExecutor(count or cores(), initializer=_begin, initargs=(os.getpid(), start, arguments))


def _begin(parent: int, start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    # Each worker holds both ends of the pool's pipes, so one whose parent was killed would wait for ever.
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    if start is not None:
        start(*arguments)


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY_S)
    os._exit(1)
