"""Tables of results: a file that names the runs, and what is computed of them, as values, Markdown and a picture.

A table's file is a queue's (`edge_bench.train.job_queue`) with a ``[table]`` that says what to make of the runs. The
kinds are ``seeds`` (means over seeds and differences paired by seed), ``paired`` (every row against the first on the
same clips, with intervals over recordings), ``evaluations`` (every job is an ``edge-bench evaluate`` of two or more
models; a row for each after its first), ``systems`` (`edge_bench.train.system_table`) and ``segmentation`` (the last
job is an ``edge-bench evaluate-segmentation``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from edge_runtime import ConfigError

from .experiment import build, read_toml
from .job_queue import Queue, parse
from .job_results import value_at

TABLES = Path(__file__).parent / "recipes" / "tables"
KINDS = ("seeds", "paired", "evaluations", "systems", "segmentation")


@dataclass(frozen=True)
class TableHead:
    """The ``[table]`` of a file.

    Attributes
    ----------
    title, kind, split : str
    clips : tuple of float
        Clip lengths in seconds.
    rows : dict
        In words what each job is.
    pairs : tuple
        Names of two jobs whose difference is wanted; for ``paired``, others than the first job and each.
    systems : tuple
        For ``systems``: pairs of a label and a bundle, ``yamnet``, or the name of a job.
    """

    title: str = ""
    kind: str = "seeds"
    split: str = "validation"
    clips: tuple[float, ...] = (0.5, 1.0, 2.0)
    rows: Mapping[str, str] = field(default_factory=dict)
    pairs: tuple[Sequence[str], ...] = ()
    systems: tuple[Sequence[str], ...] = ()


def load(name: str) -> tuple[TableHead, Queue]:
    """Read a table of the package by its name, or a file.

    Raises
    ------
    ConfigError
        For an unknown name, key or kind, or a pair of jobs that are not there.
    """
    file = Path(name) if name.endswith(".toml") else TABLES / f"{name}.toml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in TABLES.glob("*.toml")))
        raise ConfigError(f"{name}: no such file or table; tables are {known}")
    values = dict(read_toml(file))
    head = build(TableHead, values.pop("table", {}), f"{file} [table]")
    queue = parse(values, file)
    if head.kind not in KINDS:
        raise ConfigError(f"{file} [table]: kind is {head.kind!r}, must be one of {', '.join(KINDS)}")
    names = {job.entry.name for job in queue.jobs}
    for job in (*head.rows, *(name for pair in head.pairs for name in pair)):
        if job not in names:
            raise ConfigError(f"{file} [table]: there is no job {job!r}")
    return head, queue


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float] | None:
    """Return Student's interval of a mean; None of fewer than two values.

    Examples
    --------
    >>> [round(x, 3) for x in mean_interval([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    if len(values) < 2:
        return None
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def of_seeds(head: TableHead, queue: Queue, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return rows of means over seeds of the class-average F1 and the noise recall, and the paired differences.

    Parameters
    ----------
    found : mapping
        Results of the queue by job label (`job_results.of_jobs`).
    """

    def values(name: str, key: Sequence[str]) -> dict[int, float]:
        of_job = [j for j in queue.jobs if j.entry.name == name and j.label in found]
        pairs = ((j.seed, value_at(found[j.label], key)) for j in of_job)
        return {seed: value for seed, value in pairs if seed is not None and value is not None}

    clips = [f"{s:g}s" for s in head.clips]
    rows = []
    for name in dict.fromkeys(job.entry.name for job in queue.jobs):
        cells = {}
        for clip in clips:
            for metric, key in (("macro_f1", ["macro_f1"]), ("noise recall", ["recall", "noise"])):
                seeds = list(values(name, ["validation", clip, *key]).values())
                cells[f"{metric} {clip}"] = {
                    "mean": float(np.mean(seeds)) if seeds else None, "interval": mean_interval(seeds),
                    "values": seeds,
                }  # fmt: skip
        done = [j for j in queue.jobs if j.entry.name == name and j.label in found]
        rows.append({"name": name, "label": head.rows.get(name, name), "n": len(done), "cells": cells})
    differences = []
    for first, second in head.pairs:
        for clip in clips:
            a, b = (values(name, ["validation", clip, "macro_f1"]) for name in (first, second))
            paired = [b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())]
            differences.append(
                {
                    "first": first, "second": second, "clip": clip, "n": len(paired),
                    "mean": float(np.mean(paired)) if paired else None, "interval": mean_interval(paired),
                }
            )  # fmt: skip
    return {"rows": rows, "differences": differences}


def of_pairs(
    head: TableHead, queue: Queue, folder: Path, found: Mapping[str, Mapping[str, Any]], *,
    corpus: Path, cache: Path | None = None, progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return rows of class-average F1 and noise recall, and the difference of each to the first with its interval.

    The answers of a row's seeds are judged together, and compared with those of the same seeds of the first row, or of
    the row that ``pairs`` names before it. Intervals are over recordings.
    """
    from .evaluate import answers, differences, score, together

    def asked(label: str) -> Any:
        return answers(str(folder / label), corpus, head.split, clip_s=head.clips, cache=cache, progress=progress)

    jobs = [job for job in queue.jobs if job.label in found]
    names = list(dict.fromkeys(job.entry.name for job in queue.jobs))
    by_name = {name: {j.seed: j.label for j in jobs if j.entry.name == name} for name in names}
    if not by_name[names[0]]:
        raise ConfigError(f"{queue.jobs[0].label}: everything is compared with it and it is not there yet")
    bases = {second: first for first, second in head.pairs}
    given: dict[str, dict[int | None, Any]] = {}
    rows: list[dict[str, Any]] = []
    for name in filter(by_name.get, names):
        given[name] = {seed: asked(label) for seed, label in by_name[name].items()}
        scored = score(together(list(given[name].values())), path=name, split=head.split)["clips_by_length"]
        base = bases.get(name, name if name in bases.values() else names[0])
        both = [seed for seed in given.get(base, {}) if seed in given[name]] if base != name else []
        change = differences(*(together([given[x][seed] for seed in both]) for x in (base, name))) if both else {}
        cells = {}
        for clip, r in scored.items():
            cells[f"macro_f1 {clip}s"] = {"mean": r["macro_f1"], "interval": r["intervals"]["macro_f1"]}
            cells[f"noise recall {clip}s"] = {"mean": r["recall"]["noise"], "interval": None}
            delta = change.get(clip, {}).get("macro_f1")
            if delta:
                cells[f"difference {clip}s"] = {"mean": delta["delta"], "interval": list(delta["interval"])}
        rows.append({"name": name, "label": head.rows.get(name, name), "n": len(given[name]), "cells": cells})
    return {"rows": rows, "differences": []}


def of_evaluations(head: TableHead, queue: Queue, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return rows of class-average F1 and its difference to the first model of the same job, paired by recording.

    Raises
    ------
    ConfigError
        If a job evaluated one model only.
    """
    rows = []
    for job in queue.jobs:
        if job.label not in found:
            continue
        result = found[job.label]
        if "differences" not in result:
            raise ConfigError(f"{job.label}: is no evaluation of two models; name both in its command")
        for other, change in zip(result["evaluations"][1:], result["differences"], strict=True):
            cells = {}
            for clip, scores in other["clips_by_length"].items():
                delta = change["clips_by_length"][clip]["macro_f1"]
                cells[f"macro_f1 {clip}s"] = {"mean": scores["macro_f1"], "interval": scores["intervals"]["macro_f1"]}
                cells[f"difference {clip}s"] = {"mean": delta["delta"], "interval": delta["interval"]}
            label = head.rows.get(job.entry.name, job.entry.name)
            several = len(result["differences"]) > 1
            rows.append({
                "name": job.entry.name, "label": f"{label}: {other['model']}" if several else label, "n": 1,
                "corpus": other["corpus"], "cells": cells,
            })  # fmt: skip
    return {"rows": rows, "differences": []}


def markdown(table: Mapping[str, Any]) -> str:
    """Return the table as Markdown, percent, with what made it below."""
    rows = table["rows"]
    if table["kind"] == "systems":
        from .system_table import markdown as of_systems

        head = ["Percent; in brackets the 95 % interval, a bootstrap over recordings; classes by their first letter."]
        return _page(table, [*head, "", *of_systems(rows)])
    if table["kind"] == "segmentation":
        from . import segment_evaluate

        forms = [segment_evaluate.cells(table["result"], kind) for kind in ("paper", "scores")]
        parts = [*_lines(*forms[0]), "", *_lines(*forms[1])]
        what = "Percent; frame accuracy / speech-non-speech without silence, then all scores."
        return _page(table, [what, "", *parts])
    columns = list(dict.fromkeys(key for row in rows for key in row["cells"]))
    lines = ["Percent; in brackets the 95 % interval.", ""]
    lines += ["| | n | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 2)]
    for row in rows:
        cells = [_cell(row["cells"].get(key), signed=key.startswith("difference")) for key in columns]
        lines.append(f"| {row['label']} | {row['n']} | " + " | ".join(cells) + " |")
    if table["differences"]:
        lines += ["", "| difference of class-average F1, paired by seed | clip | n | points |", "|---|---|---|---|"]
        for d in table["differences"]:
            lines.append(f"| {d['second']} - {d['first']} | {d['clip']} | {d['n']} | {_cell(d, signed=True)} |")
    return _page(table, lines)


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def _page(table: Mapping[str, Any], lines: Sequence[str]) -> str:
    trained = f"trained with {', '.join(table['frameworks'])}; " if table.get("frameworks") else ""
    made = (
        f"`{table['command']}`; corpus {', '.join(table['corpus']) or '-'}; {table['split']} split; "
        f"{trained}{table['software']}; made {table['made']}."
    )
    return "\n".join([f"# {table['title']}", "", *lines, "", made]) + "\n"


def _cell(value: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    if not value or value["mean"] is None:
        return "-"
    sign = "+" if signed else ""
    text = format(100 * value["mean"], f"{sign}.2f")
    if value.get("interval"):
        low, high = (format(100 * v, f"{sign}.1f") for v in value["interval"])
        text += f" ({low} to {high})"
    return text


def draw(table: Mapping[str, Any], path: Path) -> None:
    """Draw the class-average F1 of each row with its interval, one panel a clip length, and differences, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = table["rows"]
    panels = list(dict.fromkeys(key for row in rows for key in row["cells"] if not key.startswith("noise")))
    height = 1.2 + 0.34 * len(rows)
    figure, axes = plt.subplots(1, len(panels), figsize=(2.6 + 3.2 * len(panels), height), layout="constrained",
                                sharey=True, squeeze=False)  # fmt: skip
    for axis, panel in zip(axes[0], panels, strict=True):
        for place, row in enumerate(reversed(rows)):
            cell = row["cells"].get(panel)
            if not cell or cell["mean"] is None:
                continue
            axis.plot(100 * cell["mean"], place, "o", color="tab:blue", markersize=5)
            if cell.get("interval"):
                axis.plot([100 * v for v in cell["interval"]], [place, place], color="tab:blue", linewidth=1)
            for value in cell.get("values", ()):
                axis.plot(100 * value, place, "|", color="tab:gray", markersize=9)
        if panel.startswith("difference"):
            axis.axvline(0, color="black", linewidth=0.5)
            axis.set(xlabel="points", title=panel)
        else:
            axis.set(xlabel="class-average F1, %", title=panel.removeprefix("macro_f1 "))
        axis.grid(axis="x", linewidth=0.3)
    axes[0][0].set_yticks(range(len(rows)), [row["label"] for row in reversed(rows)])
    figure.suptitle(table["title"], fontsize=11)
    figure.savefig(path, dpi=120)
    plt.close(figure)
