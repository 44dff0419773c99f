"""The HTML of a report: one file, nothing loaded from anywhere, everything out of the results escaped."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from ..table import micro, size
from . import charts, trends, words
from .charts import Chart
from .draw import DARK, LIGHT, style
from .gather import Gathered

WIDE, NARROW = 760, 340  # pixels; every picture is drawn for a screen and for a phone
MOST_ROWS = 1000

_HERE = Path(__file__).parent


def pictures(found: Gathered) -> list[tuple[str, str, list[Chart]]]:
    """Return the sections with pictures: anchor, heading, charts."""
    histories, _ = trends.histories(found)
    runs = bool(found.groups)
    sections: list[tuple[str, str, Sequence[Chart | None]]] = [
        ("verdicts", "Verdicts", [trends.verdicts(found)]),
        ("latency", "Latency", charts.distributions(found) if runs else []),
        ("stages", "Stages", [charts.stages(found)] if runs else []),
        ("memory", "Memory", [charts.memory(found)] if runs else []),
        ("accuracy", "Accuracy, latency, size", [trends.trade_off(found)]),
        ("history", "History", histories),
    ]
    return [(key, name, kept) for key, name, all_ in sections if (kept := [c for c in all_ if c is not None])]


def page(found: Gathered, *, title: str = "edge-bench report") -> str:
    """Return the page."""
    sections = [("summary", "Summary", _summary(found))]
    for key, name, kept in pictures(found):
        figures = [_figure(c) for c in kept]
        if key == "latency" and len(kept) > 1:
            rest = "".join(figures[1:])
            figures[1:] = [f"<details><summary>Other clip lengths</summary>{rest}</details>"]
        left = trends.histories(found)[1] if key == "history" else 0
        if left:
            figures.append(f"<p>{left} more series are not drawn; <code>edge-bench history show</code> chooses.</p>")
        body = "".join(figures)
        sections.append((key, name, body))
    if found.groups:
        sections.append(("environments", "Environments", _environments(found)))
        sections.append(("results", "All results", _results(found)))
    if found.suites:
        sections.append(("suites", "Benchmark suites", _suites(found)))
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src 'sha256-{digest}'"
    links = "".join(f'<li><a href="#{key}">{html.escape(name)}</a></li>' for key, name, _ in sections)
    body = "".join(
        f'<section aria-labelledby="{key}"><h2 id="{key}">{html.escape(name)}</h2>{inside}</section>'
        for key, name, inside in sections
    )
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_colours()}{(_HERE / "page.css").read_text(encoding="utf-8")}{_svg_rules()}</style>
</head>
<body>
<a class="skip" href="#summary">Skip to the summary</a>
<header><h1>{html.escape(title)}</h1><p>{made}</p>
<button type="button" id="theme" hidden>Theme: system</button></header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>{body}</main>
<footer><p>Made by edge-bench. This file needs no network.</p></footer>
<script>{script}</script>
</body>
</html>
"""


def _colours() -> str:
    light, dark = ("".join(f"--{k}:{v};" for k, v in palette.items()) for palette in (LIGHT, DARK))
    return (
        f":root{{{light}color-scheme:light dark}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f":root[data-theme=light]{{{light}color-scheme:light}}:root[data-theme=dark]{{{dark}color-scheme:dark}}"
    )


def _svg_rules() -> str:
    return "".join(f"svg {rule}" + "}" for rule in style().split("}") if rule)


def _summary(found: Gathered) -> str:
    return "<ul class=words>" + "".join(f"<li>{html.escape(text)}</li>" for text in words.summary(found)) + "</ul>"


def _figure(chart: Chart) -> str:
    key, title = html.escape(chart.key), html.escape(chart.title)
    buttons = "".join(
        f'<button type="button" data-export="{kind.lower()}" aria-label="Save {title} as {kind}">{kind}</button>'
        for kind in ("SVG", "PNG")
    )
    return (
        f'<figure id="figure-{key}" data-name="{key}"><figcaption><h3>{title}</h3><p>{html.escape(chart.note)}</p>'
        f'</figcaption><div class="picture wide">{chart.draw(WIDE)}</div>'
        f'<div class="picture narrow">{chart.draw(NARROW)}</div>'
        f'<div class="tools" hidden>{buttons}</div><details><summary>Figures of: {title}</summary>'
        f"{_table(chart.header, chart.rows, chart.title)}</details></figure>"
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str, *, marked: Sequence[int] = ()) -> str:
    """Return a table in a box that scrolls, which the keyboard reaches too."""
    heads = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in header)
    lines = []
    for number, row in enumerate(rows):
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        mark = " class=differs" if number in marked else ""
        lines.append(f'<tr{mark}><th scope="row">{html.escape(row[0])}</th>{cells}</tr>')
    name = html.escape(caption)
    return (
        f'<div class="scroll" role="region" aria-label="Table: {name}" tabindex="0"><table><caption>{name}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _environments(found: Gathered) -> str:
    """Return what the environments are, with the rows in which they differ marked."""
    first = {g.newest.entry.environment.key: g.newest.surroundings for g in reversed(found.groups)}
    keys = sorted(first)
    names = list(dict.fromkeys(name for key in keys for name in first[key]))
    rows: list[tuple[str, ...]] = []
    marked: list[int] = []
    for name in names:
        values = ["not told" if first[key].get(name) is None else str(first[key][name]) for key in keys]
        if len(set(values)) > 1:
            marked.append(len(rows))
        rows.append((name, *values))
    if len(keys) == 1:
        intro = "All results come from one environment, so their times compare."
    else:
        different = ", ".join(rows[i][0] for i in marked)
        intro = f"{len(keys)} environments, which differ in: {different}. Times of different ones do not compare."
    return f"<p>{html.escape(intro)}</p>" + _table(("property", *keys), rows, "Environments", marked=marked)


def _results(found: Gathered) -> str:
    runs = sorted((r for g in found.groups for r in g.runs), key=lambda r: r.entry.time, reverse=True)
    rows = []
    for run in runs[:MOST_ROWS]:
        clip_s = run.clips[-1]
        times = [micro(run.times[clip_s, s]["p50"]) for s in ("frontend", "model", "total")]
        rows.append(
            (run.entry.time[:16].replace("T", " "), run.entry.name, run.entry.environment.key, f"{clip_s:g} s", *times,
             size(run.memory["peak"]), size(run.model["bytes"]), "; ".join(run.remarks) or "-")
        )  # fmt: skip
    header = ("time", "model", "environment", "clip", "front end", "network", "total", "peak memory", "file", "remarks")
    more = f"<p>The newest {MOST_ROWS:,} of {len(runs):,}.</p>" if len(runs) > MOST_ROWS else ""
    return f"<details><summary>{len(runs):,} results</summary>{more}{_table(header, rows, 'All results')}</details>"


def _suites(found: Gathered) -> str:
    parts = []
    for file, suite in found.suites:
        rows = [
            (b["name"], *(micro(1e6 * stats[k]) for k in ("median", "q1", "q3", "min", "max")), f"{stats['rounds']:,}")
            for b in suite["benchmarks"]
            for stats in [b["stats"]]
        ]
        header = ("benchmark", "median", "1st quartile", "3rd quartile", "min", "max", "rounds")
        parts.append(_table(header, rows, f"{Path(file).name}, {suite['datetime'][:16].replace('T', ' ')}"))
    return "".join(parts)
