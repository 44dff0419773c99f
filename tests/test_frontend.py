"""The front end against librosa and scipy, at its edges, and streamed in any pieces."""

from __future__ import annotations

import dataclasses
import doctest
import json
import math
import time
import tracemalloc
import warnings
from typing import Any

import helpers
import numpy as np
import pytest
from helpers import RATE, SOUNDS, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import AudioError, ConfigError, FrontEnd, FrontEndConfig, StreamingFrontEnd, filters, frontend

VARIANTS = {
    "default": {},
    "htk": {"mel_scale": "htk"},
    "no norm": {"mel_norm": "none"},
    "htk, no norm, whole band": {"mel_scale": "htk", "mel_norm": "none", "fmin": 0.0, "fmax": 8000.0},
    "hamming": {"window": "hamming"},
    "rectangular": {"window": "rectangular"},
    "22 kHz, 1024": {
        "sample_rate": 22050, "frame_length": 1024, "fft_length": 1024, "hop_length": 256, "mel_bands": 64,
        "coefficients": 40, "fmax": 11025.0, "fmin": 0.0,
    },
    "odd number of bands": {"mel_bands": 13, "coefficients": 13},
    "no overlap": {"hop_length": 400},
    "hop of one": {"hop_length": 1},
}  # fmt: skip
KINDS = ("mfcc", "log_mel", "power")
DEFAULT = FrontEndConfig()


def signals() -> dict[str, np.ndarray]:
    """One second of each: sounds, and what is not one."""
    n = RATE
    t = np.arange(n) / RATE
    rng = np.random.default_rng(3)
    return {
        **{name: make(1.0, 1) for name, make in SOUNDS.items()},
        "sine at full scale": np.sin(2 * np.pi * 1000 * t).astype(np.float32),
        "square at full scale": np.sign(np.sin(2 * np.pi * 333 * t)).astype(np.float32),
        "chirp": (0.5 * np.sin(2 * np.pi * (50 + 3900 * t) * t)).astype(np.float32),
        "white": rng.uniform(-1, 1, n).astype(np.float32),
        "faint": (1e-4 * rng.standard_normal(n)).astype(np.float32),
        "constant": np.full(n, 0.5, np.float32),
        "silence": np.zeros(n, np.float32),
        "impulses": (np.arange(n) % 977 == 0).astype(np.float32),
    }


SIGNALS = signals()


def librosa_power(x: np.ndarray, c: FrontEndConfig) -> np.ndarray:
    """librosa's power spectrogram of our frames, shape (frames, bins)."""
    librosa = helpers.librosa()
    # librosa puts the window in the middle of its frame, we put it at the start
    before = (c.fft_length - c.frame_length) // 2
    padded = np.pad(x.astype(np.float64), (before, c.fft_length - c.frame_length - before))
    window = {"rectangular": "boxcar"}.get(c.window, c.window)
    spectrum = librosa.stft(
        padded, n_fft=c.fft_length, hop_length=c.hop_length, win_length=c.frame_length, window=window, center=False
    )
    return (np.abs(spectrum) ** 2).T


def librosa_mel(c: FrontEndConfig) -> np.ndarray:
    """librosa's filters, shape (bins, bands)."""
    librosa = helpers.librosa()
    norm = None if c.mel_norm == "none" else c.mel_norm
    return librosa.filters.mel(
        sr=c.sample_rate, n_fft=c.fft_length, n_mels=c.mel_bands, fmin=c.fmin, fmax=c.fmax,
        htk=c.mel_scale == "htk", norm=norm, dtype=np.float64,
    ).T  # fmt: skip


def librosa_features(x: np.ndarray, c: FrontEndConfig) -> dict[str, np.ndarray]:
    """Everything from librosa and scipy alone."""
    from scipy.fft import dct

    librosa = helpers.librosa()
    power = librosa_power(x, c)
    log_mel = librosa.power_to_db(power @ librosa_mel(c), ref=1.0, amin=c.power_floor, top_db=None)
    mfcc = dct(log_mel, type=2, norm="ortho", axis=1)[:, : c.coefficients]
    return {"power": power, "log_mel": log_mel, "mfcc": mfcc}


