"""Changes to a waveform: what each does, and that the seed decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import RATE, SOUNDS, music, noise, speech

from edge_bench.train import augment as augment_module
from edge_bench.train.augment import Augmentation

CHANGES = {
    "change_speed": lambda rng, x: augment_module.change_speed(rng, x, 0.85, 1.18),
    "equalise": lambda rng, x: augment_module.equalise(rng, x, 9.0),
    "limit_band": augment_module.limit_band,
    "reverberate": augment_module.reverberate,
    "mix": lambda rng, x: augment_module.mix(rng, x, noise(0.3), 5.0),
    "pass_codec": augment_module.pass_codec,
    "set_level": lambda rng, x: augment_module.set_level(rng, x, -45.0, -12.0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change(name: str) -> None:
    change = CHANGES[name]
    for x in (speech(1.0), music(0.3), noise(0.026), np.zeros(3000, np.float32), np.ones(2000, np.float32)):
        kept = x.copy()
        for seed in range(6):
            y = change(np.random.default_rng(seed), x)
            assert y.dtype == np.float32 and y.ndim == 1 and np.isfinite(y).all()
            if name == "change_speed":
                assert 0.84 * len(x) - 2 <= len(y) <= 1.19 * len(x) + 2
            else:
                assert len(y) == len(x)
            assert np.array_equal(y, change(np.random.default_rng(seed), x)), "the generator decides"
        assert np.array_equal(x, kept), "the recording itself stays"
    x = speech(1.0)
    results = [change(np.random.default_rng(seed), x)[:10000] for seed in range(4)]
    assert any(not np.array_equal(results[0][: len(r)], r[: len(results[0])]) for r in results[1:])


def test_mixing_keeps_the_ratio() -> None:
    x, other = speech(1.0), noise(0.37)
    for snr in (-10.0, 0.0, 20.0):
        added = augment_module.mix(np.random.default_rng(0), x, other, snr) - x
        assert 20 * np.log10(augment_module.rms(x) / augment_module.rms(added)) == pytest.approx(snr, abs=0.1)


def test_levels() -> None:
    for seed in range(20):
        y = augment_module.set_level(np.random.default_rng(seed), speech(0.5), -45.0, -12.0)
        assert -46 < 20 * np.log10(augment_module.rms(y)) < -11.9 and np.abs(y).max() <= 1


def test_speed_moves_the_pitch() -> None:
    x = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    for seed in range(5):
        y = augment_module.change_speed(np.random.default_rng(seed), x, 0.5, 2.0)
        peak = np.abs(np.fft.rfft(y)).argmax() * RATE / len(y)
        assert peak == pytest.approx(1000 * len(x) / len(y), rel=0.01)


def test_band_limits_cut_where_they_say() -> None:
    x = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    lost = 0
    for seed in range(12):
        y = augment_module.limit_band(np.random.default_rng(seed), x)
        power = np.abs(np.fft.rfft(y)) ** 2
        assert power[800:2000].mean() > 0.5 * (np.abs(np.fft.rfft(x)) ** 2)[800:2000].mean(), (
            "400 to 2500 Hz always passes"
        )
        lost += power[:50].mean() < 0.1 * power[800:2000].mean() or power[7900:].mean() < 0.1 * power[800:2000].mean()
    assert lost >= 10


def test_augment_is_deterministic_and_at_a_usable_level() -> None:
    def noises(rng: np.random.Generator) -> np.ndarray:
        return noise(0.5, int(rng.integers(5)))

    different = set()
    for label, make in SOUNDS.items():
        for seed in range(8):
            made = [
                augment_module.augment(np.random.default_rng(seed), make(0.7), label, how=Augmentation(), noise=noises)
                for _ in range(2)
            ]
            assert np.array_equal(*made) and np.abs(made[0]).max() <= 1
            assert -50 < 20 * np.log10(augment_module.rms(made[0])) < -11
            different.add(made[0].tobytes())
    assert len(different) == 24


NOTHING = Augmentation(
    speed=0, equaliser=0, band_limit=0, reverb=0, loudness=0, noise=0, background=0, codec=0, clip=0,
    level_dbfs=(-20.0, -20.0),
)  # fmt: skip


def test_nothing_happens_at_probability_zero() -> None:
    x = speech(0.5)
    y = augment_module.augment(np.random.default_rng(0), x, "speech", how=NOTHING, noise=lambda _: x)
    np.testing.assert_allclose(y, x * (0.1 / augment_module.rms(x)), atol=1e-6)


def test_noise_may_have_speeds_of_its_own() -> None:
    x = speech(0.5)
    same = replace(NOTHING, speed=1.0, speed_range=(1.0, 1.0))
    half = replace(same, noise_speed_range=(0.5, 0.5))

    def length(label: str, how: Augmentation) -> int:
        return len(augment_module.augment(np.random.default_rng(0), x, label, how=how, noise=lambda _: x))

    assert [length(label, half) for label in ("speech", "music", "noise")] == [len(x), len(x), 2 * len(x)]
    assert length("noise", same) == len(x), "the speeds of all, when it has none of its own"
    assert half.key() == {**same.key(), "noise_speed_range": (0.5, 0.5)}, "what is not set does not name a cache"


def test_coloured_noise_falls_by_up_to_12_db_an_octave() -> None:
    steepest = 0.0
    for seed in range(40):
        power = np.abs(np.fft.rfft(augment_module.coloured_noise(np.random.default_rng(seed), RATE))) ** 2
        steepest = max(steepest, 10 * np.log10(power[200:400].mean() / power[3200:6400].mean()) / 4)
    assert 10 < steepest < 13
