"""Statistics of timings: medians with intervals, outliers, paired ratios, effect size. Pure functions over arrays.

Conventions: samples are positive and in the order in which they were taken; a level is the probability that an
interval covers (0.95), an alpha the probability that one bound errs. Nothing is dropped: outliers are flagged, and
medians do not mind them. Only numpy, so that a board has the same figures as a workstation.

References
----------
.. [1] B. Efron, "Bootstrap methods: another look at the jackknife", Ann. Statist. 7(1), 1979, section 3 (the
   bootstrap distribution of a median in closed form).
.. [2] B. Iglewicz and D. Hoaglin, "How to detect and handle outliers", ASQC, 1993 (modified z-score).
.. [3] F. Wilcoxon, "Individual comparisons by ranking methods", Biometrics 1(6), 1945.
.. [4] N. Cliff, "Dominance statistics", Psychological Bulletin 114(3), 1993.
.. [5] C. Clopper and E. Pearson, "The use of confidence or fiducial limits", Biometrika 26(4), 1934.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A point estimate and its bounds; a bound is infinite where the samples cannot give it."""

    value: float
    low: float
    high: float

    @property
    def precision(self) -> float:
        """Half the width, relative to the value."""
        return (self.high - self.low) / 2 / abs(self.value) if self.value else math.inf


def binomial_tail(n: int, p: float, k: int) -> float:
    """Return the probability of at least `k` successes in `n` trials of probability `p`."""
    if k <= 0:
        return 1.0
    if k > n or p <= 0:
        return 0.0
    if p >= 1:
        return 1.0
    i = np.arange(k, n + 1)
    logs = np.array([math.lgamma(n + 1) - math.lgamma(j + 1) - math.lgamma(n - j + 1) for j in i])
    return min(1.0, float(np.exp(logs + i * math.log(p) + (n - i) * math.log1p(-p)).sum()))


