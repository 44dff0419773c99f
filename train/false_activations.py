"""How often an always-on device takes noise for something, and what a stricter limit on confidence costs.

Conventions: every recording of a split is segmented by itself, as a device hears it. A segment with a class other than
the recording's, neither silence nor ``unknown``, is an *activation*. In recordings of noise it is a false one, counted
by the hour of noise. Of the other recordings the share of time that is *found* is given: labelled with their class, of
the time that is not silent. A limit on confidence turns segments below it into ``unknown``, in both.

Intervals are 95 %, from a bootstrap over groups, because activations come in clusters; where there is none at all the
upper end is three by the length of the noise (the rule of three for a Poisson count of zero).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, CorpusError, EdgeBenchError, Segmenter
from edge_runtime.bundle import Bundle
from edge_runtime.decisions import Segmentation
from edge_runtime.files import append_json, write_aside
from edge_runtime.metrics import interval
from edge_runtime.segments import SILENCE, Segment

from .corpus import Corpus

SCHEMA = "edge-bench/false-activations/1"
LIMITS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_SAMPLES = 2000  # of the bootstrap

Float = NDArray[np.float64]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Heard:
    """A recording's segments, without a limit on confidence."""

    name: str
    label: str
    group: str
    segments: tuple[Segment, ...]

    def activations(self, limit: float, label: str | None = None) -> int:
        """Return how many segments have another class than the recording (`label`, if given) and are sure enough."""
        return sum(
            s.label not in (SILENCE, self.label) and s.confidence >= limit and label in (None, s.label)
            for s in self.segments
        )

    def seconds(self, limit: float = 0.0) -> dict[str, float]:
        """Return the time of ``all``, and what is not silent of it: ``found``, ``other`` class, ``unknown``."""
        out = {"all": 0.0, "found": 0.0, "other": 0.0, "unknown": 0.0}
        for s in self.segments:
            length = s.end_s - s.start_s
            out["all"] += length
            if s.label != SILENCE:
                sure = s.confidence >= limit
                out[("found" if s.label == self.label else "other") if sure else "unknown"] += length
        return out


def hear(
    bundle: Bundle, corpus: Corpus, split: str, settings: Segmentation | None = None, *,
    progress: Progress | None = None,
) -> list[Heard]:  # fmt: skip
    """Segment all recordings of a split.

    Raises
    ------
    ConfigError
        If the corpus has a class that the bundle has not.
    CorpusError
        If a recording cannot be read.
    """
    strange = sorted(set(corpus.classes) - set(bundle.classes))
    if strange:
        raise ConfigError(f"{corpus.root}: has recordings of {strange[0]!r}, which {bundle.name} does not know")
    chosen = Segmentation.of(bundle) if settings is None else settings
    recordings = corpus.split(split)
    found = []
    plain = Segmentation(chosen.smoothing, chosen.temperature)
    with Segmenter(bundle, settings=plain) as segmenter:
        for number, r in enumerate(recordings):
            try:
                segments = segmenter.segment_file(r.path)
            except EdgeBenchError as error:
                raise CorpusError(str(error)) from None
            found.append(Heard(r.name, r.label, r.group, segments))
            if progress:
                progress(f"{bundle.name} on {split}", number + 1, len(recordings))
    return found


def summarise(heard: Sequence[Heard], noise: str, limits: Sequence[float] = LIMITS) -> dict[str, Any]:
    """Return ``hours`` by class and a row for each limit: ``per_hour``, its interval, by label; ``found``, ``unknown``.

    Raises
    ------
    ConfigError
        If no recording is of the class `noise`.
    """
    of_noise = [h for h in heard if h.label == noise]
    if not of_noise:
        raise ConfigError(f"no recording is of class {noise!r}; --noise names the class that is not to activate")
    classes = list(dict.fromkeys(h.label for h in heard))
    rows = []
    for limit in limits:
        of_class = {}
        for label in classes:
            parts = [h.seconds(limit) for h in heard if h.label == label]
            sums = {k: sum(p[k] for p in parts) for k in ("found", "other", "unknown")}
            total = max(sum(sums.values()), 1e-9)
            of_class[label] = {k: v / total for k, v in sums.items()}
        rows.append(
            {
                "unknown_below": limit, **_rate(of_noise, limit),
                "by_label": {k: _rate(of_noise, limit, k)["per_hour"] for k in classes if k != noise},
                "found": {k: v["found"] for k, v in of_class.items()},
                "unknown": {k: v["unknown"] for k, v in of_class.items()},
                "noise_time_taken": of_class[noise]["other"],
            }
        )  # fmt: skip
    worst = sorted(of_noise, key=lambda h: -h.activations(0.0))
    return {
        "noise": noise,
        "hours": {k: sum(h.seconds()["all"] for h in heard if h.label == k) / 3600 for k in classes},
        "recordings": {k: sum(h.label == k for h in heard) for k in classes},
        "rows": rows,
        "most": [{"file": h.name, "activations": n} for h in worst[:10] if (n := h.activations(0.0))],
    }


