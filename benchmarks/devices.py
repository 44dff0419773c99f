"""The same network on every interpreter, number of threads and device: batch-1 latency, batch throughput, copies apart.

Each way runs in fresh processes, because the libraries bear each other ill; the processes of all ways take turns in
random order, several times, and the samples of a way are pooled.
"""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_runtime import EdgeBenchError
from edge_runtime.bundle import read

from . import context
from .ask import ask
from .statistics import median_interval

SCHEMA = "edge-bench/devices/1"
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"  # TensorFlow takes the number of threads from the request
TIMES = ("with_copies", "without_copies", "batch_with_copies", "batch_without_copies")


@dataclass(frozen=True)
class Way:
    """One way of running a network: a module that is asked, what it is told, and what people call it."""

    device: str
    runtime: str
    threads: int
    module: str
    request: dict[str, Any]
    environment: dict[str, str]


def ways(*, most_threads: int, frameworks: bool) -> list[Way]:
    """Return what could run a network here."""
    counts = [2**i for i in range(20) if 2**i < most_threads] + [most_threads]
    found = [
        Way("cpu", backend, n, "devices_worker", {"way": "interpreter", "backend": backend, "threads": n}, {})
        for backend in ("litert", "tflite-runtime")
        for n in counts
    ]
    found.append(
        Way("cpu", "numpy", 1, "devices_worker", {"way": "interpreter", "backend": "numpy", "threads": 1}, {})
    )
    for device in ("cpu", "gpu"):
        found.append(
            Way(device, "litert compiled", 1, "devices_worker", {"way": "compiled", "accelerator": device}, {})
        )
    if frameworks:
        for name in ("tensorflow", "jax"):
            for device in ("cpu", "gpu"):
                request, backend = {"device": device, "threads": 1}, {"KERAS_BACKEND": name, "XLA_FLAGS": ONE_THREAD}
                found.append(Way(device, f"keras on {name}", 1, "edge_bench.train.device_worker", request, backend))
    return found


def measure(
    bundle: str, *, clip_s: float = 2.0, repeats: int = 3, budget_s: float = 0.5, batch: int = 256,
    most_threads: int | None = None, frameworks: bool = True, say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Return ``edge-bench/devices/1``: a row for each way, with times or why it is absent.

    Parameters
    ----------
    bundle : str
        A path or a shipped name.
    repeats : int
        Processes for each way.
    budget_s : float
        Seconds for each figure in a process.
    batch : int
        Clips in a large batch, where the way takes one.
    most_threads : int, optional
        The cores of this machine by default.
    frameworks : bool
        Also the network in Keras on TensorFlow and JAX, where they are installed.
    """
    model = read(bundle)
    about = context.collect()
    rng = random.Random(0)
    all_ways = ways(most_threads=most_threads or os.cpu_count() or 1, frameworks=frameworks)
    gathered: list[list[dict[str, Any]]] = [[] for _ in all_ways]
    absent: dict[int, str] = {}
    for number in range(repeats):
        for i in rng.sample(range(len(all_ways)), len(all_ways)):
            way = all_ways[i]
            if i in absent:
                continue
            say(f"{way.runtime} on the {way.device}, {way.threads} thread(s), {number + 1} of {repeats}")
            answer = _one(way, {"bundle": str(model.path), "clip_s": clip_s, "batch": batch, "budget_s": budget_s})
            if "absent" in answer:
                absent[i] = answer["absent"]
            else:
                gathered[i].append(answer)
    about["after"] = context.state()
    rows = []
    for i, way in enumerate(all_ways):
        row: dict[str, Any] = {"device": way.device, "runtime": way.runtime, "threads": way.threads}
        rows.append(row | ({"absent": absent[i]} if i in absent else _row(gathered[i], batch)))
    return {
        "schema": SCHEMA,
        "model": {"name": model.name, "sha256": model.sha256},
        "clip_s": clip_s, "batch": batch, "repeats": repeats, "rows": rows,
        "context": {**about, "remarks": context.remarks(about)},
    }  # fmt: skip


def _one(way: Way, request: dict[str, Any]) -> dict[str, Any]:
    needed = {"keras on tensorflow": "tensorflow", "keras on jax": "jax"}.get(way.runtime)
    for package in filter(None, (needed, "keras" if needed else None)):
        if importlib.util.find_spec(package) is None:
            return {"absent": f"{package} is not installed"}
    try:
        answer: dict[str, Any] = ask(way.module, {**request, **way.request}, threads=way.threads, more=way.environment)
    except EdgeBenchError as error:
        return {"absent": str(error)}
    return answer


def _row(answers: Sequence[dict[str, Any]], batch: int) -> dict[str, Any]:
    row: dict[str, Any] = {"version": answers[0]["version"], "note": answers[0]["note"]}
    for name in TIMES:
        if name not in answers[0]:
            row[name] = None
            continue
        # the middle of a process' samples is one observation: processes differ more than calls do
        samples = np.concatenate([a[name] for a in answers])
        known = median_interval(samples)
        row[name] = {
            "p50": round(known.value, 2),
            "by_process": [round(float(np.median(a[name])), 2) for a in answers],
            "samples": len(samples),
        }
        if name.startswith("batch"):
            row[name]["clips_per_s"] = round(batch / known.value * 1e6, 1)
    return row


def finding(rows: Sequence[dict[str, Any]]) -> str:
    """Return in words whether the fastest CPU beats the fastest GPU at a batch of one."""
    best = {}
    for device in ("cpu", "gpu"):
        known = [(row["with_copies"]["p50"], row["runtime"]) for row in rows
                 if row["device"] == device and "absent" not in row]  # fmt: skip
        best[device] = min(known) if known else None
    if best["cpu"] is None:
        return "nothing runs here"
    if best["gpu"] is None:
        return f"no GPU here; one clip at a time takes {best['cpu'][0]:g} us on the CPU ({best['cpu'][1]})"
    (cpu, on_cpu), (gpu, on_gpu) = best["cpu"], best["gpu"]
    word = "faster" if cpu < gpu else "slower"
    return f"one clip at a time the CPU is {word} than the GPU: {cpu:g} us ({on_cpu}), {gpu:g} us ({on_gpu})"
