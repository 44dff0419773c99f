"""Memory by stage over several fresh processes: what a stage adds, how well the figures repeat, whether calls leak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edge_runtime.bundle import read

from . import context
from .ask import ask

SCHEMA = "edge-bench/memory/1"
MEANING = {
    "python": "the interpreter of Python and a few of its modules",
    "numpy": "and numpy with its linear algebra",
    "runtime": "and edge_runtime, no model yet",
    "load": "and the TFLite interpreter, the model and its arena",
    "first_call": "and the front end's buffers, after one clip",
    "steady": "after many clips",
}
KINDS = {
    "rss": "every resident page, shared libraries in full",
    "pss": "shared pages divided among their users: moves with what else runs",
    "uss": "pages that nobody else has: falls when another process loads the same library",
    "anonymous": "pages of no file: what the process itself allocated",
}
LEAK = 16  # bytes a call: malloc gives no smaller block


def measure(
    bundle: str, *, runs: int = 10, calls: int = 10_000, clip_s: float = 2.0, backend: str = "auto", threads: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Return ``edge-bench/memory/1``.

    Parameters
    ----------
    bundle : str
        A path or a shipped name.
    runs : int
        Fresh processes.
    calls : int
        Clips labelled in one more process, to see whether memory grows.
    clip_s : float

    Raises
    ------
    EdgeBenchError
        If the bundle cannot be run.
    """
    model = read(bundle)
    request = {
        "task": "stages", "bundle": str(model.path), "clip_s": clip_s, "backend": backend, "threads": threads,
        "settle": 100, "calls": 0,
    }  # fmt: skip
    found = []
    for number in range(runs):
        say(f"process {number + 1} of {runs}")
        found.append(ask("memory_worker", request, threads=threads))
    say(f"{calls:,} calls in one process")
    long = ask("memory_worker", {**request, "calls": calls}, threads=threads)
    arena = ask("memory_worker", {**request, "task": "arena"}, threads=threads)["arena"]
    growth = {**long["growth"], "flat": _flat(long["growth"])}
    stages = {
        stage: {kind: spread([run["stages"][stage][kind] for run in found]) for kind in KINDS} for stage in MEANING
    }
    return {
        "schema": SCHEMA,
        "model": {"name": model.name, "sha256": model.sha256, "bytes": model.size, "backend": found[0]["backend"],
                  "backend_version": found[0]["backend_version"]},
        "clip_s": clip_s,
        "runs": runs,
        "stages": stages,
        "peak": spread([run["peak"] for run in found]),
        "arena": arena,
        "growth": growth,
        "context": context.collect(),
    }  # fmt: skip


def spread(values: Sequence[int | None]) -> dict[str, Any]:
    """Return the median, the smallest and the largest, and how far these are apart relative to the median.

    Examples
    --------
    >>> spread([98, 100, 101])
    {'median': 100, 'low': 98, 'high': 101, 'spread': 0.03}
    """
    known = [v for v in values if v is not None]
    if not known:
        return {"median": None, "low": None, "high": None, "spread": None}
    middle = int(np.median(known))
    return {
        "median": middle, "low": min(known), "high": max(known),
        "spread": round((max(known) - min(known)) / middle, 5) if middle else None,
    }  # fmt: skip


def _flat(growth: dict[str, Any]) -> bool:
    """Return whether the calls added less than the smallest block of memory each."""
    added = growth["anonymous"] if growth["anonymous"] is not None else growth["rss"]
    return added is None or added < LEAK * growth["calls"]
