"""Comma-separated values: a row for each result, clip length and stage; times in microseconds."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from ..results import stages

HEADER = ("time", "name", "sha256", "cpu", "backend", "backend_version", "threads", "clip_s", "stage", "p50", "p90",
          "p99", "cold", "samples", "bytes", "peak_rss")  # fmt: skip


def export(results: Sequence[dict[str, Any]]) -> str:
    """Return the table with its header."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADER)
    for result in results:
        model, about = result["model"], result["context"]
        for clip_s, stage, t in stages(result):
            writer.writerow(
                [about["time"], model["name"], model["sha256"], about["machine"]["cpu"], model["backend"],
                 model["backend_version"], model["threads"], clip_s, stage, t["p50"], t["p90"], t["p99"], t["cold"],
                 len(t["samples"]), model["bytes"], result["memory"]["peak"]]
            )  # fmt: skip
    return file.getvalue()
