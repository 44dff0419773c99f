"""The pictures of several results together: accuracy against latency, verdicts with their bounds, history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from ..history import figure
from ..results import STAGE_WORDS
from ..table import micro, size
from .charts import Chart, _cut, shown
from .draw import SERIES, Drawing, Scale, _n, dots, legend, line, log_scale, x_axis, y_axis
from .gather import Gathered

MOST_SERIES = 12  # pictures of history
MOST_POINTS = 40  # of the newest points in the table of a series, beside those where the level changed


def split_of(found: Gathered) -> str | None:
    """Return the split whose scores are shown: the one that most of the measured models have, test before others."""
    measured = {g.newest.entry.name for g in found.groups}
    models: dict[str, set[str]] = {}
    for e in found.evaluations:
        models.setdefault(e["split"], set()).add(e["model"])
    order = sorted(models, key=lambda s: (len(models[s] & measured), len(models[s]), s == "test"))
    return order[-1] if order else None


def scores_of(found: Gathered) -> dict[str, dict[str, Any]]:
    """Return the evaluation of each model on `split_of`, at the recordings' own level."""
    split = split_of(found)
    return {e["model"]: e for e in found.evaluations if e["split"] == split and not e["gain_db"]}


def trade_off(found: Gathered) -> Chart | None:
    """Return class-average F1 against the time of a clip; the circle's area is the file's size."""
    scores = scores_of(found)
    groups = [g for g in shown(found) if g.newest.entry.name in scores]
    points: list[tuple[int, str, float, float, float, tuple[float, float] | None, int]] = []
    for i, g in enumerate(groups):
        by_length = scores[g.newest.entry.name]["clips_by_length"]
        for clip_s in g.newest.clips:
            found_scores = by_length.get(f"{clip_s:g}")
            if found_scores:
                bounds = found_scores.get("intervals", {}).get("macro_f1")
                points.append(
                    (i, g.label, clip_s, g.newest.times[clip_s, "total"]["p50"], 100 * found_scores["macro_f1"],
                     (100 * bounds[0], 100 * bounds[1]) if bounds else None, int(g.newest.model["bytes"]))
                )  # fmt: skip
    if not points:
        return None
    title = f"Accuracy against latency against size ({split_of(found)} split)"
    largest = max(p[6] for p in points)

    def draw(width: int) -> str:
        left = 48
        drawing = Drawing(width, 400)
        names = [(f"f{i % SERIES}", f"{g.label}, {size(g.newest.model['bytes'])}") for i, g in enumerate(groups)]
        top = legend(drawing, names, left, 16)
        x = log_scale([p[3] for p in points], left + 24, width - 30)
        low = min(p[5][0] if p[5] else p[4] for p in points)
        high = max(p[5][1] if p[5] else p[4] for p in points)
        y = Scale(low - 1, min(high + 1, 100.5), 350, top + 4)
        x_axis(drawing, x, top, 350, micro, name="median time of a clip, logarithmic")
        y_axis(drawing, y, left, width - 10, lambda v: f"{v:g} %")
        for i, _ in enumerate(groups):
            drawing.add("path", class_=f"l{i % SERIES} faint", d=line((x(p[3]), y(p[4])) for p in points if p[0] == i))
        for i, label, clip_s, time, f1, bounds, count in points:
            words = f"{label}, {clip_s:g} s: F1 {f1:.1f} %, {micro(time)}, {size(count)}"
            if bounds:
                ends = f"M{_n(x(time))} {_n(y(bounds[0]))}V{_n(y(bounds[1]))}"
                drawing.add("path", class_=f"l{i % SERIES} thin", d=ends)
            radius = 13 * (count / largest) ** 0.5
            drawing.add("circle", words, cx=x(time), cy=y(f1), r=radius, class_=f"f{i % SERIES} pale")
            drawing.add("circle", words, cx=x(time), cy=y(f1), r=2.5, class_=f"f{i % SERIES}")
            drawing.text(x(time) + radius + 2, y(f1) - 6, f"{clip_s:g} s", class_="halo")
        return drawing.svg(title)

    table = [
        (label, f"{clip_s:g} s", f"{f1:.1f} %", f"{b[0]:.1f} to {b[1]:.1f} %" if b else "-", micro(time), size(count))
        for _, label, clip_s, time, f1, b, count in points
    ]
    header = ("model", "clip", "class-average F1", "95 %", "time", "file")
    note = "Up is more accurate, left is faster; a circle's area is the file's size. Lines join a model's clip lengths."
    return Chart("accuracy", title, note, draw, header, table)


