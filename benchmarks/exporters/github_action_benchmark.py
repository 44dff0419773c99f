"""The list of benchmark-action/github-action-benchmark (tool ``customSmallerIsBetter``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..results import stages
from ..statistics import median_interval
from . import label


def export(results: Sequence[dict[str, Any]]) -> str:
    """Return medians with half the width of their 95 % interval as range, and the peak memory."""
    out = []
    for result in results:
        machine, model = result["context"]["machine"], result["model"]
        extra = f"{machine['board'] or machine['cpu']}, {model['backend']} {model['backend_version']}"
        for clip_s, stage, t in stages(result):
            known = median_interval(t["samples"])
            half = min(known.high - known.low, max(t["samples"]) - min(t["samples"])) / 2
            out.append(
                {"name": label(result, clip_s, stage), "unit": "us", "value": t["p50"], "range": f"± {half:.2f}",
                 "extra": extra}
            )  # fmt: skip
        if result["memory"]["peak"]:
            name = f"{result['model']['name']}/peak RSS"
            out.append({"name": name, "unit": "bytes", "value": result["memory"]["peak"], "extra": extra})
    return json.dumps(out, indent=1, ensure_ascii=False) + "\n"
