"""Scores against scikit-learn, at their edges, and the bootstrap over recordings."""

from __future__ import annotations

import doctest
import json
from typing import Any

import numpy as np
import pytest
from helpers import CLASSES
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import ConfigError, metrics
from edge_runtime.metrics import bootstrap_confusions, confusion_matrix, evaluate, f1_scores, interval

labels = st.integers(1, 6).flatmap(
    lambda k: st.tuples(
        st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=60)
    )
)


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@settings(max_examples=150, deadline=None)
@given(labels)
def test_scores_are_those_of_scikit_learn(case: tuple[int, list[tuple[int, int]]]) -> None:
    from sklearn import metrics as sk

    k, pairs = case
    truth, predicted = np.array(pairs).T
    names = [f"c{i}" for i in range(k)]
    scores = evaluate(truth, predicted, names)
    known: dict[str, Any] = {"labels": range(k), "zero_division": 0}
    assert np.array_equal(scores.confusion, sk.confusion_matrix(truth, predicted, labels=range(k)))
    assert scores.overall == pytest.approx(sk.accuracy_score(truth, predicted))
    occurring = {**known, "labels": sorted(set(truth.tolist()))}
    assert scores.macro_f1 == pytest.approx(sk.f1_score(truth, predicted, average="macro", **occurring))
    for values, function in (
        (scores.recall, sk.recall_score), (scores.precision, sk.precision_score), (scores.f1, sk.f1_score)
    ):  # fmt: skip
        assert list(values) == names
        np.testing.assert_allclose(list(values.values()), function(truth, predicted, average=None, **known))
    assert scores.clips == len(pairs) and scores.speech_nonspeech is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40), st.permutations(CLASSES))
def test_speech_against_the_rest(pairs: list[tuple[int, int]], names: list[str]) -> None:
    truth, predicted = np.array(pairs).T
    i = names.index("speech")
    assert evaluate(truth, predicted, names).speech_nonspeech == pytest.approx(
        np.mean((truth == i) == (predicted == i))
    )


def test_by_hand() -> None:
    scores = evaluate([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2], CLASSES)
    assert scores.confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert scores.recall == pytest.approx({"speech": 2 / 3, "music": 1 / 2, "noise": 1})
    assert scores.precision == pytest.approx({"speech": 1, "music": 1 / 2, "noise": 1 / 2})
    assert scores.f1 == pytest.approx({"speech": 0.8, "music": 0.5, "noise": 2 / 3})
    assert scores.macro_f1 == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert scores.overall == pytest.approx(4 / 6) and scores.speech_nonspeech == pytest.approx(5 / 6)


def test_a_class_that_does_not_occur_is_not_averaged() -> None:
    scores = evaluate([0, 1], [0, 1], CLASSES)
    assert scores.f1["noise"] == scores.recall["noise"] == scores.precision["noise"] == 0
    assert scores.macro_f1 == 1
    taken_for_noise = evaluate([0, 1], [2, 1], CLASSES)
    assert taken_for_noise.macro_f1 == pytest.approx(1 / 2), "speech 0, music 1"


def test_to_dict_is_json() -> None:
    values = json.loads(json.dumps(evaluate([0, 1, 2], [0, 1, 1], CLASSES).to_dict()))
    assert values["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 1, 0]] and values["clips"] == 3
    assert set(values) >= {"overall", "speech_nonspeech", "macro_f1", "recall"}


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([], [], "no clip"),
        ([0, 1], [0], "shapes"),
        ([[0, 1]], [[0, 1]], "shapes"),
        (0, 0, "shapes"),
        ([0, 3], [0, 0], "from 0 to 2"),
        ([0, 0], [0, 3], "from 0 to 2"),
        ([0, -1], [0, 0], "from 0 to 2"),
        ([0.0, 1.0], [0, 1], "whole numbers"),
        ([True, False], [0, 1], "whole numbers"),
        (["a", "b"], [0, 1], "whole numbers"),
    ],
)
def test_labels_that_make_no_sense(truth: Any, predicted: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(truth, predicted, CLASSES)
    with pytest.raises(ConfigError, match=message):
        confusion_matrix(truth, predicted, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64, np.int32])
def test_any_whole_number_type(dtype: Any) -> None:
    # 8 bit labels must not overflow where the matrix is flattened
    truth = np.arange(100).astype(dtype)
    assert np.array_equal(confusion_matrix(truth, truth, 100), np.eye(100))


