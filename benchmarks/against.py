"""Timing a bundle beside peers in one run: medians, ratios with intervals, first calls and memory."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.bundle import Bundle

from . import sound
from .ask import ask
from .interleave import ratio
from .peers import Peer
from .statistics import median_interval, outliers


def against(
    bundle: Bundle, peers: Sequence[Peer], *, clip_s: float = 2.0, rounds: int = 300, budget_s: float = 20.0,
    backend: str = "auto", threads: int = 1, say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Return ``against`` of a result: the clip's length and a row for each network, ours first.

    Raises
    ------
    EdgeBenchError
        If one of them cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        file = Path(folder) / "sound.npy"
        rate = bundle.front_end.sample_rate
        np.save(file, sound.scene(clip_s, sample_rate=rate)[: round(clip_s * rate)])
        request = {
            "bundle": str(bundle.path), "peers": [asdict(p) for p in peers], "clip_s": clip_s, "backend": backend,
            "threads": threads, "sound": str(file), "rounds": rounds, "budget_s": budget_s,
        }  # fmt: skip
        say(f"in turns with {', '.join(p.name for p in peers)}: up to {budget_s:g} s")
        found = ask("peers_worker", request, threads=threads)
        alone = []
        for number in range(1 + len(peers)):
            say(f"first call and memory of {found['sides'][number]['name']}")
            alone.append(ask("peers_worker", {**request, "only": number}, threads=threads))
    rows = []
    base = found["samples"][0]
    for about, samples, first in zip(found["sides"], found["samples"], alone, strict=True):
        rows.append(
            {
                **about,
                "stages": {stage: _times(x) for stage, x in samples.items()},
                "ratio": {stage: [round(v, 4) for v in ratio(x, base[stage])] for stage, x in samples.items()},
                "real_time_factor": round(float(np.median(samples["total"])) / (clip_s * 1e6), 8),
                "cold": round(first["cold"], 2),
                "peak": first["peak"],
                "anonymous": first["anonymous"],
            }
        )
    return {"clip_s": clip_s, "rounds": found["rounds"], "settled": found["settled"], "networks": rows}


def _times(samples: Sequence[float]) -> dict[str, Any]:
    known = median_interval(samples)
    p50, p90, p99 = (round(float(v), 2) for v in np.percentile(samples, [50, 90, 99]))
    return {
        "p50": p50, "p90": p90, "p99": p99, "outliers": int(outliers(samples).sum()),
        "interval": [round(x, 3) if math.isfinite(x) else None for x in (known.low, known.high)],
        "samples": [round(v, 3) for v in samples],
    }  # fmt: skip


def render(found: dict[str, Any], *, markdown: bool = False) -> str:
    """Return the rows as text for people, or as a Markdown table."""
    from .table import micro, size, table

    header = ["network", "file", "runs on", "front end", "model", "total", "of ours", "cold", "peak RSS", "answers"]
    rows = []
    for row in found["networks"]:
        value, low, high = row["ratio"]["total"]
        rows.append(
            [row["name"], size(row["bytes"]), f"{row['backend']} {row['backend_version']}",
             *(micro(row["stages"][s]["p50"]) for s in ("frontend", "model", "total")),
             f"{value:.2f} x ({low:.2f} to {high:.2f})", micro(row["cold"]), size(row["peak"]),
             row["answers"] or f"{row['windows']} windows of {row['window_s']:g} s"]
        )  # fmt: skip
    title = f"{found['clip_s']:g} s of sound through each, in turns, {found['rounds']} rounds"
    if not markdown:
        return f"{title}\n\n{table(header, rows)}"
    lines = [header, ["---", *["--:"] * 8, "---"], *rows]
    return f"{title}\n\n" + "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
