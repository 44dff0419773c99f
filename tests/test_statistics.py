"""Statistics against known answers: scipy's tests, coverage in simulations, false alarms and power of the rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edge_bench.benchmarks import statistics as s
from edge_bench.benchmarks import verdict as v

times = st.lists(st.floats(0.1, 1e6), min_size=1, max_size=60)


@given(st.integers(1, 300), st.floats(0, 1), st.integers(-2, 310))
@settings(max_examples=100, deadline=None)
def test_binomial_tail(n: int, p: float, k: int) -> None:
    assert s.binomial_tail(n, p, k) == pytest.approx(stats.binom.sf(k - 1, n, p), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 100), (1, 100), (50, 100), (95, 100), (100, 100), (1, 1)])
def test_proportion_interval_is_clopper_pearson(k: int, n: int) -> None:
    found, known = s.proportion_interval(k, n), stats.binomtest(k, n).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-9)


@given(st.integers(1, 400), st.floats(1e-6, 0.4))
@settings(max_examples=100, deadline=None)
def test_median_rank_is_the_largest_that_holds(n: int, alpha: float) -> None:
    k = s.median_rank(n, alpha)
    assert k == 0 or stats.binom.cdf(k - 1, n, 0.5) <= alpha * (1 + 1e-9)
    assert k >= n // 2 or stats.binom.cdf(k, n, 0.5) > alpha * (1 - 1e-9)


@given(times)
@settings(max_examples=100, deadline=None)
def test_the_median_lies_in_its_interval(samples: list[float]) -> None:
    found = s.median_interval(samples)
    assert found.low <= found.value <= found.high


def test_median_interval_covers() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        found = s.median_interval(rng.lognormal(0, 0.5, 101), serial=False)
        hits += found.low <= 1 <= found.high
    assert 0.93 <= hits / 600 <= 0.985


def test_dependence_widens_the_interval() -> None:
    rng = np.random.default_rng(1)
    covered = {True: 0, False: 0}
    for _ in range(300):
        x = np.empty(500)
        x[0] = rng.standard_normal()
        noise = rng.standard_normal(500)
        for i in range(1, 500):
            x[i] = 0.7 * x[i - 1] + noise[i]
        for serial in covered:
            found = s.median_interval(np.exp(x / 10), serial=serial)
            covered[serial] += found.low <= 1 <= found.high
    assert covered[False] / 300 < 0.75, "without the factor the interval is far too narrow"
    assert covered[True] / 300 > 0.85


def test_the_closed_bootstrap_is_the_drawn_one() -> None:
    rng = np.random.default_rng(2)
    x = np.sort(rng.standard_normal(41))
    medians = np.median(rng.choice(x, (40000, 41)), axis=1)
    for alpha in (0.025, 0.1):
        k = s.bootstrap_rank(41, alpha)
        assert np.mean(medians < x[k - 1]) <= alpha + 0.005
        assert np.mean(medians < x[k]) > alpha - 0.005


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=80), st.floats(-0.5, 0.5))
@settings(max_examples=60, deadline=None)
def test_a_common_factor_moves_a_paired_ratio_by_itself(logs: list[float], shift: float) -> None:
    a, b = s.paired_ratio(logs), s.paired_ratio(np.add(logs, shift))
    assert b.value == pytest.approx(a.value * math.exp(shift))
    assert b.low == pytest.approx(a.low * math.exp(shift)) and a.low <= a.value <= a.high
    turned = s.paired_ratio(np.negative(logs))
    assert turned.value == pytest.approx(1 / a.value)


def test_too_few_pairs_bound_nothing() -> None:
    found = s.paired_ratio([0.1] * 5, lower_alpha=0.01)
    assert found.low == 0.0
    assert s.paired_ratio([0.1] * 7, lower_alpha=0.01).low == pytest.approx(math.exp(0.1))


@pytest.mark.parametrize("n", [1, 5, 12, 49, 80])
def test_wilcoxon_is_scipys(n: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.standard_normal(n) + 0.3
    method = "exact" if n <= 50 else "asymptotic"
    assert s.wilcoxon(x) == pytest.approx(stats.wilcoxon(x, method=method).pvalue, rel=1e-9)
    tied = np.round(x, 0)
    if np.count_nonzero(tied) > 5:
        expected = stats.wilcoxon(tied, method="asymptotic", zero_method="wilcox").pvalue
        assert s.wilcoxon(tied) == pytest.approx(expected, rel=1e-9)
    assert s.wilcoxon([0.0, 0.0]) == 1.0


@given(times, times)
@settings(max_examples=60, deadline=None)
def test_cliffs_delta_counts_pairs(a: list[float], b: list[float]) -> None:
    assert s.cliffs_delta(a, b) == pytest.approx(np.sign(np.subtract.outer(a, b)).mean())


def test_outliers_are_flagged_and_only_they() -> None:
    rng = np.random.default_rng(3)
    x = rng.lognormal(3, 0.02, 500)
    x[[7, 300]] *= 2
    flagged = s.outliers(x)
    assert flagged[[7, 300]].all() and flagged.sum() <= 6
    assert not s.outliers([5.0] * 10).any()
    assert s.outliers([5.0] * 10 + [50.0]).sum() == 1


def test_enough_and_settled() -> None:
    rng = np.random.default_rng(4)
    x = 100 * rng.lognormal(0, 0.05, 2000)
    assert s.enough(x, 0.01) and not s.enough(x[:30], 0.001) and not s.enough(x[:3], 0.5)
    warm = np.concatenate([np.geomspace(300, 100, 100), x[:900]])
    assert not s.settled(warm[:30]) and not s.settled(warm[:80]) and s.settled(warm[:400]) and s.settled(x)


def test_unpaired_ratio_covers_and_rejects_nonsense() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for i in range(100):
        a, b = 110 * rng.lognormal(0, 0.1, 200), 100 * rng.lognormal(0, 0.1, 200)
        found = s.unpaired_ratio(a, b, resamples=300, seed=i)
        hits += found.low <= 1.1 <= found.high
    assert hits >= 88
    with pytest.raises(ValueError, match="positive"):
        s.unpaired_ratio([], [1.0])
    with pytest.raises(ValueError, match="pairs needed"):
        s.paired_logs([1.0], [1.0, 2.0])


def gate(rng: np.random.Generator, rule: v.Rule, slower: float, sigma: float, pairs: int) -> str:
    """A gate of three stages over simulated pairs with heavy tails, every fifth an A/A pair."""
    tails = sigma * rng.standard_t(3, (2, 3, pairs)) / math.sqrt(3)
    tails[0] += np.log([[1.0], [slower], [1 + (slower - 1) * 0.2]])
    pairs_of = list(zip(*tails, strict=True))
    for look, part in enumerate(rule.looks):
        n = round(part * pairs)
        judged = [v.judge(x[:n], same[: n // 4], rule, look=look, stages=3).verdict for x, same in pairs_of]
        answer = v.together(judged)
        if answer != v.INCONCLUSIVE:
            return answer
    return v.INCONCLUSIVE


def test_the_rule_alarms_rarely_and_catches_five_percent() -> None:
    rng, rule = np.random.default_rng(6), v.Rule()
    same = [gate(rng, rule, 1.0, 0.04, 90) for _ in range(60)]
    planted = [gate(rng, rule, 1.05, 0.04, 90) for _ in range(60)]
    assert same.count(v.REGRESS) == 0 and same.count(v.INCONCLUSIVE) <= 6
    assert planted.count(v.REGRESS) >= 54 and planted.count(v.PASS) <= 2


def test_looking_often_does_not_inflate_alarms_at_the_margin() -> None:
    rng = np.random.default_rng(7)
    rule = v.Rule(margin=0.02, alarm_alpha=0.05)
    alarms = 0
    for _ in range(400):
        logs = math.log(1.02) + rng.normal(0, 0.03, 80)
        for look, part in enumerate(rule.looks):
            low = s.paired_ratio(logs[: round(80 * part)], lower_alpha=rule.alarm_alpha * rule.share(look)).low
            if low > 1.02:
                alarms += 1
                break
    assert alarms <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)
    assert sum(rule.share(i) for i in range(len(rule.looks))) == pytest.approx(1)


def test_the_noise_floor_is_what_equals_show() -> None:
    rng = np.random.default_rng(8)
    shown = [abs(np.expm1(np.median(rng.normal(0, 0.03, 40)))) for _ in range(400)]
    floors = [v.noise_floor(rng.normal(0, 0.03, 12), 40, seed=i) for i in range(30)]
    assert np.median(floors) == pytest.approx(np.quantile(shown, 0.95), rel=0.25)
    assert v.noise_floor([0.1], 10) == math.inf


@pytest.mark.parametrize(
    ("low", "high", "floor", "expected"),
    [
        (1.03, 1.09, 0.01, v.REGRESS), (1.03, 1.09, 0.04, v.INCONCLUSIVE), (0.99, 1.03, 0.01, v.PASS),
        (1.0, 1.06, 0.0, v.INCONCLUSIVE), (0.0, math.inf, 0.0, v.INCONCLUSIVE),
    ],
)  # fmt: skip
def test_the_verdict_of_bounds(low: float, high: float, floor: float, expected: str) -> None:
    assert v.decide(s.Interval((low + high) / 2, low, high), v.Rule(), floor) == expected


def test_verdicts_together_and_rules_that_make_no_sense() -> None:
    assert v.together([v.PASS, v.PASS]) == v.PASS
    assert v.together([v.PASS, v.INCONCLUSIVE]) == v.INCONCLUSIVE == v.together([])
    assert v.together([v.INCONCLUSIVE, v.REGRESS]) == v.REGRESS
    for bad in ({"margin": 0.06}, {"alarm_alpha": 0.0}, {"looks": (0.5,)}, {"looks": (0.5, 0.2, 1.0)}):
        with pytest.raises(ValueError, match="must"):
            v.Rule(**bad)
