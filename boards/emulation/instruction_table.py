"""The table of instructions on emulated boards, beside what the roofline predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_bench.benchmarks.instructions import SCHEMA, Instructions
from edge_bench.benchmarks.table import table
from edge_bench.benchmarks.trees import commit_of
from edge_runtime.bundle import Bundle

from ..counted import STAGES, bound_us
from ..plan import plan
from ..profile import Profile


def row(bundle: Bundle, board: Profile, counts: Sequence[Instructions]) -> dict[str, Any]:
    """Return a row of the table: a bundle on a board, counted several times, beside the roofline.

    Returns
    -------
    dict
        ``stages``: by stage the ``median``, ``runs`` and ``spread``, the range over the median.
        ``prediction``: the roofline's cycles for front end and model of the clip counted, and how many instructions
        there were for each of them; ``bound_us`` is the time by instructions.
    """
    about = counts[0].context
    stages: dict[str, dict[str, Any]] = {}
    for name in STAGES:
        values = [int(getattr(c, name)) for c in counts]
        middle = float(np.median(values))
        stages[name] = {"median": round(middle), "runs": values, "spread": (max(values) - min(values)) / middle}
    clip = plan(bundle, board)["forms"]["clip"]
    frames = bundle.clip_frames(about["clip_s"])
    prediction = {}
    for stage, count in (("frontend", "frontend"), ("model", "invoke")):
        # the plan is of the clip as declared; only the front end's frames differ from the clip counted
        us = clip[stage]["us"] * (frames / clip["frames"] if stage == "frontend" else 1)
        cycles = us * board.processor.clock_mhz
        instructions = stages[count]["median"]
        prediction[stage] = {
            "macs": round(clip["frontend_macs"] * frames / clip["frames"]) if stage == "frontend" else clip["macs"],
            "roofline_us": round(us, 3), "roofline_cycles": round(cycles),
            "instructions_per_roofline_cycle": round(instructions / cycles, 2),
            "bound_us": bound_us(instructions, board.processor),
        }  # fmt: skip
    return {
        "bundle": bundle.name, "sha256": bundle.sha256, "precision": bundle.info["precision"],
        "board": board.name, "core": board.processor.core, "clock_mhz": board.processor.clock_mhz,
        "source": counts[0].source, "context": about, "stages": stages, "prediction": prediction,
    }  # fmt: skip


def document(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return ``edge-bench/instructions/1``: the rows, and the median of each as a baseline of `edge-bench gate`."""
    counts = [
        {**{n: r["stages"][n]["median"] for n in STAGES}, "source": r["source"], "context": r["context"]} for r in rows
    ]
    return {
        "schema": SCHEMA,
        "commit": commit_of("HEAD"),
        "emulated": True,
        "unit": "aarch64 instructions of one call; a count, never a time",
        "largest_spread": max(stage["spread"] for r in rows for stage in r["stages"].values()),
        "counts": counts,
        "rows": list(rows),
    }


def markdown(values: Mapping[str, Any]) -> str:
    """Return the table for people."""
    header = ["bundle", "core", "10 ms hop", "front end", "model", "of which invoke", "spread", "MACs",
              "instructions a roofline cycle: front end, invoke", "least us: front end, invoke"]  # fmt: skip
    lines = []
    for r in values["rows"]:
        stages, front, model = r["stages"], r["prediction"]["frontend"], r["prediction"]["model"]
        lines.append(
            [r["bundle"], f"{r['core']} ({r['board']})", *(f"{stages[n]['median']:,}" for n in STAGES),
             f"{max(s['spread'] for s in stages.values()):.4%}", f"{model['macs']:,}",
             f"{front['instructions_per_roofline_cycle']:.1f}, {model['instructions_per_roofline_cycle']:.1f}",
             f"{front['bound_us']:.0f}, {model['bound_us']:.0f}"]
        )  # fmt: skip
    return "\n".join(
        ["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *("| " + " | ".join(x) + " |" for x in lines)]
    )


def text(values: Mapping[str, Any]) -> str:
    """Return the table for a terminal."""
    header = ["bundle", "core", "hop", "front end", "model", "invoke", "spread"]
    lines = [
        [r["bundle"], r["core"], *(f"{r['stages'][n]['median']:,}" for n in STAGES),
         f"{max(s['spread'] for s in r['stages'].values()):.4%}"]
        for r in values["rows"]
    ]  # fmt: skip
    return table(header, lines)
