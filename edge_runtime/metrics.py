"""Scores of clip classification: numpy only, so that quantising and gating need no training code.

Labels are whole numbers, the row of `confusion` is the true class and the column the predicted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ConfigError

Int = NDArray[np.int64]


@dataclass(frozen=True)
class ClipScores:
    """Scores of a set of clips.

    Attributes
    ----------
    overall : float
        Share of clips with the right class.
    speech_nonspeech : float or None
        Share right when all classes but speech are one; None without a class of that name.
    macro_f1 : float
        Mean of the F1 score over the classes that occur ("class-average F1"): a corpus without noise says nothing
        about noise, beyond what it costs the others to be taken for it.
    recall, precision, f1 : dict
        By class.
    confusion : np.ndarray, int, shape (classes, classes)
    clips : int
    """

    overall: float
    speech_nonspeech: float | None
    macro_f1: float
    recall: dict[str, float]
    precision: dict[str, float]
    f1: dict[str, float]
    confusion: Int
    clips: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {**self.__dict__, "confusion": self.confusion.tolist()}


def validate(truth: ArrayLike, predicted: ArrayLike, classes: int) -> tuple[Int, Int]:
    """Return both label arrays, checked.

    Raises
    ------
    ConfigError
        If they differ in shape, are empty, or hold a label outside 0 ... classes - 1.
    """
    a, b = np.asarray(truth), np.asarray(predicted)
    if a.ndim != 1 or a.shape != b.shape:
        raise ConfigError(f"labels have shapes {a.shape} and {b.shape}, expected two of shape (clips,)")
    if not len(a):
        raise ConfigError("there is no clip to score")
    for labels in (a, b):
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
            raise ConfigError(f"labels must be whole numbers from 0 to {classes - 1}")
    return a.astype(np.int64), b.astype(np.int64)


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, classes: int) -> Int:
    """Return counts, shape (classes, classes): true class by row, predicted by column.

    Examples
    --------
    >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    a, b = validate(truth, predicted, classes)
    return np.bincount(a * classes + b, minlength=classes * classes).reshape(classes, classes)


