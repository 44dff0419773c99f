"""Bencher Metric Format: name -> measure -> value with bounds; ``latency`` is in nanoseconds there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..results import stages
from ..statistics import median_interval
from . import label


def export(results: Sequence[dict[str, Any]]) -> str:
    """Return latency by stage with the median's 95 % interval, and file size and peak memory by model."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for result in results:
        for clip_s, stage, t in stages(result):
            known = median_interval(t["samples"])
            low, high = max(known.low, min(t["samples"])), min(known.high, max(t["samples"]))
            out[label(result, clip_s, stage)] = {
                "latency": {
                    "value": round(known.value * 1e3, 1),
                    "lower_value": round(low * 1e3, 1),
                    "upper_value": round(high * 1e3, 1),
                }
            }
        sizes = {"file-size": {"value": float(result["model"]["bytes"])}}
        if result["memory"]["peak"]:
            sizes["peak-memory"] = {"value": float(result["memory"]["peak"])}
        out[str(result["model"]["name"])] = sizes
    return json.dumps(out, indent=1) + "\n"
