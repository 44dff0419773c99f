"""The work on a Ray cluster, for archives that outgrow one machine (``pip install 'edge-bench[ray]'``).

Tasks are pure: a lost worker or node costs a retry and nothing else. Results come back to this process, which alone
writes; so nothing can be written twice. The recordings must be at the same paths on all machines, and edge-bench
installed there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..errors import ConfigError
from .work import Failed

RETRIES = 5
_RECOUNT_S = 5.0  # seconds after which the cluster's processors are counted again


class RayEngine:
    """A cluster.

    Parameters
    ----------
    address : str or None
        Of the cluster, such as ``auto`` or ``ray://head:10001``; None starts one on this machine.
    retries : int
        Times that a call is done again when its worker or node is lost.

    Raises
    ------
    ConfigError
        If Ray is not installed or no cluster answers.
    """

    def __init__(self, address: str | None = None, *, retries: int = RETRIES) -> None:
        try:
            self._ray = import_module("ray")
        except ImportError:
            raise ConfigError("--engine ray needs Ray, which is not installed; pip install 'edge-bench[ray]'") from None
        self._own = not self._ray.is_initialized()
        if self._own:
            options = {"address": address} if address else {"include_dashboard": False}
            try:
                self._ray.init(log_to_driver=False, logging_level="error", **options)
            except Exception as error:  # a dozen types, from ConnectionError to its own
                reason = " ".join(str(error).split())[:300]
                raise ConfigError(f"no Ray cluster at {address or 'this machine'}: {reason}") from None
        self._retries = retries
        self._shared: dict[int, tuple[Any, Any]] = {}  # values that every call has, put into the cluster once
        self._functions: dict[Any, Any] = {}
        self._under_way: dict[Any, tuple[Any, str]] = {}
        self._processors, self._counted = 1, float("-inf")

    @property
    def window(self) -> int:
        """Twice as many calls as the cluster has processors; it may grow while we work."""
        now = time.monotonic()
        if now - self._counted > _RECOUNT_S:
            self._processors = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
            self._counted = now
        return 2 * self._processors

    def submit(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Take a call; its first argument is what all calls share."""
        shared, *rest = arguments
        if id(shared) not in self._shared:
            self._shared[id(shared)] = (shared, self._ray.put(shared))
        if function not in self._functions:
            self._functions[function] = self._ray.remote(max_retries=self._retries, num_cpus=1)(function)
        handle = self._functions[function].remote(self._shared[id(shared)][1], *rest)
        self._under_way[handle] = (key, str(rest[0]))

    def take(self) -> tuple[Any, Any]:
        """Wait for a result."""
        ready, _ = self._ray.wait(list(self._under_way), num_returns=1)
        key, what = self._under_way.pop(ready[0])
        try:
            return key, self._ray.get(ready[0])
        except self._ray.exceptions.RayError as error:
            reason = type(error).__name__
            return key, Failed(f"{what}: given up after {self._retries} retries ({reason}); look at the cluster's log")

    def close(self) -> None:
        """Give up calls under way and leave the cluster."""
        for handle in self._under_way:
            self._ray.cancel(handle, force=True)
        if self._own:
            self._ray.shutdown()
