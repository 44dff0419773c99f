"""The resampler: exact lengths, equal bits for any cut, and measured filter quality."""

from __future__ import annotations

import math
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import ConfigError
from edge_runtime.resample import Resampler, resample

# The last three take the interpolated filter, the others the matrix.
RATIOS = [
    *[(48000, 16000), (44100, 16000), (22050, 16000), (8000, 16000), (16000, 44100)],
    *[(192000, 8000), (16000, 16000), (44101, 16000), (11127, 16000), (16000, 15999)],
]
QUALITY = [
    *[(48000, 16000), (44100, 16000), (8000, 16000), (11025, 16000)],
    *[(44101, 16000), (16000, 11127)],
]


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, n).astype(np.float32)


def band_noise(rate: int, limit: float, seconds: float = 1.0) -> np.ndarray:
    """Noise without anything above `limit` Hz, faded in and out."""
    n = round(rate * seconds)
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(n))
    spectrum[np.fft.rfftfreq(n, 1 / rate) > limit] = 0
    return np.asarray(np.fft.irfft(spectrum, n) * np.hanning(n))


def sine(rate: int, frequency: float) -> np.ndarray:
    return np.asarray(np.sin(2 * np.pi * frequency * np.arange(rate) / rate))


def level(x: np.ndarray) -> float:
    """Amplitude of the middle half in dB, for a sine of amplitude 1."""
    middle = x[len(x) // 4 : -(len(x) // 4)].astype(np.float64)
    return float(20 * np.log10(np.sqrt(2 * np.mean(middle**2)) + 1e-12))


# --- lengths and cuts -------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(0, 3000),
    rates=st.one_of(
        st.sampled_from(RATIOS), st.tuples(st.integers(4000, 50000), st.integers(4000, 50000))
    ),
    engine=st.sampled_from(["auto", "numpy"]),
)
def test_length(n: int, rates: tuple[int, int], engine: str) -> None:
    out = resample(noise(n), *rates, engine=engine)
    assert out.dtype == np.float32 and out.shape == (-(-n * rates[1] // rates[0]),)
    assert np.isfinite(out).all()


@settings(max_examples=80, deadline=None)
@given(
    rates=st.sampled_from(RATIOS),
    sizes=st.lists(st.one_of(st.integers(0, 20), st.integers(0, 3000)), max_size=8),
    last=st.integers(0, 4000),
)
def test_any_cut_gives_equal_bits(rates: tuple[int, int], sizes: list[int], last: int) -> None:
    x = noise(sum(sizes) + last)
    resampler = Resampler(*rates)
    parts = [resampler.push(part) for part in np.split(x, np.cumsum(sizes))]
    parts.append(resampler.flush())
    expected = resample(x, *rates, engine="numpy")
    assert np.concatenate(parts).tobytes() == expected.tobytes()


@pytest.mark.parametrize("rates", [(48000, 16000), (11127, 16000)])
def test_one_sample_at_a_time(rates: tuple[int, int]) -> None:
    x = noise(2500)
    resampler = Resampler(*rates)
    parts = [resampler.push(x[i : i + 1]) for i in range(len(x))] + [resampler.flush()]
    assert np.concatenate(parts).tobytes() == resample(x, *rates, engine="numpy").tobytes()


@pytest.mark.parametrize("rates", RATIOS)
def test_no_output_waits_longer_than_documented(rates: tuple[int, int]) -> None:
    rate_in, rate_out = rates
    resampler = Resampler(rate_in, rate_out)
    assert resampler.delay_s < 0.08
    made = received = 0
    for block in np.split(noise(rate_in // 2), 100 if rate_in % 200 == 0 else 1):
        made += len(resampler.push(block))
        received += len(block)
        due = math.floor((received / rate_in - resampler.delay_s) * rate_out)
        assert max(0, due) <= made <= math.ceil(received / rate_in * rate_out)


def test_equal_rates_change_nothing() -> None:
    x = noise(100)
    out = resample(x, 16000, 16000)
    np.testing.assert_array_equal(out, x)
    assert not np.shares_memory(out, x)
    assert Resampler(16000, 16000).delay_s == 0


def test_memory_stays_near_input_and_output() -> None:
    x = noise(44100 * 30)
    resample(x[:1000], 44100, 16000, engine="numpy")  # the filter is made once
    tracemalloc.start()
    resample(x, 44100, 16000, engine="numpy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * x.nbytes


# --- quality ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rates", QUALITY)
def test_passband_is_flat_and_clean(rates: tuple[int, int]) -> None:
    rate_in, rate_out = rates
    nyquist = min(rates) / 2
    for part in (0.01, 0.3, 0.6, 0.8, 0.9):
        out = resample(sine(rate_in, part * nyquist), *rates, engine="numpy")
        phase = 2 * np.pi * part * nyquist * np.arange(rate_out) / rate_out
        middle = slice(rate_out // 4, -(rate_out // 4))
        tone = np.stack([np.sin(phase), np.cos(phase)], axis=1)[middle]
        gain = np.linalg.lstsq(tone, out[middle].astype(np.float64), rcond=None)[0]
        assert abs(20 * np.log10(gain[0])) < 0.01
        assert abs(gain[1]) < 1e-3  # no delay
        rest = out[middle] - tone @ gain
        assert 10 * np.log10(2 * np.mean(rest**2)) < -80  # images


@pytest.mark.parametrize("rates", [r for r in QUALITY if r[0] > r[1]])
def test_aliases_are_gone(rates: tuple[int, int]) -> None:
    rate_in, rate_out = rates
    for frequency in np.linspace(rate_out / 2, rate_in / 2 * 0.99, 6):
        assert level(resample(sine(rate_in, frequency), *rates, engine="numpy")) < -80


@pytest.mark.parametrize("rates", QUALITY)
def test_agrees_with_soxr(rates: tuple[int, int]) -> None:
    pytest.importorskip("soxr")
    x = band_noise(rates[0], 0.85 * min(rates) / 2)
    ours = resample(x, *rates, engine="numpy").astype(np.float64)
    theirs = resample(x, *rates, engine="soxr").astype(np.float64)
    assert np.std(ours - theirs) < 1e-3 * np.std(theirs)
    if rates[0] % 1000 == 0 and rates[1] % 1000 == 0:  # there soxr is exact to -100 dB itself
        assert np.std(ours - theirs) < 1e-4 * np.std(theirs)


@pytest.mark.parametrize("rates", [(48000, 16000), (44100, 16000)])
def test_agrees_with_scipy(rates: tuple[int, int]) -> None:
    signal = pytest.importorskip("scipy.signal")
    down, up = (rate // math.gcd(*rates) for rate in rates)
    x = band_noise(rates[0], 0.85 * min(rates) / 2)
    # scipy's own window is short; this one is as long as ours.
    taps = signal.firwin(2 * 64 * max(up, down) + 1, 0.945 / max(up, down), window=("kaiser", 9.0))
    theirs = signal.resample_poly(x, up, down, window=taps)
    ours = resample(x, *rates, engine="numpy")
    assert np.std(ours - theirs) < 1e-4 * np.std(theirs)


@pytest.mark.parametrize("rates", RATIOS)
def test_a_constant_stays(rates: tuple[int, int]) -> None:
    out = resample(np.full(4000, 0.5), *rates, engine="numpy")
    margin = math.ceil(65 * max(1, rates[1] / rates[0]))
    np.testing.assert_allclose(out[margin:-margin], 0.5, atol=1e-6)


@pytest.mark.parametrize("rates", [(256000, 1000), (1000, 256000), (255999, 1000)])
def test_the_largest_ratio_works(rates: tuple[int, int]) -> None:
    out = resample(sine(rates[0], 100), *rates, engine="numpy")
    assert level(out - sine(rates[1], 100)) < -60


# --- engines and arguments --------------------------------------------------------------------


def test_auto_is_soxr_where_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("soxr")
    x = noise(5000)
    ours, theirs = (resample(x, 44100, 16000, engine=name) for name in ("numpy", "soxr"))
    np.testing.assert_array_equal(resample(x, 44100, 16000), theirs)
    monkeypatch.setitem(sys.modules, "soxr", None)
    np.testing.assert_array_equal(resample(x, 44100, 16000), ours)
    with pytest.raises(ConfigError, match="pip install soxr"):
        resample(x, 44100, 16000, engine="soxr")


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((0, 16000), "0 Hz"),
        ((16000, -1), "-1 Hz"),
        ((2**40, 2**40), "makes no sense"),
        ((16000.0, 8000), "whole number"),
        ((True, 8000), "whole number"),
        ((16000, "8000"), "whole number"),
        ((257, 1), "more than 256 times"),
        ((1, 257), "more than 256 times"),
    ],
)
def test_bad_rates(rates: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resample(noise(10), *rates)
    with pytest.raises(ConfigError, match=message):
        Resampler(*rates)


@pytest.mark.parametrize("x", [np.zeros((4, 2)), np.float32(1), np.zeros(3, complex), ["a"]])
def test_bad_signals(x: Any) -> None:
    with pytest.raises(ConfigError, match="one channel of real samples"):
        resample(x, 16000, 8000)
    with pytest.raises(ConfigError, match="one channel of real samples"):
        Resampler(16000, 8000).push(x)


def test_bad_engine_and_late_push() -> None:
    with pytest.raises(ConfigError, match="'fft' is not one of"):
        resample(noise(10), 16000, 8000, engine="fft")
    resampler = Resampler(16000, 8000)
    assert len(resampler.push(noise(9))) + len(resampler.flush()) == 5
    assert len(resampler.flush()) == 0
    with pytest.raises(ConfigError, match="after flush"):
        resampler.push(noise(10))