def verdicts(found: Gathered) -> Chart | None:
    """Return the ratios of gates and comparisons with their bounds."""
    rows: list[tuple[str, str, float, float | None, float | None, str]] = []
    for _, gate in found.gates:
        names = [side.get("name") or side.get("bundle") or "?" for side in (gate["candidate"], gate["baseline"])]
        for stage, row in gate["stages"].items():
            title = f"{names[0]} / {names[1]} · {STAGE_WORDS.get(stage, stage)}"
            rows.append((title, "gate", row["ratio"], *row["interval"], row["verdict"]))
    for _, pair in found.comparisons:
        for clip in pair["clips"]:
            for stage, row in clip["stages"].items():
                title = f"{pair['b']['name']} / {pair['a']['name']} · {clip['clip_s']:g} s {STAGE_WORDS[stage]}"
                rows.append((title, "compare", row["ratio"], *row["interval"], row["verdict"]))
    if not rows:
        return None
    title = "Slower or faster: ratios with their bounds"
    colours = {"regress": 1, "slower": 1, "pass": 2, "faster": 2, "same": 0, "inconclusive": 4}

    def draw(width: int) -> str:
        tall = 40
        drawing = Drawing(width, 20 + tall * len(rows) + 30)
        edges = [e for r in rows for e in (r[2], r[3], r[4]) if e]
        low, high = min(*edges, 0.98), max(*edges, 1.02)
        scale = Scale(low - 0.1 * (high - low), high + 0.1 * (high - low), 14, width - 14)
        bottom = 8 + tall * len(rows)
        x_axis(drawing, scale, 6, bottom, lambda v: f"{100 * (v - 1):+.3g} %")
        drawing.add("path", class_="dash", d=f"M{_n(scale(1))} 6V{_n(bottom)}")
        for number, (name, _, ratio, a, b, verdict) in enumerate(rows):
            y = 8 + tall * number + 28
            colour = colours.get(verdict, 0)
            x0, x1 = (scale(e) if e else edge for e, edge in ((a, scale.begin), (b, scale.end)))
            drawing.text(14, y - 12, _cut(f"{verdict}: {name}", width - 28), class_="halo")
            drawing.add("path", class_=f"l{colour}", d=f"M{_n(x0)} {_n(y)}H{_n(x1)}")
            words = f"{name}: {100 * (ratio - 1):+.1f} %"
            drawing.add("circle", words, cx=scale(ratio), cy=y, r=4.5, class_=f"f{colour}")
        return drawing.svg(title)

    def percent(ratio: float | None) -> str:
        return "?" if ratio is None else f"{100 * (ratio - 1):+.2f} %"

    table = [(n, kind, percent(r), f"{percent(a)} to {percent(b)}", verdict) for n, kind, r, a, b, verdict in rows]
    note = "Right of the dashed line the candidate takes longer. A bound that is not known runs to the edge."
    return Chart("verdicts", title, note, draw, ("what", "by", "change", "bounds", "verdict"), table)


def _worth(series: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the series with several points: those with changes first, then those that matter most."""

    def order(s: dict[str, Any]) -> tuple[bool, bool, str, str]:
        main = s["metric"].endswith(("/total", "/model", "/macro_f1", "memory/peak"))
        return not s["changes"], not main, s["name"], s["metric"]

    return sorted((s for s in series if len(s["points"]) >= 2), key=order)


def histories(found: Gathered) -> tuple[list[Chart], int]:
    """Return pictures of the series that matter most, and how many more there are."""
    worth = _worth(found.series)
    return [_history(s, number) for number, s in enumerate(worth[:MOST_SERIES])], max(0, len(worth) - MOST_SERIES)


def _history(series: dict[str, Any], number: int) -> Chart:
    points, changes, unit = series["points"], series["changes"], series["unit"]
    title = f"{series['name']}: {series['metric']}"
    times = [datetime.fromisoformat(p["time"]).timestamp() for p in points]
    values = [p["value"] for p in points]

    def draw(width: int) -> str:
        left = 70
        drawing = Drawing(width, 230)
        x = Scale(times[0], max(times[-1], times[0] + 1), left + 8, width - 16)
        low, high = min(values), max(values)
        room = (high - low) * 0.12 or abs(high) * 0.05 or 1
        y = Scale(low - room, high + room, 180, 24)
        y_axis(drawing, y, left, width - 10, lambda v: figure(v, unit))
        _dates(drawing, x, times, 180)
        bars = [(x(t), y(p["low"]), y(p["high"])) for t, p in zip(times, points, strict=True) if p["low"] and p["high"]]
        if bars and len(points) <= 60:
            inside = [(a, min(max(b, 18), 180), min(max(c, 18), 180)) for a, b, c in bars]
            drawing.add("path", class_="l0 thin faint", d="".join(f"M{_n(a)} {_n(b)}V{_n(c)}" for a, b, c in inside))
        at = [(x(t), y(v)) for t, v in zip(times, values, strict=True)]
        drawing.add("path", class_="l0 thin faint", d=line(at))
        drawing.add("path", class_="l0 dots", d=dots(at))
        edges = [0, *(c["index"] for c in changes), len(points)]
        levels = [c["before"] for c in changes] + [changes[-1]["after"]] if changes else []
        for begin, end, level in zip(edges, edges[1:], levels, strict=False):
            drawing.add("path", class_="l1", d=f"M{_n(x(times[begin]))} {_n(y(level))}H{_n(x(times[end - 1]))}")
        for c in changes:
            middle = (x(times[c["index"] - 1]) + x(times[c["index"]])) / 2
            drawing.add("path", class_="dash", d=f"M{_n(middle)} 22V180")
            words = figure(c["after"], unit) if c["ratio"] is None else f"{100 * (c['ratio'] - 1):+.1f} %"
            end = middle > width - 70
            drawing.text(middle + (-4 if end else 4), 16, words, class_="halo", text_anchor="end" if end else "start")
        return drawing.svg(title)

    moved = {c["index"]: f"{figure(c['before'], unit)} to {figure(c['after'], unit)}" for c in changes}
    told = [i for i in range(len(points)) if i in moved or i >= len(points) - MOST_POINTS]
    table = [
        (p["time"][:16].replace("T", " "), figure(p["value"], unit), moved.get(i, ""), (p["commit"] or "")[:10],
         p["label"] or "")
        for i, p in enumerate(points) if i in told
    ]  # fmt: skip
    note = series["environment"]["words"] + ("." if not changes else f". {len(changes)} change(s) of level, dashed.")
    header = ("time", "value", "level changed", "commit", "label")
    return Chart(f"history-{number + 1}", title, note, draw, header, table)


def _dates(drawing: Drawing, scale: Scale, times: Sequence[float], bottom: float) -> None:
    """Write the first and the last date, and some between them."""
    count = max(2, int((scale.end - scale.begin) / 110))
    span = times[-1] - times[0]
    form = "%Y-%m-%d" if span > 2 * 86400 else "%d %H:%M"
    for k in range(count):
        t = scale.low + (scale.high - scale.low) * k / (count - 1)
        anchor = "start" if k == 0 else "end" if k == count - 1 else "middle"
        words = datetime.fromtimestamp(t, timezone.utc).strftime(form)
        drawing.text(scale(t), bottom + 18, words, text_anchor=anchor, class_="soft")
