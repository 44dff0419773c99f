"""Pictures of evaluations: confusion, ROC and reliability side by side, and scores against the noise's level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.files import write_aside
from edge_runtime.probability import normalised, roc_curve

from .clips import ClipSet

# speech, music, noise: told apart also without colour sight (Okabe & Ito)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=120, format="png")
    _pyplot().close(figure)


# where a label may stand beside its point, in points: (x, y, which end of the text is there); the first that is free
_PLACES = [
    (x, y, end) for far in (0, 10, 20) for x, y, end in (
        (6, 3 + far, "left"), (6, -9 - far, "left"), (-6, 3 + far, "right"), (-6, -9 - far, "right"),
    )
]  # fmt: skip


def move_labels_apart(axis: Any) -> None:
    """Move an axis' annotations so that none lies over another or a point, or beyond its sides, where there is room."""
    from matplotlib.transforms import Bbox

    axis.figure.draw_without_rendering()  # places everything
    frame = axis.get_window_extent()
    points = [axis.transData.transform(label.xy) for label in axis.texts]
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in points]

    def put(label: Any, place: tuple[float, float, str]) -> Any:
        label.xyann = place[:2]
        label.set_horizontalalignment(place[2])
        return label.get_window_extent()

    def overlap(box: Any) -> float:
        shared = [one for other in taken if (one := Bbox.intersection(box, other)) is not None]
        beyond = box.x0 < frame.x0 or box.x1 > frame.x1
        return sum(one.width * one.height for one in shared) + 1e6 * beyond

    for label in sorted(axis.texts, key=lambda label: -label.xy[1]):
        costs = [overlap(put(label, place)) for place in _PLACES]
        taken.append(put(label, _PLACES[costs.index(min(costs))]))


def draw_evaluation(
    rows: Mapping[str, tuple[dict[str, Any], ClipSet, NDArray[np.float32]]], classes: Sequence[str], path: Path
) -> None:
    """Draw a row for each evaluation as a PNG: confusion in percent of the true class, ROC curves, reliability.

    Parameters
    ----------
    rows : mapping
        Title to (scores as `edge_bench.train.report.scores` gives them, clips, probabilities).
    """
    plt = _pyplot()
    figure, axes = plt.subplots(len(rows), 3, figsize=(11.5, 3.7 * len(rows)), layout="constrained", squeeze=False)
    for line, (title, (result, clips, probabilities)) in zip(axes, rows.items(), strict=True):
        _confusion(line[0], np.array(result["confusion"], float), classes)
        line[0].set(title=f"{title}: F1 {100 * result['macro_f1']:.1f} %", xlabel="taken for", ylabel="is")
        _roc(line[1], clips, probabilities, classes, result)
        _reliability(line[2], result)
    _save(figure, path)


def draw_confusions(
    results: Mapping[str, dict[str, Any]], classes: Sequence[str], path: Path
) -> None:
    """Draw the confusion matrix of each result, ``confusion`` and ``f1``, in percent of the true class, as a PNG."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, len(results), figsize=(3.6 * len(results), 3.4), layout="constrained", squeeze=False)
    for axis, (title, result) in zip(axes[0], results.items(), strict=True):
        _confusion(axis, np.array(result["confusion"], float), classes)
        axis.set(title=f"{title}: F1 {100 * result['f1']:.1f} %", xlabel="taken for", ylabel="is")
    _save(figure, path)


def _confusion(axis: Any, matrix: NDArray[np.float64], classes: Sequence[str]) -> None:
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for i in range(len(classes)):
        for j in range(len(classes)):
            axis.text(j, i, f"{share[i, j]:.1f}\n({matrix[i, j]:.0f})", ha="center", va="center", fontsize=8,
                      color="white" if share[i, j] > 55 else "black")  # fmt: skip
    axis.set_xticks(range(len(classes)), classes)
    axis.set_yticks(range(len(classes)), classes)


def _roc(
    axis: Any, clips: ClipSet, probabilities: NDArray[np.float32], classes: Sequence[str], result: dict[str, Any]
) -> None:
    labels, p = normalised(clips.labels, probabilities)
    for i, name in enumerate(classes):
        if result["auc"][name] is not None:
            false, true = roc_curve(labels == i, p[:, i])
            axis.plot(false, true, color=COLOURS[i % len(COLOURS)], label=f"{name} {result['auc'][name]:.3f}")
    axis.plot([0, 1], [0, 1], color="gray", linewidth=0.7, linestyle=":")
    axis.set(title="ROC of each class against the rest", xlabel="false positive rate", ylabel="true positive rate",
             aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))  # fmt: skip
    axis.legend(title="area", fontsize=8, loc="lower right")


def _reliability(axis: Any, result: dict[str, Any]) -> None:
    diagram = {name: np.array(values) for name, values in result["reliability"].items()}
    filled = diagram["clips"] > 0
    share = diagram["clips"] / diagram["clips"].sum()
    axis.bar(diagram["edges"][:-1], share, np.diff(diagram["edges"]), align="edge", color="lightgray",
             label="share of clips")  # fmt: skip
    axis.plot([0, 1], [0, 1], color="gray", linewidth=0.7, linestyle=":")
    axis.plot(diagram["confidence"][filled], diagram["accuracy"][filled], "o-", color=COLOURS[0], label="right")
    axis.set(title=f"reliability: error {100 * result['calibration_error']:.1f} %", xlabel="probability of the answer",
             ylabel="share that is right", aspect="equal", xlim=(0, 1.02), ylim=(0, 1.02))  # fmt: skip
    axis.legend(fontsize=8, loc="upper left")


def draw_sweeps(sweeps: Mapping[str, Sequence[dict[str, Any]]], path: Path) -> None:
    """Draw AUC against noise and class-average F1 over the signal-to-noise ratio as a PNG, with 95 % intervals.

    Parameters
    ----------
    sweeps : mapping
        Model to its rows, as `edge_bench.train.snr.sweep` gives them: clean first, then less and less signal.
    """
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for number, (model, rows) in enumerate(sweeps.items()):
        at = np.arange(len(rows))
        prefix = f"{model}: " if len(sweeps) > 1 else ""
        for i, name in enumerate(rows[0]["auc"]):
            colour = COLOURS[(i if len(sweeps) == 1 else number) % len(COLOURS)]
            _curve(left, at, [r["auc"][name] for r in rows], [r["intervals"]["auc"][name] for r in rows], colour,
                   f"{prefix}{name} against noise", "o" + ("-", "--", ":")[i % 3])  # fmt: skip
        colour = COLOURS[(2 if len(sweeps) == 1 else number) % len(COLOURS)]
        _curve(right, at, [100 * r["macro_f1"] for r in rows],
               [[100 * v for v in r["intervals"]["macro_f1"]] for r in rows], colour, model, "o-")  # fmt: skip
        ticks = ["clean" if r["snr_db"] is None else f"{r['snr_db']:g}" for r in rows]
        for axis in (left, right):
            axis.set_xticks(at, ticks)
    left.axhline(0.5, color="gray", linewidth=0.7, linestyle=":")
    left.set(xlabel="signal-to-noise ratio, dB", ylabel="area under the ROC curve")
    right.set(xlabel="signal-to-noise ratio, dB", ylabel="class-average F1, %")
    for axis in (left, right):
        axis.legend(fontsize=8)
    _save(figure, path)


def _curve(
    axis: Any, at: NDArray[Any], values: Sequence[float], intervals: Sequence[Sequence[float]], colour: str,
    label: str, style: str,
) -> None:  # fmt: skip
    low, high = np.array(intervals).T
    axis.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.plot(at, values, style, color=colour, label=label, markersize=4)
