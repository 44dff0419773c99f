"""How a recording becomes the examples of a network of the zoo: windows of it at a fixed step, each a row of a cache.

`edge_bench.train.features.features` takes an `Inputs` as its extractor, so examples are cached, augmented and shifted
in level like everything else. One entry of ``_FAMILIES`` says all that sets a system apart: its sample rate, how long
an example is, and how samples become one.

*Ours*, for all: a recording shorter than an example is repeated, as a short sound is in a loop. Spectrograms in
decibels go down to 80 dB below their own maximum and lose their own mean, so the level of a recording does not count.
The corpus is read at 16 kHz; a system at a higher rate sees nothing above 8 kHz there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, FrontEnd, FrontEndConfig
from edge_runtime.resample import resample

Float32 = NDArray[np.float32]
Rows = Callable[[Float32], Float32]

CORPUS_RATE = 16000
VERSION = 1  # raise when a transform below changes, so that old caches are not read
MUSICNOISE_RATE, MUSICNOISE_FFT, MUSICNOISE_HOP = 44100, 512, 128
_POOLNET_RATE = 22050  # GTZAN's
_SEPARABLE_RATE, _SEPARABLE_FFT, _SEPARABLE_HOP = 22050, 2048, 512
_LOUDNESS = 0.1  # RMS that a clip of the genre network is brought to: its compression is not free of level


@dataclass(frozen=True)
class Family:
    """What sets a system apart.

    Attributes
    ----------
    sample_rate : int
    samples : int
        Of an example.
    shape : tuple of int
        Of the network's input.
    transform : callable
        From the samples of one example to its inputs, (each, *shape).
    each : int
        Inputs at one instant, such as windows at several frequencies.
    """

    sample_rate: int
    samples: int
    shape: tuple[int, ...]
    transform: Rows
    each: int = 1


@dataclass(frozen=True)
class Cuts:
    """Where the examples of a training lie: the table ``[examples]`` of a recipe.

    Attributes
    ----------
    hop_s : float
        Step from one example to the next; 0 for half an example.
    most : int
        Examples of a recording, spread evenly; 0 for all.
    """

    hop_s: float = 0.0
    most: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.hop_s <= 60 or self.most < 0:
            raise ConfigError(
                f"examples: hop_s is {self.hop_s} and most {self.most}; needed are 0 to 60 s, and 0 or more"
            )


@dataclass(frozen=True)
class Inputs:
    """Examples of a network: an extractor of rows, each one flattened input.

    Attributes
    ----------
    family : str
        Of the network, or ``frames`` for the frame-wise baselines.
    config : dataclass
        The network's configuration, or the front end's for ``frames``.
    cuts : Cuts
    """

    family: str
    config: Any
    cuts: Cuts = Cuts()

    def __post_init__(self) -> None:
        if self.family not in _FAMILIES:
            raise ConfigError(f"inputs: nothing is known of {self.family!r}, only of {', '.join(_FAMILIES)}")

    @property
    def what(self) -> Family:
        """What sets this family apart."""
        return _FAMILIES[self.family](self.config)

    @property
    def window_s(self) -> float:
        """Length of an example."""
        return self.what.samples / self.what.sample_rate

    @property
    def step_s(self) -> float:
        """Time from one example to the next."""
        return self.cuts.hop_s or self.window_s / 2

    @property
    def features(self) -> int:
        """Values in a row."""
        return int(np.prod(self.what.shape))

    def key(self) -> str:
        """Name of the rows that it gives, for the cache."""
        parts = [self.family, asdict(self.config), asdict(self.cuts), VERSION]
        return json.dumps(parts, sort_keys=True, default=str)

    def open(self) -> Rows:
        """Return a function from the samples of a recording at 16 kHz to rows (examples * each, features)."""
        what, width = self.what, self.features
        if self.family == "frames":
            return lambda samples: _frames(self.config, samples)

        def rows(samples: Float32) -> Float32:
            if not len(samples):
                return np.zeros((0, width), np.float32)
            x = resample(samples, CORPUS_RATE, what.sample_rate)
            cuts = cut(x, what.samples, self.step_s * what.sample_rate, self.cuts.most)
            return np.concatenate([what.transform(one).reshape(-1, width) for one in cuts])

        return rows


def cut(samples: Float32, length: int, step: float, most: int = 0) -> list[Float32]:
    """Return windows of `length` samples every `step`; one that repeats a shorter recording.

    Examples
    --------
    >>> [one.tolist() for one in cut(np.arange(5), 2, 1.5)]
    [[0, 1], [2, 3], [3, 4]]
    """
    if len(samples) < length:
        return [np.resize(samples, length)]
    starts = np.rint(np.arange(int((len(samples) - length) / step + 1e-6) + 1) * step).astype(int)
    starts = np.minimum(starts, len(samples) - length)
    if most and len(starts) > most:
        starts = starts[np.rint(np.linspace(0, len(starts) - 1, most)).astype(int)]
    return [samples[start : start + length] for start in starts]


def power_spectrogram(samples: Float32, length: int, hop: int) -> Float32:
    """Return the power of Hann-windowed frames, not padded at the ends: (bins, frames)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    spectrum = np.fft.rfft(frames * window, axis=1)
    return (spectrum.real**2 + spectrum.imag**2).T.astype(np.float32)


