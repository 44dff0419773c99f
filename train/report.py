"""Scores with intervals, tables and pictures of a training or an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import metrics, probability

from .clips import ClipSet


def scores(
    clips: ClipSet, probabilities: NDArray[np.float32], classes: Sequence[str], *, samples: int = 1000
) -> dict[str, Any]:
    """Return all clip scores, their 95 % intervals (bootstrap over groups) and the worst recordings."""
    predicted = probabilities.argmax(axis=1)
    found = metrics.evaluate(clips.labels, predicted, classes)
    believed = probability.evaluate(clips.labels, probabilities, classes)
    drawn = metrics.bootstrap_confusions(clips.labels, predicted, clips.groups, len(classes), samples=samples)
    occurs = found.confusion.sum(axis=1) > 0
    f1 = metrics.f1_scores(drawn)[:, occurs]
    rows = np.maximum(drawn.sum(axis=2), 1e-9)
    recall = np.diagonal(drawn, axis1=1, axis2=2) / rows
    areas = drawn_areas(clips, probabilities, samples=samples)
    intervals = {
        "overall": metrics.interval(np.trace(drawn, axis1=1, axis2=2) / drawn.sum(axis=(1, 2))),
        "macro_f1": metrics.interval(f1.mean(axis=1)),
        "recall": {name: metrics.interval(recall[:, i]) for i, name in enumerate(classes)},
        "auc": {classes[i]: metrics.interval(values) for i, values in areas.items()},
        "macro_auc": metrics.interval(np.mean(list(areas.values()), axis=0)) if areas else None,
    }
    return {**found.to_dict(), **believed.to_dict(), "intervals": intervals}


def drawn_areas(
    clips: ClipSet, probabilities: NDArray[np.float32], *, samples: int = 1000
) -> dict[int, NDArray[np.float64]]:
    """Return the AUC of each class that has clips, against all others, on resampled recordings, shape (samples,)."""
    labels, p = probability.normalised(clips.labels, probabilities)
    present = np.unique(labels)
    if len(present) < 2:
        return {}
    draws = metrics.draw_groups(labels, clips.groups, p.shape[1], samples=samples)
    return {int(i): probability.bootstrap_auc(labels == i, p[:, i], draws) for i in present}


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


def errors_by_source(
    clips: ClipSet, probabilities: NDArray[np.float32], sources: Sequence[str], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Return every collection and class, most errors first: source, class, recordings, clips, errors, taken for.

    Parameters
    ----------
    sources : sequence of str
        Collection of each recording that ``clips.recording`` counts.
    """
    predicted = probabilities.argmax(axis=1)
    of_clip = np.array([sources[int(i)] for i in clips.recording])
    found = []
    for source, label in sorted(set(zip(of_clip.tolist(), clips.labels.tolist(), strict=True))):
        chosen = (of_clip == source) & (clips.labels == label)
        wrong = predicted[chosen & (predicted != clips.labels)]
        taken = np.bincount(wrong, minlength=len(classes))
        found.append(
            {
                "source": source, "label": classes[label], "recordings": len(np.unique(clips.recording[chosen])),
                "clips": int(chosen.sum()), "errors": len(wrong),
                "taken_for": classes[int(taken.argmax())] if len(wrong) else None,
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
