"""The pictures of a report. Each is drawn for a width in pixels, and has its figures as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..results import STAGE_WORDS
from ..table import micro, size
from .draw import CHARACTER, SERIES, Drawing, Scale, _n, legend, line, log_scale, x_axis
from .gather import MEMORY, Gathered, Group

MOST_GROUPS = 8  # in one picture; the tables hold all
MEMORY_WORDS = {
    "start": "interpreter started", "after_import": "after import", "after_load": "after load",
    "after_first": "after first call", "steady": "steady", "peak": "peak",
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes
    ----------
    key : str
        Its name as a file and an anchor.
    title, note : str
        What it shows, and how to read it.
    draw : callable
        From a width in pixels to an ``<svg>``.
    header, rows
        Its figures.
    """

    key: str
    title: str
    note: str
    draw: Callable[[int], str]
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def _cut(name: str, pixels: float) -> str:
    """Return a name that fits."""
    most = max(4, int(pixels / CHARACTER))
    return name if len(name) <= most else f"{name[: most - 1]}…"


def shown(found: Gathered) -> tuple[Group, ...]:
    """Return the groups that pictures show: the ones measured last."""
    last = sorted(found.groups, key=lambda g: g.newest.entry.time)[-MOST_GROUPS:]
    return tuple(g for g in found.groups if g in last)


def distributions(found: Gathered) -> list[Chart]:
    """Return a picture for each clip length, the longest first: how the times of the newest runs are spread."""
    groups = shown(found)
    lengths = sorted({clip_s for g in groups for clip_s in g.newest.clips}, reverse=True)
    return [_distribution([g for g in groups if clip_s in g.newest.clips], clip_s) for clip_s in lengths]


def _distribution(groups: Sequence[Group], clip_s: float) -> Chart:
    rows = [(g, stage) for g in groups for stage in STAGE_WORDS]
    title = f"Latency of {clip_s:g} s of sound"

    def draw(width: int) -> str:
        wide = width >= 500
        left = 262 if wide else 12
        tall = 34 if wide else 46
        drawing = Drawing(width, 20 + tall * len(rows) + 44)
        edges = [
            float(np.quantile(g.newest.samples[clip_s, stage], q)) for g, stage in rows for q in (0.001, 0.995)
        ] + [g.newest.times[clip_s, stage]["p99"] for g, stage in rows]
        scale = log_scale(edges, left, width - 16)
        bottom = 14 + tall * len(rows)
        x_axis(drawing, scale, 10, bottom, micro, name="time of a call, logarithmic")
        for number, (g, stage) in enumerate(rows):
            colour = groups.index(g) % SERIES
            base = 14 + tall * (number + 1) - 6
            _silhouette(drawing, g.newest.samples[clip_s, stage], scale, base, 22, colour)
            t = g.newest.times[clip_s, stage]
            figures = ", ".join(f"{k} {micro(t[k])}" for k in ("p50", "p90", "p99"))
            words = f"{g.label}, {STAGE_WORDS[stage]}: {figures}"
            for key, high in (("p50", 22), ("p90", 11), ("p99", 7)):
                x = scale(t[key])
                drawing.add("path", words, class_="ink", d=f"M{_n(x)} {_n(base + 2)}V{_n(base - high)}")
            name = f"{STAGE_WORDS[stage]} · {g.label}"
            if wide:
                drawing.text(left - 10, base - 4, _cut(name, left - 16), text_anchor="end")
            else:
                drawing.text(left, base - 27, _cut(name, width - 20), class_="halo")
        return drawing.svg(title)

    table = []
    for g, stage in rows:
        t = g.newest.times[clip_s, stage]
        low, high = t.get("interval") or (None, None)
        known = f"{micro(low)} to {micro(high)}" if low and high else "-"
        table.append(
            (g.label, STAGE_WORDS[stage], micro(t["p50"]), known, micro(t["p90"]), micro(t["p99"]), micro(t["cold"]),
             str(t.get("outliers", "-")), f"{t['n']:,}")
        )  # fmt: skip
    header = ("model", "stage", "median", "95 % of the median", "p90", "p99", "cold", "outliers", "samples")
    note = "Each silhouette is the spread of the calls of one run. Tall mark: median; shorter ones: p90, p99."
    return Chart(f"latency-{clip_s:g}s", title, note, draw, header, table)


def _silhouette(
    drawing: Drawing, samples: NDArray[np.float32], scale: Scale, base: float, high: float, colour: int
) -> None:
    """Draw how samples are spread, smoothed, on a logarithmic scale."""
    logs = np.log(np.clip(samples.astype(np.float64), scale.low, scale.high))
    counts, edges = np.histogram(logs, 120, (np.log(scale.low), np.log(scale.high)))
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.5) ** 2)
    density = np.convolve(counts, kernel / kernel.sum(), "same")
    if not density.max():
        return
    keep = np.flatnonzero(density > density.max() / 200)
    begin, end = max(keep[0] - 1, 0), min(keep[-1] + 2, len(density))
    centres = (edges[:-1] + edges[1:]) / 2
    outline = [(scale(float(np.exp(centres[i]))), base - high * density[i] / density.max()) for i in range(begin, end)]
    outline = [(outline[0][0], base), *outline, (outline[-1][0], base)]
    drawing.add("path", class_=f"f{colour} pale", d=line(outline) + "Z")
    drawing.add("path", class_=f"l{colour} thin", d=line(outline[1:-1]))


def stages(found: Gathered) -> Chart:
    """Return the medians of front end and model as bars, for each model and clip length."""
    rows = [(g, clip_s) for g in shown(found) for clip_s in g.newest.clips]
    title = "Where the time goes"
    parts = ("frontend", "model")

    def median(g: Group, clip_s: float, stage: str) -> float:
        return float(g.newest.times[clip_s, stage]["p50"])

    def draw(width: int) -> str:
        wide = width >= 500
        left, tall = (262, 26) if wide else (18, 40)
        drawing = Drawing(width, 60 + tall * len(rows))
        below = legend(drawing, [(f"f{i + 2}", STAGE_WORDS[s]) for i, s in enumerate(parts)], left, 16)
        most = max(sum(median(g, c, s) for s in parts) for g, c in rows)
        scale = Scale(0, most * 1.02, left, width - 70)
        bottom = below + tall * len(rows) - 6
        drawing.height = bottom + 26
        x_axis(drawing, scale, below - 6, bottom, lambda v: micro(v) if v else "0")
        for number, (g, clip_s) in enumerate(rows):
            y = below + tall * number + (0 if wide else 14)
            at = 0.0
            for i, stage in enumerate(parts):
                value = median(g, clip_s, stage)
                wide_bar = max(scale(at + value) - scale(at), 0.5)
                words = f"{STAGE_WORDS[stage]} {micro(value)}"
                drawing.add("rect", words, x=scale(at), y=y, width=wide_bar, height=16, class_=f"f{i + 2}")
                at += value
            drawing.text(scale(at) + 6, y + 12, micro(at))
            name = f"{clip_s:g} s · {g.label}"
            if wide:
                drawing.text(left - 10, y + 12, _cut(name, left - 16), text_anchor="end")
            else:
                drawing.text(left, y - 4, _cut(name, width - 20), class_="halo")
        return drawing.svg(title)

    table = []
    for g, clip_s in rows:
        front, model, total = (median(g, clip_s, s) for s in ("frontend", "model", "total"))
        table.append(
            (g.label, f"{clip_s:g} s", micro(front), micro(model), micro(total),
             f"{100 * front / (front + model):.0f} %", f"{clip_s * 1e6 / total:,.0f} x")
        )  # fmt: skip
    header = ("model", "clip", "front end", "model", "total", "share of front end", "real time")
    return Chart("stages", title, "Medians of the newest run of each model.", draw, header, table)


def memory(found: Gathered) -> Chart:
    """Return memory by stage of a fresh process, for each model."""
    groups = shown(found)
    title = "Memory by stage of a fresh process"
    names = [k for k in MEMORY if any(g.newest.memory.get(k) for g in groups)]

    def draw(width: int) -> str:
        wide = width >= 500
        left, bar = (150, 13) if wide else (20, 13)
        tall = bar * len(groups) + (14 if wide else 28)
        drawing = Drawing(width, 60 + tall * len(names) + 18 * len(groups))
        labels = [(f"f{i % SERIES}", g.label) for i, g in enumerate(groups)]
        below = legend(drawing, labels, left, 16) + 4
        most = max(g.newest.memory.get(k) or 0 for g in groups for k in names)
        scale = Scale(0, most * 1.02 / 1e6, left, width - 76)
        bottom = below + tall * len(names) - 8
        x_axis(drawing, scale, below - 6, bottom, lambda v: f"{v:g} MB")
        for number, key in enumerate(names):
            y = below + tall * number + (0 if wide else 14)
            if wide:
                drawing.text(left - 10, y + bar * len(groups) / 2 + 4, MEMORY_WORDS[key], text_anchor="end")
            else:
                drawing.text(left, y - 4, MEMORY_WORDS[key], class_="halo")
            for i, g in enumerate(groups):
                rss, pss = g.newest.memory.get(key), (g.newest.memory.get("pss") or {}).get(key)
                if not rss:
                    continue
                words = f"{g.label}, {MEMORY_WORDS[key]}: RSS {size(rss)}" + (f", PSS {size(pss)}" if pss else "")
                top = y + bar * i
                drawing.add("rect", words, x=left, y=top, width=scale(rss / 1e6) - left, height=bar - 3,
                            class_=f"f{i % SERIES}" + (" pale" if pss else ""))  # fmt: skip
                if pss:
                    drawing.add("rect", words, x=left, y=top, width=scale(pss / 1e6) - left, height=bar - 3,
                                class_=f"f{i % SERIES}")  # fmt: skip
                drawing.text(scale(rss / 1e6) + 6, top + bar - 3, size(rss))
        drawing.height = bottom + 30
        return drawing.svg(title)

    table = []
    for g in groups:
        m = g.newest.memory
        for key in names:
            shares = [(m.get(kind) or {}).get(key) for kind in ("pss", "uss")]
            table.append((g.label, MEMORY_WORDS[key], size(m.get(key)), *(size(s) for s in shares)))
    note = "RSS is what the process holds (pale); PSS shares common pages among their users (full); USS is its alone."
    return Chart("memory", title, note, draw, ("model", "stage", "RSS", "PSS", "USS"), table)