def decibels(power: Float32) -> Float32:
    """Return a spectrogram in units of 15 dB, its own mean 0, not lower than 80 dB below its maximum."""
    db = 10 * np.log10(np.maximum(power, 1e-12))
    db = np.maximum(db, db.max() - 80)
    return ((db - db.mean()) / 15).astype(np.float32)


def musicnoise_offsets(config: Any, *, bandwidth: float = CORPUS_RATE / 2, step: int = 16) -> range:
    """Return the lowest bins of the windows that lie within a bandwidth in Hz; at least the one from 0 on."""
    bins = int(bandwidth / MUSICNOISE_RATE * MUSICNOISE_FFT) + 1
    return range(0, max(1, bins - config.bins + 1), step)


def allconv_front_end(config: Any) -> FrontEndConfig:
    """Return what gives the all-conv net its frames of mel bands in dB, where they are not made in its graph."""
    return FrontEndConfig(
        kind="log_mel", sample_rate=CORPUS_RATE, frame_length=1024, fft_length=1024, hop_length=640,
        mel_bands=config.inputs, fmin=0.0, fmax=CORPUS_RATE / 2,
    )  # fmt: skip


def _allconv(config: Any) -> Family:
    if config.input == "audio":
        return Family(config.sample_rate, config.samples(), (config.samples(),), lambda x: x)
    front_end = allconv_front_end(config)
    samples = front_end.samples(config.frames)
    return Family(CORPUS_RATE, samples, (config.frames, config.inputs), FrontEnd(front_end))


def _poolnet(config: Any) -> Family:
    length = 2 * config.rows  # frames side by side; the bin at half the sample rate is dropped

    def transform(x: Float32) -> Float32:
        return decibels(power_spectrogram(x, length, length)[: config.rows])

    return Family(_POOLNET_RATE, length * config.columns, (config.rows, config.columns, 1), transform)


def _musicnoise(config: Any) -> Family:
    offsets = musicnoise_offsets(config)

    def transform(x: Float32) -> Float32:
        power = power_spectrogram(x, MUSICNOISE_FFT, MUSICNOISE_HOP)
        return np.stack([decibels(power[low : low + config.bins]) for low in offsets])

    samples = (config.frames - 1) * MUSICNOISE_HOP + MUSICNOISE_FFT
    return Family(MUSICNOISE_RATE, samples, (config.bins, config.frames, 1), transform, len(offsets))


def even_loudness(samples: Float32) -> Float32:
    """Return a clip at the loudness that the genre network is trained at."""
    rms = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    return samples * np.float32(_LOUDNESS / max(rms, 1e-5))


def _genre(config: Any) -> Family:
    from .models import genre

    if config.bins != genre.FFT_LENGTH // 2 + 1:
        raise ConfigError(f"genre: bins is {config.bins}, a transform of {genre.FFT_LENGTH} samples has 257")

    def transform(x: Float32) -> Float32:
        return genre.compress(np.abs(genre.stft(even_loudness(x))))

    samples = (config.frames - 1) * genre.HOP_LENGTH
    return Family(genre.SAMPLE_RATE, samples, (config.bins, config.frames, 1), transform)


def _separable(config: Any) -> Family:
    from .separate import mel_of_sources

    if config.depth not in (1, 3):
        raise ConfigError(f"separable: depth is {config.depth}, needed is 1 (the mixture) or 3 (its sources)")

    def transform(x: Float32) -> Float32:
        power = mel_of_sources(
            x, sample_rate=_SEPARABLE_RATE, fft_length=_SEPARABLE_FFT, hop_length=_SEPARABLE_HOP, bands=config.bands,
            separated=config.depth == 3,
        )  # fmt: skip
        return decibels(power)

    samples = (config.frames - 1) * _SEPARABLE_HOP
    return Family(_SEPARABLE_RATE, samples, (config.bands, config.frames, config.depth), transform)


def _of_frames(config: Any) -> Family:
    width = (3 * config.features,)
    return Family(config.sample_rate, config.frame_length, width, lambda x: _frames(config, x))


def _frames(config: FrontEndConfig, samples: Float32) -> Float32:
    """Return MFCC with deltas along a whole recording: (frames, 3 * features)."""
    from .baselines import frame_features

    mfcc = FrontEnd(config)(samples)
    return frame_features(mfcc) if len(mfcc) else np.zeros((0, 3 * config.features), np.float32)


_FAMILIES: dict[str, Callable[[Any], Family]] = {
    "allconv": _allconv, "poolnet": _poolnet, "musicnoise": _musicnoise, "genre": _genre, "separable": _separable,
    "frames": _of_frames,
}  # fmt: skip
FAMILIES = tuple(_FAMILIES)
