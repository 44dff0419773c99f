"""Sound made at run time to measure with: syllables, chords and noise, so that nothing is silent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def scene(seconds: float, *, sample_rate: int = 16000, seed: int = 0) -> NDArray[np.float32]:
    """Return syllables of a gliding voice over soft chords and noise, float32, shape (n,), peaks at 0.5.

    Parameters
    ----------
    seconds : float
    sample_rate : int
        Hz.
    seed : int
        Another seed gives another pitch, rhythm and noise.
    """
    rng = np.random.default_rng(seed)
    n = round(seconds * sample_rate)
    t = np.arange(n) / sample_rate
    pitch = rng.uniform(90, 220) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.3, 1.0) * t))
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 5) * t + rng.uniform(0, 6)), 0, 1)
    voice = np.zeros(n)
    for harmonic in range(1, 24):
        frequency = harmonic * pitch
        strength = sum(np.exp(-(((frequency - f) / w) ** 2)) for f, w in ((600, 300), (1700, 400), (2700, 500)))
        voice += strength * np.sin(harmonic * phase)
    chord = sum(np.sin(2 * np.pi * f * t) for f in rng.choice([196.0, 247.0, 294.0, 392.0, 494.0], 3, False))
    mixed = voice * syllables + 0.3 * chord + 0.1 * rng.standard_normal(n)
    return (0.5 * mixed / np.abs(mixed).max()).astype(np.float32)
