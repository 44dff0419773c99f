"""Series out of a store, with the changes of their level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from .changepoints import change_points

SCHEMA = "edge-bench/history/1"
BARS = "▁▂▃▄▅▆▇█"


def series_of(
    points: Iterable[Mapping[str, Any]], *, metric: str = "*", environment: str = "", alpha: float = 0.01,
    smallest: float = 0.02,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return a series for each name, metric and environment: points in order of time, and changes.

    Parameters
    ----------
    points : iterable of mapping
        Figures, oldest first; see `store.Store.points`.
    metric : str
        A pattern such as ``2s/*``.
    environment : str
        Beginning of an environment's key.
    alpha, smallest : float
        See `changepoints.change_points`.
    """
    gathered: dict[tuple[str, str, str], dict[str, Any]] = {}
    for p in points:
        if not fnmatchcase(p["metric"], metric) or not p["environment"].startswith(environment):
            continue
        one = gathered.setdefault(
            (p["name"], p["metric"], p["environment"]),
            {"name": p["name"], "metric": p["metric"], "unit": p["unit"],
             "environment": {"key": p["environment"], "words": p["words"]}, "points": []},
        )  # fmt: skip
        one["points"].append(
            {"time": p["time"], "value": p["value"], "low": p["low"], "high": p["high"], "digest": p["digest"],
             "sha256": p["sha256"], "commit": p["commit_id"], "label": p["label"]}
        )  # fmt: skip
    for one in gathered.values():
        found = change_points([q["value"] for q in one["points"]], alpha=alpha, smallest=smallest)
        one["changes"] = [
            {"index": c.index, "time": one["points"][c.index]["time"], "before": c.before, "after": c.after,
             "ratio": c.ratio, "p": c.p}
            for c in found
        ]  # fmt: skip
    return [gathered[key] for key in sorted(gathered)]


def sparkline(values: list[float], *, width: int = 24) -> str:
    """Return the last values as a line of bars.

    Examples
    --------
    >>> sparkline([1, 1, 2, 3])
    '▁▁▅█'
    """
    last = values[-width:]
    low, high = min(last), max(last)
    return "".join(BARS[round((v - low) / (high - low) * 7) if high > low else 0] for v in last)


def figure(value: float, unit: str) -> str:
    """Return a figure of a series for people."""
    from .table import micro, size

    if unit == "us":
        return micro(value)
    if unit == "bytes":
        return size(value)
    if unit == "share":
        return f"{100 * value:.1f} %"
    return f"{value:.3f}" if unit == "ratio" else f"{value:,.0f}"


def change_words(series: Mapping[str, Any], change: Mapping[str, Any]) -> str:
    """Return a change in words: when, from what to what, at which commit."""
    unit, point = series["unit"], series["points"][change["index"]]
    size = "" if change["ratio"] is None else f" ({100 * (change['ratio'] - 1):+.1f} %)"
    at = f", commit {point['commit'][:10]}" if point["commit"] else ""
    label = f", {point['label']}" if point["label"] else ""
    moved = f"{figure(change['before'], unit)} -> {figure(change['after'], unit)}{size}"
    when = change["time"][:16].replace("T", " ")
    return f"{series['name']} {series['metric']}: {moved} from {when}{at}{label}, p {change['p']:.2g}"
