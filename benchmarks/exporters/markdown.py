"""A Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import against
from ..results import STAGE_WORDS, stages
from ..table import micro, size


def export(results: Sequence[dict[str, Any]]) -> str:
    """Return a table with a row for each model, clip length and stage, and one for each comparison with peers."""
    lines = ["| model | clip | stage | p50 | p90 | p99 | cold | peak RSS |", "|---|---|---|--:|--:|--:|--:|--:|"]
    for result in results:
        name = str(result["model"]["name"]).replace("|", "\\|")
        peak = size(result["memory"]["peak"])
        for clip_s, stage, t in stages(result):
            times = " | ".join(micro(t[k]) for k in ("p50", "p90", "p99", "cold"))
            lines.append(f"| {name} | {clip_s:g} s | {STAGE_WORDS[stage]} | {times} | {peak} |")
    for result in results:
        if result.get("against"):
            lines += ["", against.render(result["against"], markdown=True)]
    return "\n".join(lines) + "\n"