def ours(x: np.ndarray, c: FrontEndConfig = DEFAULT, **changes: Any) -> np.ndarray:
    return FrontEnd(dataclasses.replace(c, **changes))(x)


def streamed(x: np.ndarray, c: FrontEndConfig, sizes: Any) -> np.ndarray:
    """Features of `x` pushed in pieces of these sizes, the rest at once."""
    stream, parts, at = StreamingFrontEnd(c), [], 0
    for size in sizes:
        parts.append(stream.push(x[at : at + size]))
        at += size
    parts.append(stream.push(x[at:]))
    assert stream.samples == len(x)
    result = np.concatenate(parts)
    assert stream.frames == len(result)
    return result


# --- against librosa and scipy ----------------------------------------------------------------


@pytest.mark.parametrize("name", SIGNALS)
def test_each_signal_agrees_with_librosa(name: str) -> None:
    x = SIGNALS[name]
    wanted = librosa_features(x, DEFAULT)
    power = ours(x, kind="power")
    assert power.shape == wanted["power"].shape and power.dtype == np.float32
    assert np.abs(power - wanted["power"]).max() <= 1e-4 * wanted["power"].max()
    assert np.abs(ours(x, kind="log_mel") - wanted["log_mel"]).max() < 1e-3
    assert np.abs(ours(x) - wanted["mfcc"]).max() < 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_configuration_agrees_with_librosa(variant: str) -> None:
    c = FrontEndConfig(**VARIANTS[variant])
    x = SIGNALS["speech"][: 3000 if c.hop_length == 1 else None]
    wanted = librosa_features(x, c)
    for kind in KINDS:
        got = ours(x, c, kind=kind)
        assert got.shape == wanted[kind].shape
        tolerance = 1e-4 * wanted[kind].max() if kind == "power" else 1e-3
        assert np.abs(got - wanted[kind]).max() <= tolerance, kind


@pytest.mark.parametrize("variant", VARIANTS)
def test_mel_filters_are_librosas(variant: str) -> None:
    c = FrontEndConfig(**VARIANTS[variant])
    np.testing.assert_allclose(filters.mel_filters(c), librosa_mel(c), rtol=1e-9, atol=1e-12)


