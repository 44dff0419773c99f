"""Changes to a waveform that a different room, microphone, codec or player would make.

The collections of a small corpus differ in level, bandwidth and room, and a network may learn the collection
in place of the class; these changes are the remedy. Each function takes a random generator first and the
waveform second and returns a waveform of about the same length. `augment` chains them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from .preprocess import equalise_loudness

Float32 = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Augmentation:
    """How often each change is made (probabilities) and how far it goes.

    Noise may have a range of speeds of its own (`noise_speed_range`, else it is `speed_range`): a cow, a whistle or an
    engine at twice its speed is still noise, where music and speech would no longer be themselves.
    """

    speed: float = 0.5
    speed_range: tuple[float, float] = (0.85, 1.18)
    equaliser: float = 0.7
    equaliser_db: float = 9.0
    band_limit: float = 0.4
    reverb: float = 0.4
    loudness: float = 0.2
    noise: float = 0.5
    speech_snr_db: tuple[float, float] = (-3.0, 25.0)
    music_snr_db: tuple[float, float] = (3.0, 30.0)
    background: float = 0.3
    codec: float = 0.25
    clip: float = 0.05
    level_dbfs: tuple[float, float] = (-45.0, -12.0)
    noise_speed_range: tuple[float, float] | None = None

    def key(self) -> dict[str, Any]:
        """Return what decides the copies, for the cache: what is not set does not."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def rms(x: Float32) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(x.astype(np.float64) ** 2)) + 1e-9)


def change_speed(rng: Rng, x: Float32, low: float, high: float) -> Float32:
    """Play faster or slower, pitch and all."""
    import soxr

    factor = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return soxr.resample(x, 16000, 16000 / factor, quality="MQ").astype(np.float32)