def proportion_interval(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Return a proportion with its exact interval [5]_."""
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} trials make no sense")

    def solve(function: Callable[[float], float], target: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if function(middle) < target else (low, middle)
        return (low + high) / 2

    alpha = (1 - level) / 2
    low = solve(lambda p: binomial_tail(trials, p, successes), alpha) if successes else 0.0
    high = solve(lambda p: binomial_tail(trials, p, successes + 1), 1 - alpha) if successes < trials else 1.0
    return Interval(successes / trials, low, high)


def serial_factor(samples: ArrayLike) -> float:
    """Return by how much dependence from sample to sample divides their number, at least 1.

    From the lag-1 autocorrelation of "above the median", which is all that an interval of the median rests on; a
    disturbance that lasts for some calls counts as the one event that it is.
    """
    x = np.asarray(samples, np.float64)
    above = np.where(x > np.median(x), 1.0, -1.0)
    above -= above.mean()
    power = float(above @ above)
    if len(x) < 8 or not power:
        return 1.0
    r = min(max(float(above[1:] @ above[:-1]) / power, 0.0), 0.99)
    return (1 + r) / (1 - r)


def median_interval(samples: ArrayLike, *, level: float = 0.95, serial: bool = True) -> Interval:
    """Return the median and its distribution-free interval from order statistics.

    Parameters
    ----------
    samples : array_like, shape (n,)
    level : float
    serial : bool
        Widen the interval by `serial_factor`; without it the samples are taken as independent and it is exact.
    """
    x = np.sort(np.asarray(samples, np.float64))
    n = len(x)
    if not n:
        raise ValueError("no samples")
    factor = serial_factor(samples) if serial else 1.0
    alpha = (1 - level) / 2
    if factor == 1.0 and n <= 1000:
        k = median_rank(n, alpha)
    else:  # the normal approximation, with as many samples as there are independent ones
        k = math.floor(n / 2 - NormalDist().inv_cdf(1 - alpha) * math.sqrt(n * factor) / 2)
    if k < 1:
        return Interval(float(np.median(x)), -math.inf, math.inf)
    return Interval(float(np.median(x)), float(x[k - 1]), float(x[n - k]))


@lru_cache(maxsize=4096)
def median_rank(n: int, alpha: float) -> int:
    """Return the largest rank k so that the k-th smallest of n samples exceeds the median with at most `alpha`.

    0 if not even the smallest does: fewer than ``log2(1 / alpha)`` samples.
    """
    log_half = -n * math.log(2)
    total, k = 0.0, 0
    while k < n // 2:  # P(fewer than k + 1 samples lie below the median)
        total += math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + log_half)
        if total > alpha:
            break
        k += 1
    return k


@lru_cache(maxsize=4096)
def bootstrap_rank(n: int, alpha: float) -> int:
    """Return the largest rank k so that a resample's median lies below the k-th smallest of n with at most `alpha`.

    The bootstrap distribution of a median has a closed form [1]_, so nothing is drawn and nothing is left to chance.
    """
    half = n // 2 + 1  # at least so many drawn values must lie below
    k = 1
    while k < n // 2 and binomial_tail(n, k / n, half) <= alpha:
        k += 1
    return k


def paired_logs(candidate: ArrayLike, baseline: ArrayLike) -> Float:
    """Return ``log(candidate / baseline)`` of pairs.

    Raises
    ------
    ValueError
        If the lengths differ or a time is not positive.
    """
    a, b = np.asarray(candidate, np.float64), np.asarray(baseline, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"pairs needed, got shapes {a.shape} and {b.shape}")
    if not (np.all(a > 0) and np.all(b > 0)):
        raise ValueError("a time is not positive")
    return np.log(a / b)


def paired_ratio(logs: ArrayLike, *, lower_alpha: float = 0.025, upper_alpha: float = 0.025) -> Interval:
    """Return the median ratio of pairs between two one-sided bounds, from their log-ratios, shape (n,).

    Each bound is the wider of the bootstrap over pairs and the binomial one: the bootstrap is too sure of itself for
    few pairs, and the binomial bound is infinite for fewer than its alpha needs.
    """
    x = np.sort(np.asarray(logs, np.float64))
    n = len(x)
    ranks = [min(median_rank(n, alpha), bootstrap_rank(n, alpha)) for alpha in (lower_alpha, upper_alpha)]
    low = math.exp(x[ranks[0] - 1]) if ranks[0] else 0.0
    high = math.exp(x[n - ranks[1]]) if ranks[1] else math.inf
    return Interval(math.exp(float(np.median(x))), low, high)


def unpaired_ratio(
    candidate: ArrayLike, baseline: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the ratio of two medians and its bootstrap interval over blocks of neighbouring samples.

    Blocks of about the square root of the length keep the dependence of neighbours. What differs from process to
    process is not in the samples of one, so it is not in the interval either: a gate measures pairs for that.
    """
    rng = np.random.default_rng(seed)
    medians = []
    for samples in (candidate, baseline):
        x = np.asarray(samples, np.float64)
        if not len(x) or not np.all(x > 0):
            raise ValueError("positive samples needed")
        size = max(1, round(math.sqrt(len(x))))
        count = -(-len(x) // size)
        starts = rng.integers(0, len(x) - size + 1, (resamples, count, 1))
        medians.append(np.median(x[starts + np.arange(size)].reshape(resamples, -1)[:, : len(x)], axis=1))
    alpha = (1 - level) / 2
    low, high = np.quantile(medians[0] / medians[1], [alpha, 1 - alpha])
    a, b = np.asarray(candidate, np.float64), np.asarray(baseline, np.float64)
    return Interval(float(np.median(a) / np.median(b)), float(low), float(high))


def wilcoxon(logs: ArrayLike) -> float:
    """Return the two-sided p-value of the signed-rank test [3]_ that log-ratios are symmetric around 0.

    Exact up to 50 differences without ties and zeros (which are left out), the normal approximation with its
    correction for ties beyond.
    """
    x = np.asarray(logs, np.float64)
    zeros = len(x)
    x = x[x != 0]
    zeros -= len(x)
    n = len(x)
    if not n:
        return 1.0
    _, inverse, counts = np.unique(np.abs(x), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    statistic = min(float(ranks[x > 0].sum()), float(ranks[x < 0].sum()))
    if n <= 50 and not zeros and len(counts) == n:
        ways = np.zeros(n * (n + 1) // 2 + 1)
        ways[0] = 1
        for rank in range(1, n + 1):
            ways[rank:] = ways[rank:] + ways[:-rank]
        return min(1.0, 2 * float(ways[: int(statistic) + 1].sum()) / 2.0**n)
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((counts**3 - counts).sum()) / 48
    if not variance:
        return 1.0
    return min(1.0, 2 * NormalDist().cdf((statistic - n * (n + 1) / 4) / math.sqrt(variance)))


def cliffs_delta(candidate: ArrayLike, baseline: ArrayLike) -> float:
    """Return how much more often a candidate's sample is the larger one than the smaller one [4]_, -1 to 1."""
    a, b = np.asarray(candidate, np.float64), np.sort(np.asarray(baseline, np.float64))
    below = np.searchsorted(b, a, side="left").sum()
    above = len(b) * len(a) - np.searchsorted(b, a, side="right").sum()
    return float(below - above) / (len(a) * len(b))


def effect_word(delta: float) -> str:
    """Return the usual word for Cliff's delta (Romano et al., 2006)."""
    words = ((0.147, "none"), (0.33, "small"), (0.474, "medium"))
    return next((word for limit, word in words if abs(delta) < limit), "large")


def outliers(samples: ArrayLike, *, threshold: float = 3.5) -> NDArray[np.bool_]:
    """Return which samples stand out by the modified z-score of their logarithms [2]_, shape (n,)."""
    x = np.log(np.asarray(samples, np.float64))
    away = np.abs(x - np.median(x))
    mad = float(np.median(away))
    scale = mad / 0.6745 if mad else float(away.mean()) * 1.2533
    return away > threshold * scale if scale else np.zeros(len(x), bool)


def enough(samples: ArrayLike, precision: float, *, level: float = 0.95) -> bool:
    """Return whether the median's interval is within +-`precision` of it (0.01: one percent)."""
    return median_interval(samples, level=level).precision <= precision


def settled(samples: ArrayLike, *, block: int = 20, tolerance: float = 0.05) -> bool:
    """Return whether a warm-up may end: the last two blocks of a series have medians within `tolerance`."""
    x = np.asarray(samples, np.float64)
    if len(x) < 2 * block:
        return False
    before, last = float(np.median(x[-2 * block : -block])), float(np.median(x[-block:]))
    return abs(last / before - 1) <= tolerance