def test_mel_filters_of_an_odd_fft_are_librosas() -> None:
    c = FrontEndConfig(fft_length=511)
    np.testing.assert_allclose(filters.mel_filters(c), librosa_mel(c), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_scale_is_librosas_and_has_an_inverse(scale: str) -> None:
    librosa = helpers.librosa()
    hz = np.concatenate([np.linspace(0, 12000, 500), [999.999, 1000.0, 1000.001]])
    mel = filters.hz_to_mel(hz, scale)
    np.testing.assert_allclose(mel, librosa.hz_to_mel(hz, htk=scale == "htk"), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(filters.mel_to_hz(mel, scale), hz, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [400, 401, 512])
@pytest.mark.parametrize(("ours_", "scipys"), [("hann", "hann"), ("hamming", "hamming"), ("rectangular", "boxcar")])
def test_windows_are_scipys_periodic_ones(length: int, ours_: str, scipys: str) -> None:
    from scipy.signal import get_window

    c = FrontEndConfig(frame_length=length, window=ours_)
    np.testing.assert_allclose(filters.window(c), get_window(scipys, length, fftbins=True), atol=1e-12)


@pytest.mark.parametrize("bands", [1, 2, 13, 32, 64])
def test_dct_is_scipys_orthonormal_one(bands: int) -> None:
    from scipy.fft import dct

    np.testing.assert_allclose(filters.dct(bands, bands), dct(np.eye(bands), type=2, norm="ortho"), atol=1e-12)
    np.testing.assert_allclose(filters.dct(bands, bands).T @ filters.dct(bands, bands), np.eye(bands), atol=1e-12)


@pytest.mark.parametrize("module", [frontend])
def test_examples_in_docstrings_run(module: Any) -> None:
    failed, tried = doctest.testmod(module)
    assert tried >= 2 and failed == 0


# --- lengths ----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(n=st.integers(0, 2000), kind=st.sampled_from(KINDS))
def test_number_of_frames(n: int, kind: str) -> None:
    frames = len([s for s in range(0, n, 160) if s + 400 <= n])  # whole frames, counted
    x = np.ones(n, np.float32)
    c = FrontEndConfig(kind=kind)
    assert FrontEnd(c)(x).shape == (frames, c.features)
    assert c.frames(n) == frames
    if frames:
        assert c.samples(frames) <= n < c.samples(frames + 1)
    assert len(StreamingFrontEnd(c).push(x)) == frames


def test_clip_lengths_of_the_paper() -> None:
    assert [DEFAULT.frames(n) for n in (8000, 16000, 32000)] == [48, 98, 198]
    assert DEFAULT.samples(0) == 0 and DEFAULT.samples(1) == 400 and DEFAULT.frames(399) == 0
    assert DEFAULT.hop_s == 0.01
    assert [FrontEndConfig(kind=k).features for k in KINDS] == [20, 32, 257]


def test_a_frame_depends_on_its_own_samples_only() -> None:
    x = SIGNALS["white"]
    base = ours(x)
    changed = x.copy()
    changed[1600:2000] = 0  # frame 10 and its neighbours up to two hops away
    moved = np.flatnonzero((ours(changed) != base).any(axis=1))
    assert moved.min() == 8 and moved.max() == 12


# --- levels -----------------------------------------------------------------------------------


def test_silence_is_the_floor() -> None:
    log_mel = ours(np.zeros(4000, np.float32), kind="log_mel")
    np.testing.assert_allclose(log_mel, -70.0, atol=1e-4)
    mfcc = ours(np.zeros(4000, np.float32))
    np.testing.assert_allclose(mfcc[:, 0], -70.0 * np.sqrt(32), atol=1e-3)
    np.testing.assert_allclose(mfcc[:, 1:], 0.0, atol=1e-3)
    assert not ours(np.zeros(4000, np.float32), kind="power").any()


def test_a_constant_is_seen_in_the_lowest_band_only() -> None:
    # what the Hann window's side lobes leave above that falls by 18 dB an octave
    log_mel = ours(np.full(4000, 0.5, np.float32), kind="log_mel")
    assert (log_mel.argmax(axis=1) == 0).all() and np.ptp(log_mel, axis=0).max() < 1e-3
    assert (log_mel[:, 0] - log_mel[:, 4:].max(axis=1) > 30).all()


def test_full_scale_is_finite_and_where_it_should_be() -> None:
    t = np.arange(4000) / RATE
    power = ours(np.sin(2 * np.pi * 1000 * t).astype(np.float32), kind="power")
    assert (power.argmax(axis=1) == 32).all()  # 1000 Hz / 31.25 Hz
    np.testing.assert_allclose(power[:, 32], (400 / 4) ** 2, rtol=1e-3)  # amplitude x sum of the Hann window / 2


@pytest.mark.parametrize("kind", KINDS)
def test_int16_is_float_divided_by_32768(kind: str) -> None:
    x = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    x[:2] = -32768, 32767
    c = FrontEndConfig(kind=kind)
    assert np.array_equal(FrontEnd(c)(x), FrontEnd(c)(x.astype(np.float32) / 32768))
    assert np.array_equal(StreamingFrontEnd(c).push(x), FrontEnd(c)(x))


def test_float64_is_float32() -> None:
    x = SIGNALS["speech"]
    assert np.array_equal(ours(x.astype(np.float64)), ours(x))
    assert np.array_equal(ours(x.tolist()), ours(x))
    assert np.array_equal(ours(np.repeat(x, 2)[::2]), ours(x)), "samples that are not contiguous"


def test_the_recording_is_not_changed() -> None:
    x = SIGNALS["speech"].copy()
    x.flags.writeable = False
    ours(x)
    StreamingFrontEnd(DEFAULT).push(x)
    assert np.array_equal(x, SIGNALS["speech"])


@pytest.mark.parametrize("gain_db", [-20, 20])
def test_gain_moves_only_the_zeroth_coefficient(gain_db: int) -> None:
    x = 0.05 * SIGNALS["white"]
    plain = ours(x)
    assert ours(x, kind="log_mel").min() > -70 + 22, "the signal must stay above the floor"
    difference = ours(x * np.float32(10 ** (gain_db / 20))) - plain
    np.testing.assert_allclose(difference[:, 0], gain_db * np.sqrt(32), atol=2e-3)
    np.testing.assert_allclose(difference[:, 1:], 0, atol=2e-3)


# --- normalisation ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mfcc", "log_mel"])
def test_normalisation(kind: str) -> None:
    x = SIGNALS["speech"]
    plain = ours(x, kind=kind)
    mean, scale = plain.mean(axis=0, dtype=np.float64), 1 / plain.std(axis=0, dtype=np.float64)
    c = FrontEndConfig(kind=kind).normalised(mean, scale)
    got = FrontEnd(c)(x)
    np.testing.assert_allclose(got, (plain - mean) * scale, atol=2e-4)
    np.testing.assert_allclose(got.mean(axis=0), 0, atol=2e-4)
    np.testing.assert_allclose(got.std(axis=0), 1, atol=2e-4)
    # the frame whose features are the mean is the frame of zeros
    one = FrontEndConfig(kind=kind).normalised(plain[17], scale)
    np.testing.assert_allclose(FrontEnd(one)(x)[17], 0, atol=2e-4)


def test_normalisation_of_the_power_spectrum_is_applied_or_refused() -> None:
    try:
        c = FrontEndConfig(kind="power").normalised(np.ones(257), np.full(257, 2.0))
    except ConfigError:
        return
    x = SIGNALS["speech"]
    np.testing.assert_allclose(FrontEnd(c)(x), (ours(x, kind="power") - 1) * 2, rtol=1e-4, atol=1e-4)


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # see test_refusing_warns_of_nothing_else
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("at", [1, 401, 5000, 19000])
def test_a_bad_sample_is_named(kind: str, value: float, at: int) -> None:
    x = np.zeros(20000, np.float32)
    x[at] = value
    x[at + 50] = value  # the first is named
    c = FrontEndConfig(kind=kind)
    for read in (FrontEnd(c), StreamingFrontEnd(c).push):
        with pytest.raises(AudioError, match=rf"^sample {at} is ") as caught:
            read(x)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("n", [1, 399, 401, 560, 700])
def test_the_tail_that_no_frame_covers_is_checked(value: float, n: int) -> None:
    x = np.zeros(n, np.float32)
    x[-1] = value
    for read in (FrontEnd(DEFAULT), StreamingFrontEnd(DEFAULT).push):
        with pytest.raises(AudioError, match=f"sample {n - 1} is"):
            read(x)


@pytest.mark.parametrize(("value", "at"), [(1e30, 2999), (1e30, 0), (1e19, 1000)])
def test_a_huge_sample_is_refused_wherever_it_is(value: float, at: int) -> None:
    x = np.zeros(3000, np.float32)
    x[at] = value
    for read in (FrontEnd(DEFAULT), StreamingFrontEnd(DEFAULT).push):
        with pytest.raises(AudioError, match=f"sample {at} is"):
            read(x)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_stream_never_gives_what_is_not_finite() -> None:
    stream = StreamingFrontEnd(DEFAULT)
    with pytest.raises(AudioError):
        for _ in range(30):
            assert np.isfinite(stream.push(np.full(100, 1e18, np.float32))).all()


@pytest.mark.parametrize("value", [np.inf, 1e30])
def test_refusing_warns_of_nothing_else(value: float) -> None:
    x = np.zeros(3000, np.float32)
    x[1000] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AudioError):
            FrontEnd(DEFAULT)(x)


def test_refusing_float64_warns_of_nothing_else() -> None:
    x = np.zeros(3000)
    x[1000] = 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AudioError, match=r"sample 1000 is 1e\+300"):
            FrontEnd(DEFAULT)(x)


