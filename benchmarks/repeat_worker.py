"""One run of a model's invoke, with our controls or without: ``python -m edge_bench.benchmarks.repeat_worker``."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from .answer import serve


def naive(call: Callable[[], Any], *, warm: int = 5, calls: int = 50) -> list[float]:
    """Return microseconds of single calls after a fixed warm-up, as many a script does it."""
    for _ in range(warm):
        call()
    found = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        found.append(1e6 * (time.perf_counter() - began))
    return found


def controlled(call: Callable[[], Any], *, budget_s: float) -> list[float]:
    """Return microseconds of a call: no garbage collector, a warm-up that ends when times have settled, samples of at
    least 1 ms, for the whole budget.
    """
    from .gate_worker import calls_of, sample
    from .statistics import settled

    gc.disable()
    clock = time.monotonic
    began = clock()
    calls = calls_of(call)
    warming: list[float] = []
    while clock() - began < budget_s / 3 and not settled(warming):
        warming.append(sample(call, calls))
    found = [sample(call, calls)]
    while clock() - began < budget_s:
        found.append(sample(call, calls))
    return found


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Return the microseconds of calls, and what was called."""
    core = None
    if request["controlled"]:
        from .pinning import pin

        core = pin(1)
    from pathlib import Path

    import numpy as np

    from edge_runtime import tflite
    from edge_runtime.interpreter import Session

    data = Path(request["file"]).read_bytes()
    tflite.read(data)  # every offset is checked before an interpreter sees it
    session = Session(data, backend=request["backend"])
    x = np.random.default_rng(0).standard_normal(session.input_shape)
    session.fill()[...] = (x if session.input_dtype.kind == "f" else 30 * x).astype(session.input_dtype)
    times = controlled(session.invoke, budget_s=request["budget_s"]) if request["controlled"] else naive(session.invoke)
    return {"samples": times, "core": core, "version": session.version, "backend": session.backend}


if __name__ == "__main__":
    serve(measure)