def equalise(rng: Rng, x: Float32, most_db: float) -> Float32:
    """Filter with a smooth random curve: random gains at six points on a logarithmic axis."""
    size = 512
    points = np.log(np.array([60.0, 200.0, 600.0, 1500.0, 3500.0, 7800.0]))
    gains = rng.uniform(-most_db, most_db, len(points))
    axis = np.log(np.maximum(np.fft.rfftfreq(size, 1 / 16000), 30.0))
    response = 10 ** (np.interp(axis, points, gains) / 20)
    kernel = np.roll(np.fft.irfft(response), size // 2) * np.hanning(size)
    return fftconvolve(x, kernel.astype(np.float32), mode="same").astype(np.float32)


def limit_band(rng: Rng, x: Float32) -> Float32:
    """Cut the lows, the highs or both, as a telephone, a small loudspeaker or a lossy codec does."""
    low = float(np.exp(rng.uniform(np.log(60), np.log(400)))) if rng.random() < 0.5 else 0.0
    high = float(np.exp(rng.uniform(np.log(2500), np.log(7500)))) if low == 0 or rng.random() < 0.6 else 8000.0
    size = 1024
    frequency = np.fft.rfftfreq(size, 1 / 16000)
    width = rng.uniform(0.02, 0.3)
    response = 1 / (1 + np.exp(-(frequency - low) / (width * low + 1))) if low else np.ones(len(frequency))
    response = response / (1 + np.exp((frequency - high) / (width * high / 4 + 1)))
    kernel = np.roll(np.fft.irfft(response), size // 2) * np.hanning(size)
    return fftconvolve(x, kernel.astype(np.float32), mode="same").astype(np.float32)


def reverberate(rng: Rng, x: Float32) -> Float32:
    """Convolve with a made room response: a direct path and exponentially decaying noise."""
    decay_s = float(np.exp(rng.uniform(np.log(0.1), np.log(0.9))))
    n = int(decay_s * 16000)
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    # walls absorb highs: a one-pole low-pass whose strength differs from room to room
    tail = fftconvolve(tail, rng.uniform(0.2, 0.8) ** np.arange(24))[:n]
    tail[: int(rng.uniform(0.001, 0.015) * 16000)] = 0
    tail *= 10 ** (rng.uniform(-12, 6) / 20) / (np.sqrt((tail**2).sum()) + 1e-9)
    response = np.concatenate(([1.0], tail)).astype(np.float32)
    wet = fftconvolve(x, response)[: len(x)]
    return (wet * (rms(x) / rms(wet))).astype(np.float32)


def mix(rng: Rng, x: Float32, other: Float32, snr_db: float) -> Float32:
    """Add another recording at a signal-to-noise ratio, from a random place, repeated to length."""
    start = int(rng.integers(len(other)))
    turned = np.concatenate((other[start:], other[:start]))
    background = np.resize(turned, len(x))
    return (x + background * (rms(x) / rms(background) * 10 ** (-snr_db / 20))).astype(np.float32)


def pass_codec(rng: Rng, x: Float32) -> Float32:
    """Encode and decode: mu-law telephone, Ogg Vorbis or MP3 at a random quality."""
    import soundfile
    import soxr

    kind = rng.choice(["telephone", "vorbis", "mp3"])
    peak = float(np.abs(x).max()) + 1e-9
    y = x / peak * np.float32(0.9)
    if kind == "telephone":
        narrow = soxr.resample(y, 16000, 8000)
        coded = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)
        coded = np.round(coded * 127) / 127
        back = soxr.resample(np.sign(coded) * (256 ** np.abs(coded) - 1) / 255, 8000, 16000)
    else:
        # MP3 lower than this at 16 kHz is not made by anyone; Vorbis' scale is its own
        level = float(rng.uniform(0.4, 0.95))
        file = io.BytesIO()
        if kind == "vorbis":
            soundfile.write(file, y, 16000, format="OGG", subtype="VORBIS", compression_level=level)
        else:
            soundfile.write(file, y, 16000, format="MP3", subtype="MPEG_LAYER_III", compression_level=level)
        file.seek(0)
        back = soundfile.read(file, dtype="float32")[0]
    out = np.zeros(len(x), np.float32)
    n = min(len(x), len(back))
    out[:n] = back[:n]
    return out * np.float32(peak / 0.9)


def set_level(rng: Rng, x: Float32, low_dbfs: float, high_dbfs: float) -> Float32:
    """Bring the RMS to a random level; peaks above full scale are scaled back."""
    y = x * np.float32(10 ** (rng.uniform(low_dbfs, high_dbfs) / 20) / rms(x))
    peak = float(np.abs(y).max())
    return y / np.float32(peak) if peak > 1 else y


def augment(
    rng: Rng,
    x: Float32,
    label: str,
    *,
    how: Augmentation,
    noise: Callable[[Rng], Float32],
) -> Float32:
    """Return a changed copy of a recording.

    Parameters
    ----------
    x : np.ndarray, float32, shape (n,)
        16 kHz.
    label : {'speech', 'music', 'noise'}
        Speech and music stay what they are under noise; noise is mixed with noise.
    noise : callable
        Draws a noise recording of the train split.
    """

    def happens(probability: float) -> bool:
        return bool(rng.random() < probability)

    if happens(how.speed):
        own = how.noise_speed_range if label == "noise" else None
        x = change_speed(rng, x, *(own or how.speed_range))
    if happens(how.loudness):
        x = equalise_loudness(x)
    if happens(how.reverb):
        x = reverberate(rng, x)
    if happens(how.equaliser):
        x = equalise(rng, x, how.equaliser_db)
    if happens(how.noise):
        low, high = how.speech_snr_db if label == "speech" else how.music_snr_db
        if label == "noise":
            low, high = -10.0, 10.0
        x = mix(rng, x, equalise(rng, noise(rng), how.equaliser_db), rng.uniform(low, high))
    if happens(how.background):
        x = mix(rng, x, coloured_noise(rng, len(x)), rng.uniform(5, 40))
    if happens(how.band_limit):
        x = limit_band(rng, x)
    if happens(how.codec):
        x = pass_codec(rng, x)
    if happens(how.clip):
        x = np.clip(x, -rms(x) * 2, rms(x) * 2)
    return set_level(rng, x, *how.level_dbfs)


def coloured_noise(rng: Rng, n: int) -> Float32:
    """Return noise whose spectrum falls by 0 to 12 dB an octave: a microphone's or a room's own."""
    n = max(n, 1024)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    slope = rng.uniform(0, 4)
    spectrum *= np.maximum(np.fft.rfftfreq(n, 1 / 16000), 40.0) ** (-slope / 2)
    x = np.fft.irfft(spectrum, n)
    return (x / np.abs(x).max()).astype(np.float32)
