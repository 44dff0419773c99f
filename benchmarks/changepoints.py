"""Where the level of a series changes: binary segmentation with a permutation test.

A benchmark's history is noisy, has lone outliers, and moves by steps: a commit, a new machine, an upgrade. A threshold
on the last value sees noise as change and slow creep not at all. Here the scan looks at ranks, so that outliers and
skew do not matter: for each split of a segment, the standardised rank sum (Mann and Whitney) of the part before; the
largest over all splits is the statistic [1]_. How large it gets without a change is learnt from permutations of the
same values [2]_, so nothing is assumed of their distribution. The place is, of the likely splits, the one whose parts
are closest to their medians, because ranks do not know how far a jump goes. A significant split divides the segment,
and both parts are looked at in turn [3]_. About five results on each side are needed before a change can be told.

References
----------
.. [1] A. Pettitt, "A non-parametric approach to the change-point problem", Appl. Statist. 28(2), 1979.
.. [2] D. Matteson and N. James, "A nonparametric approach for multiple change point analysis of multivariate data",
   JASA 109, 2014; used on benchmarks by D. Daly et al., "The use of change point detection to identify software
   performance regressions in a continuous integration system", ICPE 2020.
.. [3] A. Scott and M. Knott, "A cluster analysis method for grouping means in the analysis of variance", Biometrics
   30(3), 1974.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

PERMUTATIONS = 1999
LONGEST = 400  # a longer segment is tested at every second, third ... split


@dataclass(frozen=True)
class Change:
    """A change of level.

    Attributes
    ----------
    index : int
        The first result after the change.
    before, after : float
        Medians of the segments on both sides.
    p : float
        How likely a change so clear is in a series without any.
    """

    index: int
    before: float
    after: float
    p: float

    @property
    def ratio(self) -> float | None:
        """`after` over `before`; None when `before` is 0."""
        return self.after / self.before if self.before else None


def change_points(
    values: ArrayLike, *, alpha: float = 0.01, smallest: float = 0.02, shortest: int = 4, seed: int = 0
) -> list[Change]:
    """Return the changes of level in a series, in its order.

    Parameters
    ----------
    values : array_like, shape (n,)
        In order of time.
    alpha : float
        Probability that a segment without a change is divided.
    smallest : float
        Changes of the median by less than this part of it (0.02: 2 %) are left out: real, perhaps, but no news.
    shortest : int
        Results that a segment has at least.
    seed : int
        Of the permutations, so that the same series has the same answer.

    Raises
    ------
    ValueError
        If a value is not finite, or `alpha` is less than the permutations can show.
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError("a series of finite numbers is needed")
    if not 1 / (PERMUTATIONS + 1) <= alpha < 1:
        raise ValueError(f"alpha is {alpha}, must be from {1 / (PERMUTATIONS + 1):g} to below 1")
    rng = np.random.default_rng(seed)
    found: dict[int, float] = {}
    todo = [(0, len(x))]
    while todo:
        begin, end = todo.pop()
        if end - begin < 2 * shortest:
            continue
        split, p = _best_split(x[begin:end], shortest, rng)
        if p <= alpha:
            found[begin + split] = p
            todo += [(begin, begin + split), (begin + split, end)]
    return _large_ones(x, found, smallest)


def _large_ones(x: NDArray[np.float64], found: dict[int, float], smallest: float) -> list[Change]:
    """Return the changes between the medians of neighbours; the smallest goes first while it is too small."""
    while True:
        edges = [0, *sorted(found), len(x)]
        medians = [float(np.median(x[a:b])) for a, b in pairwise(edges) if b > a]
        sizes = [_size(a, b) for a, b in pairwise(medians)]
        if not sizes or min(sizes) >= smallest:
            return [Change(at, a, b, found[at]) for at, (a, b) in zip(edges[1:-1], pairwise(medians), strict=True)]
        del found[edges[1 + int(np.argmin(sizes))]]


def _size(before: float, after: float) -> float:
    if before:
        return abs(after / before - 1)
    return math.inf if after else 0.0


def _best_split(x: NDArray[np.float64], shortest: int, rng: np.random.Generator) -> tuple[int, float]:
    """Return the most likely place of a change in a segment and its p-value."""
    n = len(x)
    ranks = _ranks(x) - (n + 1) / 2  # around 0, so that the sum of a part is its departure
    every = np.arange(shortest, n - shortest + 1)
    scores = np.abs(np.cumsum(ranks)[every - 1]) / np.sqrt(every * (n - every))
    step = -(-n // LONGEST)  # the test looks at these splits only; the place is the best of all
    splits, scale = every[::step], np.sqrt(every[::step] * (n - every[::step]))
    seen = float(scores[::step].max())
    drawn = np.empty(PERMUTATIONS)
    rows = max(1, 400_000 // n)  # at a time, to bound memory
    for begin in range(0, PERMUTATIONS, rows):
        count = min(rows, PERMUTATIONS - begin)
        sums = np.cumsum(rng.permuted(np.broadcast_to(ranks, (count, n)), axis=1), axis=1)
        drawn[begin : begin + count] = (np.abs(sums[:, splits - 1]) / scale).max(axis=1)
    p = (1 + int((drawn >= seen * (1 - 1e-12)).sum())) / (PERMUTATIONS + 1)
    likely = every[np.argsort(-scores, kind="stable")[:32]]
    return int(likely[np.argmin([_misfit(x[:k]) + _misfit(x[k:]) for k in likely])]), p


def _misfit(x: NDArray[np.float64]) -> float:
    """Return how far values are from their median, in all."""
    return float(np.abs(x - np.median(x)).sum())


def _ranks(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1, equal values sharing their mean."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks
