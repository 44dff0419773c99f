"""ROC, AUC, calibration and paired differences against scikit-learn; evaluations of several models; the SNR sweep."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
from helpers import CLASSES
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import ConfigError, metrics, probability
from edge_runtime.metrics import bootstrap_confusions, draw_groups, evaluate, paired_differences
from edge_runtime.probability import auc, bootstrap_auc, reliability, roc_curve


def answers(seed: int, clips: int = 200, *, steps: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities that lean towards them; with `steps` they are multiples of 1 / steps, with ties."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, clips)
    logits = rng.standard_normal((clips, 3)) + 1.2 * np.eye(3)[truth]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, np.round(p * steps) / steps if steps else p


# --- ranking and calibration ------------------------------------------------------------------

sides = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60).filter(
    lambda pairs: len({positive for positive, _ in pairs}) == 2
)


@settings(max_examples=150, deadline=None)
@given(sides)
def test_auc_and_curve_are_those_of_scikit_learn(pairs: list[tuple[bool, int]]) -> None:
    from sklearn import metrics as sk

    positive, score = np.array([p for p, _ in pairs]), np.array([s for _, s in pairs]) / 6
    assert auc(positive, score) == pytest.approx(sk.roc_auc_score(positive, score), abs=1e-12)
    false, true = roc_curve(positive, score)
    wanted = sk.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(false, wanted[0])
    np.testing.assert_allclose(true, wanted[1])
    assert np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2) == pytest.approx(auc(positive, score))


@pytest.mark.parametrize("steps", [0, 8])
def test_probability_scores_are_those_of_scikit_learn(steps: int) -> None:
    from sklearn import metrics as sk

    truth, p = answers(1, steps=steps)
    p = p / p.sum(axis=1, keepdims=True)
    scores = probability.evaluate(truth, p, CLASSES)
    one_vs_rest = sk.roc_auc_score(truth, p, multi_class="ovr", average=None)
    np.testing.assert_allclose([scores.auc[name] for name in CLASSES], one_vs_rest)
    assert scores.macro_auc == pytest.approx(sk.roc_auc_score(truth, p, multi_class="ovr", average="macro"))
    assert scores.brier == pytest.approx(sum(sk.brier_score_loss(truth == i, p[:, i]) for i in range(3)))
    if not steps:
        assert scores.nll == pytest.approx(sk.log_loss(truth, np.maximum(p, 1 / 512)), abs=2e-3)


def test_the_reliability_diagram_is_that_of_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve

    truth, p = answers(2, 500)
    diagram = reliability(truth, p)
    filled = diagram.clips > 0
    accuracy, confidence = calibration_curve(p.argmax(axis=1) == truth, p.max(axis=1), n_bins=10)
    np.testing.assert_allclose(diagram.accuracy[filled], accuracy)
    np.testing.assert_allclose(diagram.confidence[filled], confidence)
    assert diagram.clips.sum() == 500 and not diagram.accuracy[~filled].any()


def test_calibration_error_by_hand() -> None:
    # ten clips at 0.75, of which five are right, and two at 1.0, both right: (10 * 0.25 + 2 * 0) / 12
    truth = [0] * 5 + [1] * 5 + [0, 0]
    p = [[0.75, 0.25]] * 10 + [[1.0, 0.0]] * 2
    diagram = reliability(truth, p)
    assert diagram.error == pytest.approx(2.5 / 12)
    assert diagram.clips.tolist() == [0, 0, 0, 0, 0, 0, 0, 10, 0, 2]


def test_int8_probabilities_are_normalised_and_a_zero_is_not_infinite() -> None:
    truth = [0, 1, 2]
    raw = np.array([[128, 64, 0], [0, 0, 0], [255, 1, 0]]) / 256
    scores = probability.evaluate(truth, raw, CLASSES)
    _, p = probability.normalised(truth, raw)
    np.testing.assert_allclose(p, [[2 / 3, 1 / 3, 0], [1 / 3] * 3, [255 / 256, 1 / 256, 0]])
    assert scores.nll == pytest.approx(-np.mean(np.log([2 / 3, 1 / 3, 1 / 512])))


def test_a_class_without_clips_has_no_auc() -> None:
    scores = probability.evaluate([0, 1, 1], np.full((3, 3), 1 / 3), CLASSES)
    assert scores.auc == {"speech": 0.5, "music": 0.5, "noise": None} and scores.macro_auc == 0.5
    assert probability.evaluate([0], [[0.5, 0.5]], ("a", "b")).macro_auc is None


@pytest.mark.parametrize(
    ("truth", "p", "message"),
    [
        ([0, 1], [[0.5, 0.5]], "probabilities have shape"),
        ([0], [0.5], "probabilities have shape"),
        ([0], [[0.5, float("nan")]], "finite"),
        ([0], [[1.5, -0.5]], "not negative"),
        ([2], [[0.5, 0.5]], "from 0 to 1"),
        ([], np.zeros((0, 2)), "no clip"),
    ],
)
def test_probabilities_that_make_no_sense(truth: Any, p: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        probability.evaluate(truth, p, ("a", "b"))


def test_sides_that_make_no_sense() -> None:
    for positive, score, message in (
        ([True, True], [0, 1], "positives and negatives"), ([1, 0], [0, 1], "truths"),
        ([True, False], [0.0], "truths"), ([True, False], [0, float("nan")], "finite"),
    ):  # fmt: skip
        for function in (auc, roc_curve):
            with pytest.raises(ConfigError, match=message):
                function(positive, score)
    with pytest.raises(ConfigError, match="bins"):
        reliability([0], [[1.0, 0.0]], bins=0)
    with pytest.raises(ConfigError, match="2 probabilities a clip for 3 classes"):
        probability.evaluate([0], [[1.0, 0.0]], CLASSES)


# --- bootstrap --------------------------------------------------------------------------------


def recordings(clips: int = 200, each: int = 5) -> np.ndarray:
    return np.array([f"r{i // each}" for i in range(clips)])


@pytest.mark.parametrize("steps", [0, 4])
def test_auc_of_resampled_recordings_is_that_of_their_clips(steps: int) -> None:
    from sklearn.metrics import roc_auc_score

    truth, p = answers(3, 60, steps=steps)
    groups = np.array([f"r{t}{i % 4}" for i, t in enumerate(truth)])
    draws = draw_groups(truth, groups, 3, samples=25, seed=1)
    got = bootstrap_auc(truth == 1, p[:, 1], draws)
    for sample, weights in zip(got, draws.weights, strict=True):
        assert sample == pytest.approx(roc_auc_score(truth == 1, p[:, 1], sample_weight=weights[draws.cell]))


def test_draws_are_whole_groups_of_a_class() -> None:
    truth, _ = answers(4)
    draws = draw_groups(truth, recordings(), 3, samples=20, seed=2)
    assert draws.cell.shape == truth.shape and np.array_equal(draws.labels[draws.cell], truth)
    for label in range(3):
        of_class = draws.labels == label
        assert (draws.weights[:, of_class].sum(axis=1) == of_class.sum()).all()
    with pytest.raises(ConfigError, match="groups"):
        draw_groups(truth, recordings(10), 3)


def test_the_difference_is_the_difference() -> None:
    truth, p = answers(5)
    first = p.argmax(axis=1)
    second = np.where(np.arange(200) % 3 > 0, truth, first)
    found = paired_differences(truth, first, second, recordings(), CLASSES, samples=300)
    a, b = evaluate(truth, first, CLASSES), evaluate(truth, second, CLASSES)
    assert found["overall"].delta == pytest.approx(b.overall - a.overall)
    assert found["macro_f1"].delta == pytest.approx(b.macro_f1 - a.macro_f1)
    for name in CLASSES:
        assert found[f"recall {name}"].delta == pytest.approx(b.recall[name] - a.recall[name])
    low, high = found["macro_f1"].interval
    assert 0 < low <= found["macro_f1"].delta <= high and found["macro_f1"].below_zero == 0
    back = paired_differences(truth, second, first, recordings(), CLASSES, samples=300)
    assert back["macro_f1"].delta == -found["macro_f1"].delta and back["macro_f1"].below_zero == 1


def test_a_model_differs_from_itself_by_nothing() -> None:
    truth, p = answers(7)
    predicted = p.argmax(axis=1)
    for found in paired_differences(truth, predicted, predicted, recordings(), CLASSES, samples=50).values():
        assert (found.delta, found.interval, found.below_zero) == (0, (0, 0), 0)


def test_pairing_narrows_the_interval() -> None:
    """Two models that err on the same recordings: unpaired intervals drown what is always the same difference."""
    rng = np.random.default_rng(8)
    truth = np.repeat(np.arange(60) % 3, 10)
    groups = np.repeat([f"r{i}" for i in range(60)], 10)
    hard = np.repeat(rng.random(60) < 0.4, 10)
    first = np.where(hard, (truth + 1) % 3, truth)
    second = np.where(np.arange(600) % 10 == 0, (truth + 1) % 3, first)  # a tenth of its clips more
    low, high = paired_differences(truth, first, second, groups, CLASSES)["overall"].interval
    assert high < 0
    spread = [
        np.trace(bootstrap_confusions(truth, predicted, groups, 3, seed=seed), axis1=1, axis2=2) / 600
        for seed, predicted in enumerate((first, second))
    ]
    unpaired = metrics.interval(spread[1] - spread[0])
    assert high - low < 0.4 * (unpaired[1] - unpaired[0]) and unpaired[1] > 0


def test_the_interval_of_a_difference_covers() -> None:
    """In about 95 % of corpora the interval holds the true difference of two models: 0.1 of the recordings."""
    covered = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        truth = np.repeat(np.arange(90) % 3, 6)
        groups = np.repeat([f"r{i}" for i in range(90)], 6)
        first = np.where(np.repeat(rng.random(90) < 0.2, 6), (truth + 1) % 3, truth)
        second = np.where(np.repeat(rng.random(90) < 0.1, 6), (truth + 1) % 3, truth)
        low, high = paired_differences(truth, first, second, groups, CLASSES, samples=200, seed=seed)[
            "overall"
        ].interval
        covered += low <= 0.1 <= high
    assert 0.88 < covered / 120 <= 1


def test_examples_in_docstrings_run() -> None:
    failed, tried = doctest.testmod(probability)
    assert tried and not failed