def test_a_front_end_works_after_it_refused() -> None:
    front_end = FrontEnd(DEFAULT)
    bad = SIGNALS["speech"].copy()
    bad[700] = np.nan
    with pytest.raises(AudioError):
        front_end(bad)
    assert np.array_equal(front_end(SIGNALS["speech"]), ours(SIGNALS["speech"]))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((1000, 1), np.float32), r"shape \(1000, 1\)"),
        (np.zeros((2, 1000), np.float32), r"shape \(2, 1000\)"),
        (np.float32(0), r"shape \(\)"),
        ("speech.wav", r"shape \(\)"),
        (np.zeros(1000, np.int32), "int32"),
        (np.zeros(1000, np.uint8), "uint8"),
        (np.zeros(1000, np.uint16), "uint16"),
        (np.zeros(1000, bool), "bool"),
        (np.zeros(1000, complex), "complex128"),
        (np.array([None] * 1000), "object"),
        ([0] * 1000, "int64"),
    ],
)
def test_wrong_shapes_and_types(samples: Any, message: str) -> None:
    for read in (FrontEnd(DEFAULT), StreamingFrontEnd(DEFAULT).push):
        with pytest.raises(AudioError, match=message):
            read(samples)


# --- cost -------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_recording() -> None:
    front_end = FrontEnd(DEFAULT)
    front_end(np.zeros(RATE, np.float32))
    extra = []
    for seconds in (20, 320):
        x = np.zeros(seconds * RATE, np.float32)
        tracemalloc.start()
        out = front_end(x)
        extra.append(tracemalloc.get_traced_memory()[1] - out.nbytes)
        tracemalloc.stop()
    # The check for NaN makes one byte for each feature; nothing else may depend on the length.
    assert extra[1] - extra[0] < 300 * 100 * 20 + 200_000


