"""The JSON of pytest-benchmark, for ``pytest-benchmark compare``; seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..results import stages
from . import label


def export(results: Sequence[dict[str, Any]]) -> str:
    """Return all results in one file, as one session on the first one's machine."""
    rows = []
    for result in results:
        for clip_s, stage, t in stages(result):
            name = label(result, clip_s, stage)
            rows.append(
                {
                    "group": f"{clip_s:g}s/{stage}", "name": name, "fullname": name, "params": None, "param": None,
                    "extra_info": {"sha256": result["model"]["sha256"], "peak_rss": result["memory"]["peak"]},
                    "options": {"disable_gc": True, "timer": "perf_counter", "min_rounds": 1, "max_time": 0.0,
                                "min_time": 0.0, "warmup": True},
                    "stats": _stats(np.array(t["samples"]) / 1e6),
                }
            )  # fmt: skip
    about = results[0]["context"]
    machine = about["machine"]
    return json.dumps(
        {
            "machine_info": {
                "node": machine["board"] or machine["cpu"], "machine": machine["architecture"],
                "processor": machine["architecture"], "system": machine["system"], "python_version": about["python"],
                "cpu": {"brand_raw": machine["cpu"], "count": machine["cores"]},
            },
            "commit_info": {},
            "benchmarks": rows,
            "datetime": about["time"],
            "version": "5.0.0",
        }
    ) + "\n"  # fmt: skip


def _stats(x: Any) -> dict[str, Any]:
    q1, median, q3 = (float(v) for v in np.percentile(x, [25, 50, 75]))
    mean, deviation = float(x.mean()), float(x.std(ddof=1)) if len(x) > 1 else 0.0
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    by_iqr = int(((x < low) | (x > high)).sum())
    by_deviation = int((np.abs(x - mean) > deviation).sum())
    return {
        "min": float(x.min()), "max": float(x.max()), "mean": mean, "stddev": deviation, "rounds": len(x),
        "median": median, "iqr": q3 - q1, "q1": q1, "q3": q3, "iqr_outliers": by_iqr, "stddev_outliers": by_deviation,
        "outliers": f"{by_deviation};{by_iqr}", "ld15iqr": float(x[x >= low].min()),
        "hd15iqr": float(x[x <= high].max()), "ops": 1 / mean, "total": float(x.sum()), "iterations": 1,
    }  # fmt: skip
