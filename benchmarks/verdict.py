"""When a gate may speak: looks that are planned in advance, the noise floor, the rule.

Alarms are rare by construction. The alpha of a whole gate is spread over its looks, later ones getting more, and over
its stages (Bonferroni), so a candidate that is slower by exactly the margin alarms with at most that probability
however often is looked, and an unchanged one far less. A pass needs every stage, so its alpha is spread over looks
only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .statistics import Interval, paired_ratio, wilcoxon

PASS, REGRESS, INCONCLUSIVE = "pass", "regress", "inconclusive"
EXIT_CODES = {PASS: 0, REGRESS: 1, INCONCLUSIVE: 3}


@dataclass(frozen=True)
class Rule:
    """What a gate decides by.

    Attributes
    ----------
    margin : float
        A slow-down up to this is never an alarm (0.02: 2 %).
    tolerated : float
        A pass says that the slow-down is below this.
    alarm_alpha : float
        Probability of a false alarm, of the whole gate.
    pass_alpha : float
        Probability of passing what is slower than tolerated, of the whole gate.
    looks : tuple of float
        When the gate looks at its pairs: parts of its budget, ascending, the last 1.
    """

    margin: float = 0.02
    tolerated: float = 0.05
    alarm_alpha: float = 0.003
    pass_alpha: float = 0.02
    looks: tuple[float, ...] = (0.2, 0.4, 0.65, 1.0)

    def __post_init__(self) -> None:
        if not 0 <= self.margin < self.tolerated:
            raise ValueError(f"margin {self.margin:g} must be at least 0 and below the tolerated {self.tolerated:g}")
        if not 0 < self.alarm_alpha < 0.5 or not 0 < self.pass_alpha < 0.5:
            raise ValueError("an alpha must be above 0 and below 0.5")
        if not self.looks or list(self.looks) != sorted(set(self.looks)) or self.looks[0] <= 0 or self.looks[-1] != 1:
            raise ValueError("looks must ascend from above 0 to 1")

    def share(self, look: int) -> float:
        """Return which part of the alphas look number `look` (from 0) may use; they sum to 1."""
        count = len(self.looks)
        return (look + 1) / (count * (count + 1) / 2)


@dataclass(frozen=True)
class StageVerdict:
    """What is known of one stage: its ratio between the two bounds, the noise floor, Wilcoxon's p-value (of pairs)."""

    verdict: str
    ratio: Interval
    noise_floor: float
    p_value: float | None
    pairs: int


def noise_floor(same: ArrayLike, pairs: int, *, resamples: int = 1000, quantile: float = 0.95, seed: int = 0) -> float:
    """Return the relative difference that the gate's statistic shows when nothing was changed.

    Parameters
    ----------
    same : array_like, shape (n,)
        Log-ratios of pairs of the *same* bundle, measured in between and in the same way (A/A).
    pairs : int
        How many pairs the gate's statistic rests on.

    Returns
    -------
    float
        The `quantile` of the size of the median of so many A/A log-ratios, signs at random because the order in a pair
        is; infinite with fewer than two.
    """
    logs = np.asarray(same, np.float64)
    if len(logs) < 2:
        return math.inf
    rng = np.random.default_rng(seed)
    drawn = rng.choice(logs, (resamples, pairs)) * rng.choice([-1.0, 1.0], (resamples, pairs))
    return math.expm1(float(np.quantile(np.abs(np.median(drawn, axis=1)), quantile)))


def judge(logs: ArrayLike, same: ArrayLike, rule: Rule, *, look: int, stages: int) -> StageVerdict:
    """Return the verdict on one stage of `stages` at look number `look`.

    Parameters
    ----------
    logs : array_like, shape (pairs,)
        ``log(candidate / baseline)``.
    same : array_like, shape (n,)
        Log-ratios of A/A pairs; see `noise_floor`.
    """
    x = np.asarray(logs, np.float64)
    share = rule.share(look)
    ratio = paired_ratio(x, lower_alpha=rule.alarm_alpha * share / stages, upper_alpha=rule.pass_alpha * share)
    floor = noise_floor(same, len(x))
    return StageVerdict(decide(ratio, rule, floor), ratio, floor, wilcoxon(x), len(x))


def decide(ratio: Interval, rule: Rule, floor: float) -> str:
    """Return the verdict of the bounds of a ratio."""
    if ratio.low > 1 + max(rule.margin, floor):
        return REGRESS
    if ratio.high < 1 + rule.tolerated:
        return PASS
    return INCONCLUSIVE


def together(verdicts: Sequence[str]) -> str:
    """Return the verdict of a whole gate: one regression is one, a pass needs all."""
    if REGRESS in verdicts:
        return REGRESS
    return PASS if verdicts and all(v == PASS for v in verdicts) else INCONCLUSIVE


def worst(stages: Mapping[str, StageVerdict]) -> str:
    """Return the name of the stage that decides: a regressed one before an open one, then the largest ratio."""
    order = {REGRESS: 2, INCONCLUSIVE: 1, PASS: 0}
    return max(stages, key=lambda name: (order[stages[name].verdict], stages[name].ratio.value))
