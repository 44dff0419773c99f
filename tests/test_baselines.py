"""Frame-wise baselines: deltas against librosa, sampling, toy problems, votes."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any

import helpers
import numpy as np
import pytest
from helpers import CLASSES, pool_of

from edge_runtime import ConfigError, FrontEndConfig

pytest.importorskip("keras")
pytest.importorskip("sklearn")

from edge_bench.train import baselines

SMALL: dict[str, Callable[..., baselines.FrameClassifier]] = {
    "gmm": lambda **other: baselines.gmm(components=4, **other),
    "snn": lambda **other: baselines.snn(epochs=6, **other),
    "random-forest": lambda **other: baselines.random_forest(trees=10, **other),
    "svm-linear": lambda **other: baselines.svm(kernel="linear", **other),
    "svm-rbf": lambda **other: baselines.svm(features=100, **other),
}


def toy(count: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds in 60 dimensions, on scales as different as MFCC and their second deltas."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(0, 1, (3, 60))
    y = rng.integers(0, 3, count)
    return ((centres[y] + rng.standard_normal((count, 60))) * np.logspace(-2, 2, 60)).astype(np.float32), y


# --- deltas -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("frames", "width"), [(9, 9), (10, 9), (48, 9), (198, 9), (30, 5)])
def test_deltas_are_librosas(frames: int, width: int, order: int) -> None:
    librosa = helpers.librosa()
    x = np.random.default_rng(frames).standard_normal((frames, 20)).astype(np.float32)
    wanted = librosa.feature.delta(x.T, order=order, width=width).T
    np.testing.assert_allclose(baselines.delta(x, order=order, width=width), wanted, atol=1e-5)


def test_deltas_of_a_parabola() -> None:
    t = np.arange(40, dtype=np.float32)[:, None]
    x = 0.5 * t**2 - 3 * t + 7
    np.testing.assert_allclose(baselines.delta(x)[4:-4], (t - 3)[4:-4], atol=1e-4)
    np.testing.assert_allclose(baselines.delta(x, order=2), np.ones_like(t), atol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 8])
def test_a_clip_shorter_than_the_window(frames: int) -> None:
    x = np.random.default_rng(0).standard_normal((3, frames, 20)).astype(np.float32)
    features = baselines.frame_features(x)
    assert features.shape == (3, frames, 60) and np.isfinite(features).all()
    np.testing.assert_array_equal(features[:, :, :20], x)
    np.testing.assert_allclose(baselines.frame_features(x * 0 + 5)[..., 20:], 0, atol=1e-5)


def test_clips_do_not_see_each_other() -> None:
    x = np.random.default_rng(0).standard_normal((4, 48, 20)).astype(np.float32)
    each = np.stack([baselines.frame_features(clip) for clip in x])
    np.testing.assert_array_equal(baselines.frame_features(x), each)


@pytest.mark.parametrize("options", [{"order": 3}, {"width": 4}, {"width": 1}])
def test_deltas_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="needed are 1 or 2, and an odd number"):
        baselines.delta(np.zeros((20, 2), np.float32), **options)


# --- training frames --------------------------------------------------------------------------


def test_training_frames() -> None:
    rng = np.random.default_rng(0)
    lengths = {"speech": 900, "music": 100, "noise": 300}
    pieces = [(label, 3 * i + rng.standard_normal((n, 20))) for i, (label, n) in enumerate(lengths.items())]
    config = FrontEndConfig().normalised([1.0] * 20, [2.0] * 20)
    x, y = baselines.training_frames(pool_of(pieces), config, CLASSES, per_class=400)
    assert x.shape == (1200, 60) and y.shape == (1200,) and x.dtype == np.float32
    assert np.bincount(y).min() > 330, "classes weigh the same, however much there is of them"
    for label in range(3):
        assert abs(x[y == label, :20].mean() - 2 * (3 * label - 1)) < 0.2, "normalised"
    again, _ = baselines.training_frames(pool_of(pieces), config, CLASSES, per_class=400)
    np.testing.assert_array_equal(again, x)


# --- the classifiers --------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_a_separable_problem(name: str) -> None:
    classifier = SMALL[name]().fit(*toy())
    assert classifier.name == name
    x, y = toy(300, seed=1)
    predicted = classifier.predict_frames(x)
    assert predicted.shape == (300,) and predicted.dtype == np.int64
    assert (predicted == y).mean() > 0.95

    order = np.argsort(y, kind="stable")[: 30 * 9]
    clips = x[order].reshape(9, 30, 60)
    shares = classifier.vote(clips)
    assert shares.shape == (9, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    votes = predicted[order].reshape(9, 30)
    np.testing.assert_array_equal(shares.argmax(axis=1), [np.bincount(v, minlength=3).argmax() for v in votes])


@pytest.mark.parametrize("name", SMALL)
def test_labels_that_make_no_sense(name: str) -> None:
    x, y = toy(200)
    for labels, message in (
        (np.where(y == 2, 3, y), "labels must be whole numbers from 0 to 2"),
        (y - 1, "from 0 to 2"),
        (y.astype(float), "whole numbers"),
        (y[:-1], "200 frames have 199 labels"),
        (np.minimum(y, 1), "class 2 has no frame"),
    ):
        with pytest.raises(ConfigError, match=message):
            SMALL[name]().fit(x, labels)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_answers() -> None:
    x, y = toy(600)
    other = 3 * np.random.default_rng(5).standard_normal((200, 60)).astype(np.float32) * np.logspace(-2, 2, 60)
    for make in SMALL.values():
        first, second = (make(seed=3).fit(x, y).predict_frames(other.astype(np.float32)) for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_a_tie_goes_to_the_first() -> None:
    class Echo:
        def fit(self, x: np.ndarray, y: np.ndarray) -> None:
            pass

        def predict(self, x: np.ndarray) -> np.ndarray:
            return (x[:, 0] > 0).astype(int)

    x = np.array([[-1.0], [1.0]], np.float32)
    classifier = baselines.FrameClassifier("echo", 2, Echo()).fit(x, np.array([0, 1]))
    clips = np.array([[1, 1, -1, -1], [1, 1, 1, -1]], np.float32)[:, :, None]
    np.testing.assert_array_equal(classifier.vote(clips), [[0.5, 0.5], [0.25, 0.75]])
    assert classifier.vote(clips).argmax(axis=1).tolist() == [0, 1]


# --- counts and options -----------------------------------------------------------------------


def test_parameters() -> None:
    assert baselines.gmm_parameters() == 92_928
    mixtures = baselines.gmm(components=3).fit(*toy(300)).estimator.models
    counted = sum(m.weights_.size + m.means_.size + m.covariances_.size for m in mixtures)
    assert counted == baselines.gmm_parameters(components=3)
    assert baselines.gmm().estimator._components == 256
    network = baselines.snn(epochs=1).fit(*toy(300)).estimator.model
    assert network.count_params() == 179_203
    assert not doctest.testmod(baselines).failed


def test_options_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="kernel is 'poly', must be linear or rbf"):
        baselines.svm(kernel="poly")
    with pytest.raises(ConfigError, match=r"class 0 has .* frames for 256 components"):
        baselines.gmm().fit(*toy(300))
