"""Who does the work: this process, or a pool of processes that outlives the death of one.

An engine takes calls and gives their results back in any order. Results are plain values; an engine never loses a call
and never gives a result twice.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from .work import Failed

Call = tuple[Any, Callable[..., Any], tuple[Any, ...]]  # a key, a function, its arguments


class Engine(Protocol):
    """What `edge_runtime.archive.run` needs."""

    @property
    def window(self) -> int:
        """Calls to keep under way."""

    def submit(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Take a call."""

    def take(self) -> tuple[Any, Any]:
        """Wait for a result and return it with its key; `Failed` where there can be none."""

    def close(self) -> None:
        """Let go of processes; calls that are under way are given up."""


class Serial:
    """The work in this process, one call at a time."""

    window = 1

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def submit(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Take a call."""
        self._calls.append((key, function, arguments))

    def take(self) -> tuple[Any, Any]:
        """Do the oldest call."""
        key, function, arguments = self._calls.pop(0)
        return key, function(*arguments)

    def close(self) -> None:
        """Nothing to let go of."""


class Pool:
    """The work in processes of this machine.

    When a process dies (killed for its memory, or by a fault in a library), the calls that were under way are done
    again one by one, so that only the one that kills is given up, after its second try.

    Parameters
    ----------
    workers : int
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool = self._make()
        self._under_way: dict[Future[Any], Call] = {}
        self._again: list[Call] = []  # to be done with nothing beside

    @property
    def window(self) -> int:
        """One call more than processes, so that none waits for us."""
        return self.workers + 1

    def _make(self) -> ProcessPoolExecutor:
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            context.set_forkserver_preload(["edge_runtime.archive.work"])
        return ProcessPoolExecutor(self.workers, mp_context=context)

    def submit(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Take a call."""
        call: Call = (key, function, arguments)
        try:
            self._under_way[self._pool.submit(function, *arguments)] = call
        except BrokenProcessPool:  # noticed by nobody yet
            self._again.append(call)

    def take(self) -> tuple[Any, Any]:
        """Wait for a result."""
        while self._under_way:
            ready, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
            future = next(iter(ready))
            call = self._under_way.pop(future)
            try:
                return call[0], future.result()
            except BrokenProcessPool:
                self._again.append(call)
        self._renew()
        key, function, arguments = self._again.pop(0)
        for _ in range(2):
            try:
                return key, self._pool.submit(function, *arguments).result()
            except BrokenProcessPool:
                self._renew()
        what = next((a for a in arguments if isinstance(a, str)), "a recording")
        return key, Failed(f"{what}: the process that worked on it died twice; is there enough memory?")

    def _renew(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._make()

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)