def test_f1_of_a_stack_of_matrices() -> None:
    stack = np.random.default_rng(0).integers(0, 9, (4, 5, 3, 3))
    got = f1_scores(stack)
    assert got.shape == (4, 5, 3)
    np.testing.assert_array_equal(got[2, 3], f1_scores(stack[2, 3]))


# --- bootstrap --------------------------------------------------------------------------------


def recordings(seed: int = 0, count: int = 30, clips: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips of recordings: all clips of a recording are right, or nearly all are wrong."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(count) % 3, clips)
    good = np.repeat(rng.random(count) < 0.8, clips)
    predicted = np.where(good, truth, (truth + 1) % 3)
    return truth, predicted, np.repeat([f"r{i}" for i in range(count)], clips)


def test_the_seed_decides() -> None:
    truth, predicted, groups = recordings()
    a, b = (bootstrap_confusions(truth, predicted, groups, 3, samples=50, seed=4) for _ in range(2))
    assert a.shape == (50, 3, 3) and np.array_equal(a, b)
    assert not np.array_equal(a, bootstrap_confusions(truth, predicted, groups, 3, samples=50, seed=5))


def test_whole_groups_are_drawn_within_their_class() -> None:
    truth = np.array([0] * 5 + [0] * 7 + [1] * 4)
    predicted = np.array([0] * 5 + [1] * 7 + [1] * 4)
    groups = np.array(["a"] * 5 + ["b"] * 7 + ["c"] * 4)
    drawn = bootstrap_confusions(truth, predicted, groups, 2, samples=300)
    # two groups of class 0: {a, a}, {a, b} or {b, b}; the one group of class 1 is always drawn
    assert {tuple(row) for row in drawn[:, 0]} == {(10, 0), (5, 7), (0, 14)}
    assert {tuple(row) for row in drawn[:, 1]} == {(0, 4)}
    share = np.mean((drawn[:, 0] == (5, 7)).all(axis=1))
    assert 0.4 < share < 0.6  # binomial: one half


def test_a_group_with_two_classes_is_drawn_in_each_of_them() -> None:
    drawn = bootstrap_confusions([0, 0, 1], [0, 0, 1], ["x", "x", "x"], 2, samples=20)
    assert (drawn == [[2, 0], [0, 1]]).all()


def test_a_class_without_clips_stays_empty() -> None:
    drawn = bootstrap_confusions([0, 0], [0, 2], ["a", "b"], 3, samples=20)
    assert not drawn[:, 1:].any() and (drawn[:, 0].sum(axis=1) == 2).all()


def test_the_mean_of_the_samples_is_the_score() -> None:
    truth, predicted, groups = recordings()
    drawn = bootstrap_confusions(truth, predicted, groups, 3, samples=4000)
    np.testing.assert_allclose(drawn.mean(axis=0), confusion_matrix(truth, predicted, 3), rtol=0.05, atol=0.5)


def test_the_interval_covers() -> None:
    """In about 95 % of corpora the interval of the recall holds the true one; clips drawn singly would miss often."""
    covered = narrow = 0
    for seed in range(120):
        truth, predicted, groups = recordings(seed, count=90)
        for names, counter in ((groups, "groups"), (np.arange(len(truth)), "clips")):
            drawn = bootstrap_confusions(truth, predicted, names, 3, samples=200, seed=seed)
            low, high = interval(np.diagonal(drawn, axis1=1, axis2=2).sum(axis=1) / drawn.sum(axis=(1, 2)))
            assert low <= high
            covered += counter == "groups" and low <= 0.8 <= high
            narrow += counter == "clips" and low <= 0.8 <= high
    assert covered / 120 > 0.88
    assert narrow / 120 < 0.7


def test_interval_is_the_percentile_one() -> None:
    values = np.arange(1001.0)
    assert interval(values) == pytest.approx((25, 975))
    assert interval(values, level=0.5) == pytest.approx((250, 750))
    assert interval(np.array([3.0])) == (3.0, 3.0)


@pytest.mark.parametrize("groups", [["a"], ["a", "b", "c"], []])
def test_groups_must_fit(groups: list[str]) -> None:
    with pytest.raises(ConfigError, match="groups"):
        bootstrap_confusions([0, 1], [0, 1], groups, 2)


def test_class_names_must_differ() -> None:
    with pytest.raises(ConfigError):
        evaluate([0, 1], [0, 1], ["speech", "speech"])


def test_examples_in_docstrings_run() -> None:
    failed, tried = doctest.testmod(metrics)
    assert tried >= 1 and failed == 0