def test_a_stream_holds_a_constant_amount() -> None:
    stream = StreamingFrontEnd(DEFAULT)
    x = noise(10.0)
    stream.push(x)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(10):
        for i in range(0, len(x), 1600):
            stream.push(x[i : i + 1600])
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held < 2_000_000


# --- streaming --------------------------------------------------------------------------------

LONG = np.concatenate([make(2.0, 4) for make in SOUNDS.values()])  # 6 s: the stream's buffer is turned over
BATCH = {kind: ours(LONG, kind=kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(0, 5000), max_size=60))
def test_any_cutting_gives_the_same_bits(kind: str, sizes: list[int]) -> None:
    assert np.array_equal(streamed(LONG, FrontEndConfig(kind=kind), sizes), BATCH[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [160, 161, 400, 3333, 66960, 66961, 96000])
def test_regular_cutting_gives_the_same_bits(kind: str, size: int) -> None:
    sizes = [size] * (len(LONG) // size)
    assert np.array_equal(streamed(LONG, FrontEndConfig(kind=kind), sizes), BATCH[kind])


def test_sample_by_sample_gives_the_same_bits() -> None:
    n = 70000  # past the end of the buffer
    assert np.array_equal(streamed(LONG[:n], DEFAULT, [1] * n), BATCH["mfcc"][: DEFAULT.frames(n)])


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(0, 3000), max_size=12))
def test_any_configuration_streams(variant: str, sizes: list[int]) -> None:
    c = FrontEndConfig(**VARIANTS[variant])
    x = LONG[: 2500 if c.hop_length == 1 else 30000]
    assert np.array_equal(streamed(x, c, sizes), FrontEnd(c)(x))


