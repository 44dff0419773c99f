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


def bootstrap_confusions(
    truth: ArrayLike,
    predicted: ArrayLike,
    groups: ArrayLike,
    classes: int,
    *,
    samples: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return confusion matrices of resampled recordings, shape (samples, classes, classes).

    Whole groups (recordings, speakers) are drawn with replacement, within each class, because clips of one recording
    are not independent.
    """
    a, b = validate(truth, predicted, classes)
    g = np.asarray(groups)
    if g.shape != a.shape:
        raise ConfigError(f"groups have shape {g.shape}, expected one for each of {len(a)} clips")
    rng = np.random.default_rng(seed)
    total = np.zeros((samples, classes, classes))
    for label in range(classes):
        chosen = a == label
        names, place = np.unique(g[chosen], return_inverse=True)
        if not len(names):
            continue
        counts = np.zeros((len(names), classes))
        np.add.at(counts, (place, b[chosen]), 1)
        weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=samples)
        total[:, label] = weights @ counts
    return total


def interval(values: NDArray[np.float64], *, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
