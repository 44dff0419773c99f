"""Two results of ``edge-bench run`` against each other, stage by stage."""

from __future__ import annotations

from typing import Any

from edge_runtime import ConfigError

from . import results
from .statistics import cliffs_delta, effect_word, unpaired_ratio

SCHEMA = "edge-bench/compare/1"


def compare(a: dict[str, Any], b: dict[str, Any], *, level: float = 0.95, force: bool = False) -> dict[str, Any]:
    """Return how B's times relate to A's.

    The intervals hold together with probability `level` (Bonferroni over the rows). They come from the samples of one
    process each; what differs from process to process is not in them.

    Returns
    -------
    dict
        ``edge-bench/compare/1``; in every stage `ratio` is B's median over A's, `interval` its bounds, `effect`
        Cliff's delta (above 0: B's calls are the longer ones), `verdict` faster, slower or same.

    Raises
    ------
    ConfigError
        If the environments differ and `force` is not set, or the results share no clip length.
    """
    results.refuse_emulated(a, b)
    different = results.differences(a, b)
    if different and not force:
        raise ConfigError(
            f"the environments differ ({'; '.join(different)}), so times cannot be compared: measure both in one "
            "place, or give --force"
        )
    old = {(clip_s, stage): times for clip_s, stage, times in results.stages(a)}
    new = {(clip_s, stage): times for clip_s, stage, times in results.stages(b)}
    shared = [key for key in old if key in new]
    if not shared:
        raise ConfigError("the results share no clip length: run both with the same --clips")
    rows: dict[float, dict[str, Any]] = {}
    for clip_s, stage in shared:
        x, y = old[clip_s, stage]["samples"], new[clip_s, stage]["samples"]
        ratio = unpaired_ratio(y, x, level=1 - (1 - level) / len(shared))
        delta = cliffs_delta(y, x)
        rows.setdefault(clip_s, {})[stage] = {
            "a_p50": old[clip_s, stage]["p50"],
            "b_p50": new[clip_s, stage]["p50"],
            "ratio": round(ratio.value, 5),
            "interval": [round(ratio.low, 5), round(ratio.high, 5)],
            "effect": round(delta, 4),
            "effect_word": effect_word(delta),
            "verdict": "slower" if ratio.low > 1 else "faster" if ratio.high < 1 else "same",
        }
    memory = {
        key: {"a": a["memory"].get(key), "b": b["memory"].get(key)} for key in ("after_import", "after_load", "peak")
    }
    return {
        "schema": SCHEMA,
        "level": level,
        "a": about(a),
        "b": about(b),
        "environment_differences": different,
        "remarks": [f"A: {r}" for r in a["context"].get("remarks", [])]
        + [f"B: {r}" for r in b["context"].get("remarks", [])],
        "clips": [{"clip_s": clip_s, "stages": stages} for clip_s, stages in rows.items()],
        "memory": memory,
    }


def about(result: dict[str, Any]) -> dict[str, Any]:
    """Return what names a result."""
    return {key: result["model"][key] for key in ("name", "sha256", "bytes")} | {"time": result["context"]["time"]}