def f1_scores(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Return the F1 score of each class, shape (..., classes); 0 where a class neither occurs nor is predicted.

    `confusion` may have leading axes, (..., classes, classes), as a bootstrap makes them.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    both = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    return np.divide(2.0 * hits, both, out=np.zeros(hits.shape), where=both > 0)


def evaluate(truth: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> ClipScores:
    """Return all scores of a set of clips.

    Parameters
    ----------
    truth, predicted : array_like of int, shape (clips,)
    classes : sequence of str
        Names in the order of the labels.
    """
    if len(set(classes)) != len(classes):
        raise ConfigError(f"class names must differ: {', '.join(classes)}")
    matrix = confusion_matrix(truth, predicted, len(classes))
    hits, rows, columns = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    f1 = f1_scores(matrix)
    speech = None
    if "speech" in classes:
        i = list(classes).index("speech")
        wrong = rows[i] - hits[i] + columns[i] - hits[i]
        speech = float(1 - wrong / matrix.sum())

    def share(whole: Int) -> dict[str, float]:
        values = np.divide(hits, whole, out=np.zeros(len(hits)), where=whole > 0)
        return dict(zip(classes, values.tolist(), strict=True))

    return ClipScores(
        overall=float(hits.sum() / matrix.sum()),
        speech_nonspeech=speech,
        macro_f1=float(f1[rows > 0].mean()),
        recall=share(rows),
        precision=share(columns),
        f1=dict(zip(classes, f1.tolist(), strict=True)),
        confusion=matrix,
        clips=int(matrix.sum()),
    )


@dataclass(frozen=True)
class Draws:
    """Resampled recordings: how often each is in each sample.

    Attributes
    ----------
    cell : np.ndarray, int, shape (clips,)
        Which recording of which class a clip belongs to.
    labels : np.ndarray, int, shape (cells,)
        Class of each cell.
    weights : np.ndarray, int, shape (samples, cells)
    """

    cell: Int
    labels: Int
    weights: Int


def draw_groups(truth: ArrayLike, groups: ArrayLike, classes: int, *, samples: int = 1000, seed: int = 0) -> Draws:
    """Draw whole groups (recordings, speakers) with replacement, within each class.

    Clips of one recording are not independent. The draws do not depend on what a model said, so the same seed gives
    the same recordings to two models: their difference is then a paired one.

    Raises
    ------
    ConfigError
        If there is not a group for each clip.
    """
    a, _ = validate(truth, truth, classes)
    g = np.asarray(groups)
    if g.shape != a.shape:
        raise ConfigError(f"groups have shape {g.shape}, expected one for each of {len(a)} clips")
    rng = np.random.default_rng(seed)
    cell, labels, weights = np.zeros(len(a), np.int64), list[int](), []
    for label in range(classes):
        chosen = a == label
        names, place = np.unique(g[chosen], return_inverse=True)
        if len(names):
            cell[chosen] = place + len(labels)
            labels += [label] * len(names)
            weights.append(rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=samples))
    return Draws(cell, np.array(labels), np.concatenate(weights, axis=1))


def bootstrap_confusions(
    truth: ArrayLike,
    predicted: ArrayLike,
    groups: ArrayLike,
    classes: int,
    *,
    samples: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return confusion matrices of resampled recordings, shape (samples, classes, classes); see `draw_groups`."""
    a, b = validate(truth, predicted, classes)
    draws = draw_groups(a, groups, classes, samples=samples, seed=seed)
    counts = np.zeros((len(draws.labels), classes))
    np.add.at(counts, (draws.cell, b), 1)
    total = np.zeros((samples, classes, classes))
    for label in range(classes):
        of_class = draws.labels == label
        total[:, label] = draws.weights[:, of_class] @ counts[of_class]
    return total


def interval(values: NDArray[np.float64], *, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """How much more one model scores than another on the same clips.

    Attributes
    ----------
    delta : float
    interval : tuple of float
        95 %, from a paired bootstrap.
    below_zero : float
        Share of the samples in which the difference is below 0.
    """

    delta: float
    interval: tuple[float, float]
    below_zero: float


def difference(delta: float, samples: NDArray[np.float64]) -> Difference:
    """Return a difference from its value on all clips and its values on paired bootstrap samples."""
    return Difference(float(delta), interval(samples), float((samples < 0).mean()))


def paired_differences(
    truth: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    groups: ArrayLike,
    classes: Sequence[str],
    *,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Difference]:
    """Return what `second` scores more than `first`: ``overall``, ``macro_f1`` and ``recall NAME`` of each class.

    Parameters
    ----------
    truth, first, second : array_like of int, shape (clips,)
        Classes, and those that two models predicted for the same clips.
    groups : array_like, shape (clips,)
        Recordings, which are drawn as a whole within each class, the same for both models.
    """
    found = []
    for predicted in (first, second):
        whole = confusion_matrix(truth, predicted, len(classes))[None].astype(np.float64)
        drawn = bootstrap_confusions(truth, predicted, groups, len(classes), samples=samples, seed=seed)
        found.append(_headlines(np.concatenate([whole, drawn]), classes))
    apart = {name: found[1][name] - found[0][name] for name in found[0]}
    return {name: difference(values[0], values[1:]) for name, values in apart.items()}


def _headlines(confusions: NDArray[np.float64], classes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return the scores that models are compared by, each of shape (n,), of confusions (n, classes, classes)."""
    hits, rows = np.diagonal(confusions, axis1=1, axis2=2), confusions.sum(axis=2)
    recall = np.divide(hits, rows, out=np.zeros(hits.shape), where=rows > 0)
    return {
        "overall": hits.sum(axis=1) / rows.sum(axis=1),
        "macro_f1": f1_scores(confusions)[:, rows[0] > 0].mean(axis=1),  # over the classes that occur
        **{f"recall {name}": recall[:, i] for i, name in enumerate(classes)},
    }
