"""Clips of a recording: where they lie, what the network is given, and what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLASSES, RATE, noise, speech
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import AudioError, BundleError, Classifier, ConfigError, FrontEnd, bundle
from edge_runtime.classify import dequantise, quantise
from edge_runtime.interpreter import Session

PRECISIONS = ("float32", "int8")


@pytest.fixture(scope="module")
def half(bundles: dict[str, Path]) -> Any:
    """A classifier of 0.5 s clips."""
    with Classifier(bundles["int8"], clip_s=0.5) as classifier:
        yield classifier


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("clip_s", [0.5, 1.0, 2.0])
def test_the_answer_is_the_networks(bundles: dict[str, Path], precision: str, clip_s: float) -> None:
    b = bundle.read(bundles[precision])
    x = np.concatenate([speech(2.0), noise(2.0)])
    with Classifier(bundles[precision], clip_s=clip_s) as classifier:
        results = classifier.classify(x)
    n = round(clip_s * RATE)
    assert [(r.start_s, r.end_s) for r in results] == [
        (i / RATE, (i + n) / RATE) for i in range(0, 4 * RATE - n + 1, n)
    ]
    frames = b.clip_frames(clip_s)
    session = Session(b.flatbuffer, frames=b.padded_frames(frames))
    for i, r in enumerate(results):
        features = np.zeros((b.padded_frames(frames), 20), np.float32)
        features[-frames:] = FrontEnd(b.front_end)(x[i * n : (i + 1) * n])
        q = quantise(features, *session.input_quantization, session.input_dtype)
        p = dequantise(session.run(q[None, None]), *session.output_quantization)[0]
        assert list(r.probabilities) == list(CLASSES)
        np.testing.assert_allclose(list(r.probabilities.values()), p / p.sum(), atol=1e-6)
        assert sum(r.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert r.label == max(r.probabilities, key=r.probabilities.__getitem__)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(400, 40000), hop=st.one_of(st.none(), st.integers(800, 20000)))
def test_where_clips_lie(half: Any, n: int, hop: int | None) -> None:
    found = [
        (r.start_s, r.end_s) for r in half.classify(np.zeros(n, np.int16), hop_s=None if hop is None else hop / RATE)
    ]
    step = hop or 8000
    starts = [s for s in range(0, n, step) if s + 8000 <= n] or [0]
    assert found == [(s / RATE, min(s + 8000, n) / RATE) for s in starts]


def test_a_short_recording_stands_behind_mean_frames(half: Any) -> None:
    x = speech(0.2)
    (result,) = half.classify(x)
    assert (result.start_s, result.end_s) == (0.0, 0.2)
    features = half.front_end(x)
    fed = half.network_input(features)
    scale, zero = half.session.input_quantization
    assert (fed[0, 0, : 108 - len(features)] == zero).all()
    np.testing.assert_allclose(dequantise(fed[0, 0, 108 - len(features) :], scale, zero), np.clip(features, *(
        scale * (limit - zero) for limit in (-128, 127))), atol=scale / 2 + 1e-6)  # fmt: skip
    long = half.classify(speech(0.5))
    assert half.classify(x) == [result] and half.classify(speech(0.5)) == long, "nothing of the clip before is left"


def test_int16_and_float_are_alike(half: Any) -> None:
    x = np.round(speech(1.0) * 32768).astype(np.int16)
    assert half.classify(x) == half.classify(x.astype(np.float32) / 32768)


@pytest.mark.parametrize("n", [0, 1, 399])
def test_too_short(half: Any, n: int) -> None:
    with pytest.raises(AudioError, match=rf"{n} samples, at least 400 \(25 ms\)"):
        half.classify(np.zeros(n, np.float32))


@pytest.mark.parametrize("clip_s", [0, -1, 0.02, 61, float("nan"), float("inf")])
def test_clip_lengths_that_make_no_sense(bundles: dict[str, Path], clip_s: float) -> None:
    with pytest.raises(ConfigError, match="clip length"):
        Classifier(bundles["int8"], clip_s=clip_s)


@pytest.mark.parametrize("hop_s", [0, -0.5, 1e-9])
def test_hops_that_make_no_sense(half: Any, hop_s: float) -> None:
    with pytest.raises(ConfigError, match="hop is"):
        half.classify(np.zeros(RATE, np.float32), hop_s=hop_s)


@pytest.mark.parametrize("hop_s", [float("nan"), float("inf")])
def test_hops_that_are_no_number(half: Any, hop_s: float) -> None:
    with pytest.raises(ConfigError, match="hop is"):
        half.classify(np.zeros(RATE, np.float32), hop_s=hop_s)


def test_a_bad_sample_in_the_first_clip(half: Any) -> None:
    x = speech(2.0)
    x[1234] = np.nan
    with pytest.raises(AudioError, match="sample 1234 is nan"):
        half.classify(x)


def test_a_bad_sample_in_a_later_clip(half: Any) -> None:
    x = speech(2.0)
    x[21234] = np.nan
    with pytest.raises(AudioError, match="sample 21234 is nan"):
        half.classify(x)


def test_a_bad_sample_in_the_dropped_tail(half: Any) -> None:
    x = speech(0.7)
    x[-1] = np.inf
    with pytest.raises(AudioError, match="sample 11199 is inf"):
        half.classify(x)


def test_wrong_arrays(half: Any) -> None:
    for samples in (np.zeros((2, 8000), np.float32), np.zeros(8000, np.int32), "a.wav"):
        with pytest.raises(AudioError, match="samples"):
            half.classify(samples)


def test_bundles_by_path_name_and_object(bundles: dict[str, Path]) -> None:
    x = speech(0.5)
    found = []
    for given_ in (bundles["int8"], str(bundles["int8"]), bundle.read(bundles["int8"])):
        with Classifier(given_, clip_s=0.5) as classifier:
            found.append(classifier.classify(x))
    assert found[0] == found[1] == found[2]
    with pytest.raises(BundleError, match="no such file"):
        Classifier("nothing-of-that-name")


def test_closing_twice(bundles: dict[str, Path]) -> None:
    with Classifier(bundles["int8"], clip_s=0.5) as classifier:
        classifier.close()


# --- quantisation -----------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(scale=st.floats(1e-4, 10), zero=st.integers(-128, 127), seed=st.integers(0, 99))
def test_quantising(scale: float, zero: int, seed: int) -> None:
    x = (np.random.default_rng(seed).standard_normal(200) * 100 * scale).astype(np.float32)
    q = quantise(x, scale, zero, np.int8)
    exact = np.clip(x.astype(np.float64) / scale + zero, -128, 127)
    assert q.dtype == np.int8 and np.abs(q - exact).max() <= 0.5 + 1e-3
    back = dequantise(q, scale, zero)
    assert back.dtype == np.float32 and np.array_equal(quantise(back, scale, zero, np.int8), q)


def test_halves_go_to_the_even_number() -> None:
    assert quantise(np.array([0.5, 1.5, 2.5, -0.5], np.float32), 1.0, 0, np.int8).tolist() == [0, 2, 2, 0]
    assert quantise(np.array([1e9, -1e9], np.float32), 0.1, 5, np.uint8).tolist() == [255, 0]
