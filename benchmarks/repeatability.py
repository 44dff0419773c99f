"""How well the median of an invoke repeats from run to run: with our controls, without, and by litert-benchmark.

All contestants time the same file's first graph at its own shape, each run in a fresh process, in random order within
every round, so that they meet the same machine.
"""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime import BundleError, EdgeBenchError, tflite
from edge_runtime.bundle import read

from . import context
from .ask import ask

SCHEMA = "edge-bench/repeatability/1"
PEER = "ai_edge_litert.tools.benchmark_litert_model"
CONTESTANTS = {
    "controls": "our controls",
    "without": "without them, 5 + 50 calls",
    "litert-benchmark": "litert-benchmark, its 5 + 50 calls",
    "litert-benchmark-long": "litert-benchmark, 200 + 2,000 calls",
}


def measure(
    model: str, *, runs: int = 10, budget_s: float = 3.0, backend: str = "auto", seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Return ``edge-bench/repeatability/1``: the p50 of every run by contestant, and how far they are apart.

    Parameters
    ----------
    model : str
        A bundle, a shipped name, or any ``.tflite``.
    runs : int
        Runs of each contestant.
    budget_s : float
        Seconds of a run with controls.

    Raises
    ------
    EdgeBenchError
        If the model cannot be run.
    """
    about = context.collect()
    there = importlib.util.find_spec("ai_edge_litert") is not None and importlib.util.find_spec(PEER) is not None
    names = [name for name in CONTESTANTS if there or not name.startswith("litert")]
    found: dict[str, list[float]] = {name: [] for name in names}
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        file = Path(folder) / "model.tflite"
        name, data = _flatbuffer(model)
        file.write_bytes(data)
        for number in range(runs):
            for contestant in rng.sample(names, len(names)):
                say(f"{CONTESTANTS[contestant]}, run {number + 1} of {runs}")
                if contestant.startswith("litert"):
                    found[contestant].append(_peer(file, *((200, 2000) if contestant.endswith("long") else (5, 50))))
                else:
                    request = {"file": str(file), "backend": backend, "budget_s": budget_s,
                               "controlled": contestant == "controls"}  # fmt: skip
                    found[contestant].append(float(np.median(ask("repeat_worker", request)["samples"])))
    about["after"] = context.state()
    return {
        "schema": SCHEMA, "model": name, "bytes": len(data), "runs": runs, "budget_s": budget_s,
        "rows": [{"name": key, "what": CONTESTANTS[key], **spread(values)} for key, values in found.items()],
        "peer": "of ai-edge-litert, which prints steps of 10 us" if there else "litert-benchmark is not installed",
        "context": {**about, "remarks": context.remarks(about)},
    }  # fmt: skip


def spread(p50: Sequence[float]) -> dict[str, Any]:
    """Return the p50 of all runs, their median, range over median and coefficient of variation.

    Examples
    --------
    >>> spread([9.0, 10.0, 11.0])["range"]
    0.2
    """
    x = np.asarray(p50, np.float64)
    middle = float(np.median(x))
    return {
        "p50": [round(v, 3) for v in p50],
        "median": round(middle, 3),
        "range": round(float(np.ptp(x)) / middle, 5) if middle else None,
        "variation": round(float(x.std(ddof=1) / x.mean()), 5) if len(x) > 1 and middle else None,
    }


def _flatbuffer(model: str) -> tuple[str, bytes]:
    """Return a name and the bytes of a bundle's network, or of a foreign file."""
    try:
        bundle = read(model)
    except BundleError:
        if not Path(model).is_file():
            raise
        data = Path(model).read_bytes()
        tflite.read(data)  # every offset is checked before an interpreter sees it
        return Path(model).stem, data
    return bundle.name, bundle.flatbuffer


def _peer(file: Path, warm: int, calls: int) -> float:
    """Return the median (us) that litert-benchmark reports."""
    out = file.with_suffix(".json")
    out.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", PEER, "--model", str(file), "--num_runs", str(calls), "--warmup_runs", str(warm),
         "--num_threads", "1", "--result_json", str(out)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        return 1000 * float(json.loads(out.read_text())["latency"]["median_ms"])
    except (OSError, ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise EdgeBenchError(f"litert-benchmark failed: {last}") from None