@pytest.mark.parametrize("tiles", [1, 2, 7, 13, 20])
def test_a_frame_has_the_same_bits_in_the_same_row_of_a_tile(tiles: int) -> None:
    start = tiles * frontend.TILE
    assert np.array_equal(ours(LONG[start * 160 :]), BATCH["mfcc"][start:])


def test_reset_forgets() -> None:
    stream = StreamingFrontEnd(DEFAULT)
    stream.push(LONG[:12345])
    stream.reset()
    assert (stream.samples, stream.frames) == (0, 0)
    assert np.array_equal(stream.push(LONG), BATCH["mfcc"])


@pytest.mark.parametrize("bad", [np.full(700, np.nan, np.float32), np.zeros((2, 2), np.float32), np.zeros(5, np.int64)])
def test_an_error_leaves_the_stream_as_it_was(bad: np.ndarray) -> None:
    stream = StreamingFrontEnd(DEFAULT)
    parts = []
    for i in range(0, len(LONG), 1001):
        with pytest.raises(AudioError) as caught:
            stream.push(bad)
        if bad.dtype == np.float32 and bad.ndim == 1:
            assert f"sample {i} is nan" in str(caught.value), "the index counts from the stream's start"
        assert stream.samples == i
        parts.append(stream.push(LONG[i : i + 1001]))
    assert np.array_equal(np.concatenate(parts), BATCH["mfcc"])


def test_two_front_ends_do_not_disturb_each_other() -> None:
    a, b = StreamingFrontEnd(DEFAULT), StreamingFrontEnd(DEFAULT)
    parts = []
    for i in range(0, len(LONG), 777):
        parts.append(a.push(LONG[i : i + 777]))
        b.push(LONG[::-1][i : i + 777])
    assert np.array_equal(np.concatenate(parts), BATCH["mfcc"])


