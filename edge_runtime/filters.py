"""Window, mel filters and cosine transform: the constant tables of the front end.

Same formulas as ``librosa.filters.mel`` and ``scipy.fft.dct(norm='ortho')``; tests compare both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .config import FrontEndConfig

Float64 = NDArray[np.float64]


def window(config: FrontEndConfig) -> Float64:
    """Return the periodic window, shape (frame_length,)."""
    phase = 2 * np.pi * np.arange(config.frame_length) / config.frame_length
    if config.window == "hann":
        return 0.5 - 0.5 * np.cos(phase)
    if config.window == "hamming":
        return 0.54 - 0.46 * np.cos(phase)
    return np.ones(config.frame_length)


def hz_to_mel(frequency: Float64, scale: str) -> Float64:
    """Return mels; 'slaney' is linear below 1 kHz and logarithmic above, 'htk' is 2595 log10(1 + f/700)."""
    frequency = np.asarray(frequency, np.float64)
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + frequency / 700.0)
    linear = frequency * 3.0 / 200.0
    return np.where(
        frequency >= 1000.0, 15.0 + np.log(np.maximum(frequency, 1000.0) / 1000.0) * 27.0 / np.log(6.4), linear
    )


def mel_to_hz(mel: Float64, scale: str) -> Float64:
    """Inverse of `hz_to_mel`."""
    mel = np.asarray(mel, np.float64)
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel >= 15.0, 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27.0), mel * 200.0 / 3.0)


def mel_filters(config: FrontEndConfig) -> Float64:
    """Return triangular filters, shape (fft_length // 2 + 1, mel_bands).

    With ``mel_norm='slaney'`` each triangle has unit area in hertz.
    """
    bins = np.arange(config.fft_length // 2 + 1) * (config.sample_rate / config.fft_length)
    lowest, highest = hz_to_mel(np.array([config.fmin, config.fmax]), config.mel_scale).tolist()
    edges_mel = np.linspace(lowest, highest, config.mel_bands + 2)
    edges = mel_to_hz(edges_mel, config.mel_scale)
    rise = (bins[:, None] - edges[None, :-2]) / np.diff(edges)[:-1]
    fall = (edges[None, 2:] - bins[:, None]) / np.diff(edges)[1:]
    filters = np.maximum(0.0, np.minimum(rise, fall))
    if config.mel_norm == "slaney":
        filters *= 2.0 / (edges[2:] - edges[:-2])
    return filters


def dct(bands: int, coefficients: int) -> Float64:
    """Return the orthonormal DCT-II, shape (bands, coefficients)."""
    angle = np.pi / bands * (np.arange(bands) + 0.5)
    table = np.cos(angle[:, None] * np.arange(coefficients)) * np.sqrt(2.0 / bands)
    table[:, 0] *= np.sqrt(0.5)
    return table