def _rate(heard: Sequence[Heard], limit: float, label: str | None = None) -> dict[str, Any]:
    """Return activations by the hour, with the interval."""
    groups = {h.group: np.zeros(2) for h in heard}
    for h in heard:
        groups[h.group] += h.activations(limit, label), h.seconds()["all"] / 3600
    counts, hours = np.array(list(groups.values())).T
    if not counts.any():
        between = (0.0, 3 / float(hours.sum()))
    else:
        n = len(counts)
        drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=_SAMPLES)
        between = interval((drawn @ counts) / np.maximum(drawn @ hours, 1e-9))
    return {"activations": int(counts.sum()), "per_hour": float(counts.sum() / hours.sum()), "interval": list(between)}


def evaluate(
    bundle: Bundle, path: str, corpus: Corpus, split: str, settings: Segmentation | None = None, *,
    noise: str = "noise", log: Path | None = None, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return a bundle's result; a look at the test split is appended to `log`.

    Raises
    ------
    EdgeBenchError
        Also if the log cannot be written: a look that leaves no trace must not be.
    """
    chosen = Segmentation.of(bundle) if settings is None else settings
    result = {
        "model": bundle.name, "path": path, "sha256": bundle.sha256, "split": split, "corpus": corpus.revision(),
        "settings": chosen.to_dict(), **summarise(hear(bundle, corpus, split, chosen, progress=progress), noise),
    }  # fmt: skip
    if split == "test" and log is not None:
        entry = {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"), "model": bundle.name, "path": path,
            "corpus": result["corpus"],
            "false_activations_per_hour": {str(r["unknown_below"]): round(r["per_hour"], 3) for r in result["rows"]},
        }  # fmt: skip
        append_json(log, entry)
    return result


def cells(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a table for people."""
    others = [k for k in result["hours"] if k != result["noise"]]
    header = ["unknown below", "an hour", "95 %", *(f"as {k}" for k in others), "time taken, %",
              *(f"{k} found, %" for k in others), *(f"{k} unknown, %" for k in result["hours"])]  # fmt: skip
    rows = []
    for r in result["rows"]:
        low, high = r["interval"]
        rows.append(
            [f"{r['unknown_below']:g}", f"{r['per_hour']:.1f}", f"{low:.1f} to {high:.1f}",
             *(f"{r['by_label'][k]:.1f}" for k in others), f"{100 * r['noise_time_taken']:.2f}",
             *(f"{100 * r['found'][k]:.1f}" for k in others),
             *(f"{100 * r['unknown'][k]:.1f}" for k in result["hours"])]
        )  # fmt: skip
    return header, rows


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw what is found of each class against false activations, a line for each bundle, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from .pictures import move_labels_apart
    from .segment_plot import COLOURS

    others = [k for k in results[0]["hours"] if k != results[0]["noise"]]
    figure, axes = plt.subplots(
        1, len(others), figsize=(5.2 * len(others), 4.2), sharey=True, layout="constrained", squeeze=False
    )
    for axis, label in zip(axes[0], others, strict=True):
        for number, result in enumerate(results):
            x = [r["per_hour"] for r in result["rows"]]
            y = [100 * r["found"][label] for r in result["rows"]]
            axis.plot(x, y, "o-", color=COLOURS[number % len(COLOURS)], label=result["model"], markersize=4)
            if number == 0:
                for r, a, b in zip(result["rows"], x, y, strict=True):
                    axis.annotate(f"{r['unknown_below']:g}", (a, b), (6, 3), textcoords="offset points", fontsize=8)
        axis.set(xlabel=f"false activations an hour of {results[0]['noise']}", title=label)
        axis.set_xlim(left=-0.02 * axis.get_xlim()[1])  # none an hour stays in sight
        axis.grid(alpha=0.3)
        move_labels_apart(axis)
    axes[0, 0].set(ylabel="share of time found, %", ylim=(None, 101))
    axes[0, -1].legend(frameon=False, loc="lower right")
    figure.suptitle(f"{results[0]['split']} split; the numbers are the limit on confidence below which it is unknown")
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=110, format="png")
    plt.close(figure)
