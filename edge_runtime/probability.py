"""Scores of class probabilities: how well they rank (ROC, AUC) and how far they can be believed (calibration).

numpy only. Probabilities have the shape (clips, classes) and need not sum to exactly one (those of an int8 network are
multiples of 1/256): other rows are normalised first. A class is judged against all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ConfigError
from .metrics import Draws, validate

Float = NDArray[np.float64]
Int = NDArray[np.int64]

SMALLEST = 1 / 512  # below half a step an int8 network says 0; what it costs must not depend on the precision


def normalised(truth: ArrayLike, probabilities: ArrayLike) -> tuple[Int, Float]:
    """Return labels (clips,) and probabilities (clips, classes) whose rows sum to 1.

    Raises
    ------
    ConfigError
        If their shapes differ, or a probability is negative or not finite.
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or not p.shape[1] or len(p) != np.size(truth):
        raise ConfigError(f"probabilities have shape {p.shape}, expected (clips, classes) for {np.size(truth)} labels")
    if not np.isfinite(p).all() or (p < 0).any():
        raise ConfigError("probabilities must be finite and not negative")
    labels, _ = validate(truth, truth, p.shape[1])
    total = p.sum(axis=1, keepdims=True)
    total[np.abs(total - 1) < 1e-5] = 1  # else the last bit of a softmax would part what is equal
    return labels, np.divide(p, total, out=np.full(p.shape, 1 / p.shape[1]), where=total > 0)


def roc_curve(positive: ArrayLike, score: ArrayLike) -> tuple[Float, Float]:
    """Return false and true positive rate, from (0, 0) to (1, 1), at every threshold between different scores.

    Parameters
    ----------
    positive : array_like of bool, shape (n,)
    score : array_like of float, shape (n,)
        Larger means more likely positive.

    Raises
    ------
    ConfigError
        If one of the two sides is empty.
    """
    y, s = _two_sides(positive, score)
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    last = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)  # clips of equal score fall together
    hits = np.cumsum(y)[last]
    alarms = 1 + last - hits
    return np.append(0, alarms / alarms[-1]), np.append(0, hits / hits[-1])


def auc(positive: ArrayLike, score: ArrayLike) -> float:
    """Return the area under the ROC curve: how often a positive scores above a negative, a tie counting half.

    Examples
    --------
    >>> auc([True, True, False, False], [0.9, 0.4, 0.4, 0.1])
    0.875
    """
    y, s = _two_sides(positive, score)
    _, place, counts = np.unique(s, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]  # the mean of the ranks that equal scores share
    n = int(y.sum())
    return float((rank[y].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))


def _two_sides(positive: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.bool_], Float]:
    y, s = np.asarray(positive), np.asarray(score, np.float64)
    if y.dtype != bool or y.ndim != 1 or s.shape != y.shape or not np.isfinite(s).all():
        raise ConfigError(f"expected as many truths (bool) as finite scores, got {y.dtype} {y.shape} and {s.shape}")
    if not y.any() or y.all():
        raise ConfigError("a ROC curve needs positives and negatives")
    return y, s


def bootstrap_auc(positive: ArrayLike, score: ArrayLike, draws: Draws) -> Float:
    """Return the AUC of resampled recordings, shape (samples,).

    The wins of each recording's clips against each other's are counted once; a sample is then a weighted sum.

    Parameters
    ----------
    draws : Draws
        Of these clips. A recording's clips must all be positive or all negative, as those of one class are.
    """
    y, s = _two_sides(positive, score)
    for_cells = np.zeros(len(draws.labels), bool)
    for_cells[draws.cell[y]] = True
    up, down = np.flatnonzero(for_cells), np.flatnonzero(~for_cells)
    up_of = np.searchsorted(up, draws.cell[y])  # row of each positive clip
    wins = np.zeros((len(up), len(down)))
    for column, cell in enumerate(down):
        others = np.sort(s[~y & (draws.cell == cell)])
        below = (np.searchsorted(others, s[y], "left") + np.searchsorted(others, s[y], "right")) / 2
        wins[:, column] = np.bincount(up_of, below, len(up))
    sizes = np.bincount(draws.cell, minlength=len(draws.labels))
    ups, downs = draws.weights[:, up], draws.weights[:, down]
    return np.einsum("su,ud,sd->s", ups, wins, downs, optimize=True) / ((ups @ sizes[up]) * (downs @ sizes[down]))


