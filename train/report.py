"""Scores with intervals, tables and pictures of a training or an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import metrics

from .clips import ClipSet


def scores(
    clips: ClipSet, probabilities: NDArray[np.float32], classes: Sequence[str], *, samples: int = 1000
) -> dict[str, Any]:
    """Return all clip scores, their 95 % intervals (bootstrap over groups) and the worst recordings."""
    predicted = probabilities.argmax(axis=1)
    found = metrics.evaluate(clips.labels, predicted, classes)
    drawn = metrics.bootstrap_confusions(clips.labels, predicted, clips.groups, len(classes), samples=samples)
    occurs = found.confusion.sum(axis=1) > 0
    f1 = metrics.f1_scores(drawn)[:, occurs]
    rows = np.maximum(drawn.sum(axis=2), 1e-9)
    recall = np.diagonal(drawn, axis1=1, axis2=2) / rows
    intervals = {
        "overall": metrics.interval(np.trace(drawn, axis1=1, axis2=2) / drawn.sum(axis=(1, 2))),
        "macro_f1": metrics.interval(f1.mean(axis=1)),
        "recall": {name: metrics.interval(recall[:, i]) for i, name in enumerate(classes)},
    }
    return {**found.to_dict(), "intervals": intervals}


def errors_by_recording(
    clips: ClipSet, probabilities: NDArray[np.float32], names: Sequence[str], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the recordings with wrong clips, most errors first: file, class, clips, errors, taken for."""
    predicted = probabilities.argmax(axis=1)
    found = []
    for number in np.unique(clips.recording):
        of_file = clips.recording == number
        wrong = predicted[of_file & (predicted != clips.labels)]
        if len(wrong):
            taken = np.bincount(wrong, minlength=len(classes))
            found.append(
                {
                    "file": names[int(number)], "label": classes[int(clips.labels[of_file][0])],
                    "clips": int(of_file.sum()), "errors": len(wrong), "taken_for": classes[int(taken.argmax())],
                }
            )  # fmt: skip
    return sorted(found, key=lambda row: -row["errors"])


def draw_curves(history: Sequence[dict[str, float]], path: Path) -> None:
    """Draw loss, learning rate and validation F1 over the epochs as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    epochs = [row["epoch"] for row in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(epochs, [row["loss"] for row in history], color="tab:blue")
    left.set(xlabel="epoch", ylabel="training loss")
    rate = left.twinx()
    rate.plot(epochs, [row["rate"] for row in history], color="tab:gray", linewidth=0.8)
    rate.set(ylabel="learning rate (gray)", yscale="log")
    names = [k for k in history[0] if (k.endswith("s") and k[0].isdigit()) or "augmented" in k]
    for name in names:
        right.plot(epochs, [100 * row[name] for row in history], linewidth=1, label=name,
                   linestyle="--" if "augmented" in name else "-")  # fmt: skip
    right.plot(epochs, [100 * row["score"] for row in history], color="black", linewidth=1.8, label="mean")
    best = max(history, key=lambda row: row["score"])
    right.axvline(best["epoch"], color="black", linewidth=0.5)
    right.set(xlabel="epoch", ylabel="validation class-average F1, %", title=f"best epoch {best['epoch']:.0f}")
    right.legend(fontsize=7)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_confusions(results: dict[str, dict[str, Any]], classes: Sequence[str], path: Path) -> None:
    """Draw the confusion matrix of each result, in percent of the true class, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(3.4 * len(results), 3.4), layout="constrained", squeeze=False)
    for axis, (name, result) in zip(axes[0], results.items(), strict=True):
        matrix = np.array(result["confusion"], float)
        share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for i in range(len(classes)):
            for j in range(len(classes)):
                axis.text(j, i, f"{share[i, j]:.1f}\n({matrix[i, j]:.0f})", ha="center", va="center", fontsize=8,
                          color="white" if share[i, j] > 55 else "black")  # fmt: skip
        axis.set_xticks(range(len(classes)), classes)
        axis.set_yticks(range(len(classes)), classes)
        axis.set(title=f"{name}\nF1 {100 * result['macro_f1']:.1f} %", xlabel="taken for", ylabel="is")
    figure.savefig(path, dpi=120)
    plt.close(figure)