def test_what_was_returned_is_not_overwritten() -> None:
    stream, front_end = StreamingFrontEnd(DEFAULT), FrontEnd(DEFAULT)
    kept, batch = stream.push(LONG[:8000]), front_end(LONG[:8000])
    copies = kept.copy(), batch.copy()
    stream.push(LONG[8000:])
    front_end(LONG[8000:])
    assert np.array_equal(kept, copies[0]) and np.array_equal(batch, copies[1])


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 40_000), max_size=8), turns=st.lists(st.booleans(), min_size=9, max_size=9))
def test_samples_of_16_bits_and_powers(sizes: list[int], turns: list[bool]) -> None:
    """int16 and float pieces may take turns; a hop's power comes with the samples that complete it."""
    short = (LONG * 20_000).astype(np.int16)
    wide = short.astype(np.float32) / np.float32(32768)
    stream, features, powers, at = StreamingFrontEnd(DEFAULT), [], [], 0
    for size, integers in zip([*sizes, len(short)], turns, strict=False):
        rows, power = stream.push_measured((short if integers else wide)[at : at + size])
        features.append(rows)
        powers.append(power)
        at = min(at + size, len(short))
        assert sum(map(len, powers)) == at // DEFAULT.hop_length
    assert np.array_equal(np.concatenate(features), FrontEnd(DEFAULT)(wide))
    assert np.array_equal(FrontEnd(DEFAULT)(short), FrontEnd(DEFAULT)(wide))
    hops = wide[: len(wide) // 160 * 160].reshape(-1, 160).astype(np.float64)
    assert np.concatenate(powers) == pytest.approx((hops**2).mean(axis=1), rel=1e-5)


# --- configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_through_json(variant: str, kind: str) -> None:
    c = FrontEndConfig(**VARIANTS[variant], kind=kind)
    if kind != "power":
        c = c.normalised(np.linspace(-1, 1, c.features) / 3, np.linspace(1, 2, c.features) / 7)
    again = FrontEndConfig.from_dict(json.loads(json.dumps(c.to_dict())))
    assert again == c and hash(again) == hash(c) and again.key() == c.key()


def test_key_names_the_features() -> None:
    keys = {DEFAULT.key(), DEFAULT.normalised(np.zeros(20), np.ones(20)).key()}
    keys |= {FrontEndConfig(**change).key() for change in VARIANTS.values() if change}
    keys |= {FrontEndConfig(kind=kind).key() for kind in KINDS}
    assert len(keys) == 2 + len(VARIANTS) - 1 + 2
    assert FrontEndConfig(hop_length=160).key() == DEFAULT.key()


def test_equal_configurations_have_equal_keys() -> None:
    a, b = FrontEndConfig(fmin=50, fmax=7600), FrontEndConfig(fmin=50.0, fmax=7600.0)
    assert a == b and a.key() == b.key()


def test_unknown_key_is_named() -> None:
    with pytest.raises(ConfigError, match="'hop_lenght'"):
        FrontEndConfig.from_dict({"hop_lenght": 160})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("kind", v) for v in ("MFCC", "", None, 3, [])],
        *[("window", v) for v in ("blackman", None)],
        *[("mel_scale", v) for v in ("mel", None)],
        *[("mel_norm", v) for v in (None, "area")],
        *[
            (name, v)
            for name in ("sample_rate", "frame_length", "hop_length", "fft_length", "mel_bands", "coefficients")
            for v in (0, -1, 1.5, 160.0, True, None, "160", 1 << 21, math.nan)
        ],
        *[("frame_length", 513), ("fft_length", 399), ("hop_length", 401), ("coefficients", 33), ("mel_bands", 19)],
        *[("fmin", v) for v in (-1.0, 7600.0, 9000.0, math.nan, math.inf, None, "50")],
        *[("fmax", v) for v in (50.0, 8000.1, math.nan, math.inf, None, "7600")],
        ("sample_rate", 15199),
        *[("power_floor", v) for v in (0.0, -1e-7, math.nan, math.inf, None, "1e-7")],
        *[(name, v) for name in ("mean", "scale") for v in ([0.0], [0.0] * 21, [0.0] * 20, 5, None, [None] * 20)],
    ],
)
def test_invalid_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match="front end") as caught:
        FrontEndConfig.from_dict({name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["mean", "scale"])
def test_normalisation_must_be_finite(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        FrontEndConfig.from_dict({"mean": [0.0] * 20, "scale": [1.0] * 20, name: [value] + [0.0] * 19})


@pytest.mark.parametrize(
    "values", [{"mean": ["x"] * 20, "scale": ["x"] * 20}, {"mean": "ab"}, {"mean": [10**400]}, {"power_floor": 10**400}]
)
def test_values_that_are_no_numbers_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FrontEndConfig.from_dict(values)


@pytest.mark.parametrize("floor", [1e-60, 1e39])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_floor_outside_float32_is_refused(floor: float) -> None:
    with pytest.raises(ConfigError, match="power_floor"):
        FrontEnd(FrontEndConfig(power_floor=floor))(np.zeros(400, np.float32))


def test_a_scale_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="scale"):
        FrontEndConfig(mean=(0.0,) * 20, scale=(0.0,) * 20)


def test_tables_have_a_sensible_size() -> None:
    c = {"fft_length": 1 << 20, "frame_length": 1 << 20, "hop_length": 1 << 20, "mel_bands": 1 << 20}
    with pytest.raises(ConfigError):
        FrontEndConfig.from_dict(c)


def test_tables_stay_below_the_memory_of_a_board() -> None:
    size = 1 << 14
    with pytest.raises(ConfigError):
        FrontEndConfig(fft_length=size, frame_length=size, hop_length=size, mel_bands=size)


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULT.hop_length = 80  # type: ignore[misc]


def test_building_a_front_end_is_cheap() -> None:
    FrontEnd(DEFAULT)
    start = time.process_time()
    for _ in range(20):
        FrontEnd(FrontEndConfig())
    assert (time.process_time() - start) / 20 < 0.02
