"""Results of ``edge-bench run`` with drawn times, so that what a comparison must find is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

MEANS = {"frontend": 300.0, "model": 40.0}


def made_result(slower: float = 1.0, seed: int = 0, clips: tuple[float, ...] = (0.5, 2.0)) -> dict[str, Any]:
    """A result whose model takes `slower` times 40 us and whose front end takes 300 us, log-normal, 3 % wide."""
    rng = np.random.default_rng(seed)
    rows = []
    for clip_s in clips:
        samples = {s: mean * rng.lognormal(0, 0.03, 400) for s, mean in MEANS.items()}
        samples["model"] *= slower
        samples["total"] = samples["frontend"] + samples["model"]
        stages = {}
        for stage, x in samples.items():
            p50, p90, p99 = np.percentile(x, [50, 90, 99]).round(2).tolist()
            stages[stage] = {"p50": p50, "p90": p90, "p99": p99, "cold": 900.0, "samples": x.round(3).tolist()}
        rows.append({"clip_s": clip_s, "stages": stages, "real_time_factor": stages["total"]["p50"] / clip_s / 1e6})
    machine = {
        "board": None, "cpu": "Made 1", "architecture": "x86_64", "cores": 2, "memory": 4 << 30, "governor": None,
        "system": "Linux-6.1",
    }  # fmt: skip
    state = {"load": 0.1, "frequency_mhz": None, "temperature_c": None, "throttled": None}
    by_stage = {"start": 30 << 20, "after_import": 35 << 20, "after_load": 50 << 20, "after_first": 52 << 20}
    by_stage["steady"] = 52 << 20
    return {
        "schema": "edge-bench/run/1",
        "context": {
            "time": f"2026-11-21T10:00:{seed:02d}+00:00", "command": "edge-bench run", "edge_bench": "0.1.0",
            "python": "3.11.7", "numpy": "1.26.4", "machine": machine, "before": state, "after": state, "remarks": [],
        },
        "model": {
            "name": "made-int8", "bytes": 67030, "model_bytes": 20724, "sha256": f"{seed:064x}", "parameters": 5483,
            "precision": "int8", "backend": "litert", "backend_version": "2.3.0", "nodes": 56, "delegated_nodes": 49,
            "partitions": 5, "threads": 1,
        },
        "clips": rows,
        "memory": {**by_stage, "peak": 55 << 20, "pss": dict(by_stage), "uss": dict(by_stage)},
        "start": {"import": 500.0, "load": 13000.0},
        "options": {"rounds": 400, "budget_s": 10.0, "cold_processes": 3},
    }  # fmt: skip


def write_result(path: Path, result: dict[str, Any]) -> Path:
    """Write a result and return its path."""
    path.write_text(json.dumps(result))
    return path