@dataclass(frozen=True)
class Reliability:
    """How often the chosen class is right, by how sure the network is of it.

    Attributes
    ----------
    edges : np.ndarray, shape (bins + 1,)
        A clip whose largest probability is p lies in the bin with ``edges[i] < p <= edges[i + 1]``.
    clips : np.ndarray, int, shape (bins,)
    confidence, accuracy : np.ndarray, shape (bins,)
        Mean largest probability and share of right clips in each bin, 0 where it is empty.
    """

    edges: Float
    clips: Int
    confidence: Float
    accuracy: Float

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of the two, by clips (Guo et al. 2017, equation 3)."""
        return float((self.clips * np.abs(self.accuracy - self.confidence)).sum() / self.clips.sum())

    def to_dict(self) -> dict[str, list[float]]:
        """Return plain values that JSON can hold."""
        return {name: values.tolist() for name, values in self.__dict__.items()}


def reliability(truth: ArrayLike, probabilities: ArrayLike, *, bins: int = 10) -> Reliability:
    """Return the reliability diagram of the chosen classes, in bins of equal width."""
    labels, p = normalised(truth, probabilities)
    if bins < 1:
        raise ConfigError(f"bins is {bins}, must be at least 1")
    sure, right = p.max(axis=1), p.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, sure, "left") - 1, 0, bins - 1)
    clips = np.bincount(place, minlength=bins)

    def mean(values: NDArray[Any]) -> Float:
        return np.bincount(place, values, bins) / np.maximum(clips, 1)

    return Reliability(edges, clips, mean(sure), mean(right))


@dataclass(frozen=True)
class ProbabilityScores:
    """Scores of a set of clips.

    Attributes
    ----------
    auc : dict
        By class, against all others; None where one side has no clip.
    macro_auc : float or None
        Mean over classes.
    calibration_error : float
        Expected calibration error in 10 bins.
    brier : float
        Mean squared distance from the truth, summed over classes: 0 to 2.
    nll : float
        Mean negative logarithm of the true class' probability, taken as at least 1/512.
    reliability : Reliability
    """

    auc: dict[str, float | None]
    macro_auc: float | None
    calibration_error: float
    brier: float
    nll: float
    reliability: Reliability

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {**self.__dict__, "reliability": self.reliability.to_dict()}


def evaluate(truth: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> ProbabilityScores:
    """Return all scores of class probabilities.

    Parameters
    ----------
    truth : array_like of int, shape (clips,)
    probabilities : array_like of float, shape (clips, classes)
    classes : sequence of str
        Names in the order of the columns.
    """
    labels, p = normalised(truth, probabilities)
    if p.shape[1] != len(classes):
        raise ConfigError(f"{p.shape[1]} probabilities a clip for {len(classes)} classes")
    areas = {
        name: auc(labels == i, p[:, i]) if 0 < (labels == i).sum() < len(labels) else None
        for i, name in enumerate(classes)
    }
    known = [area for area in areas.values() if area is not None]
    diagram = reliability(labels, p)
    of_truth = p[np.arange(len(p)), labels]
    return ProbabilityScores(
        auc=areas,
        macro_auc=float(np.mean(known)) if known else None,
        calibration_error=diagram.error,
        brier=float(((p - np.eye(p.shape[1])[labels]) ** 2).sum(axis=1).mean()),
        nll=float(-np.log(np.maximum(of_truth, SMALLEST)).mean()),
        reliability=diagram,
    )
