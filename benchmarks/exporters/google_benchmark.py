"""The JSON of google/benchmark: a row for each sample's median, as its ``compare.py`` reads it.

Only wall time is measured here; ``cpu_time`` repeats it, because the format has no way to leave it out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..results import stages
from . import label


def export(results: Sequence[dict[str, Any]]) -> str:
    """Return the medians of all results in one file, with the context of the first."""
    rows = []
    for result in results:
        for clip_s, stage, t in stages(result):
            name = label(result, clip_s, stage)
            rows.append(
                {
                    "name": name, "run_name": name, "run_type": "iteration", "repetitions": 1, "repetition_index": 0,
                    "threads": result["model"]["threads"], "iterations": len(t["samples"]), "real_time": t["p50"],
                    "cpu_time": t["p50"], "time_unit": "us",
                }
            )  # fmt: skip
    about = results[0]["context"]
    machine = about["machine"]
    context = {
        "date": about["time"], "host_name": machine["board"] or machine["cpu"], "executable": "edge-bench",
        "num_cpus": machine["cores"] or 1, "mhz_per_cpu": round(about["before"].get("frequency_mhz") or 0),
        "cpu_scaling_enabled": machine["governor"] not in (None, "performance"), "caches": [],
        "load_avg": [about["before"]["load"]], "library_build_type": "release",
    }  # fmt: skip
    return json.dumps({"context": context, "benchmarks": rows}, indent=1) + "\n"
