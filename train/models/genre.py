"""Genre CNN (seed 003, section III: Choi et al.'s network for auralisation).

STFT of 512 samples with half-window hop, ten clips of 4 s a song; five convolutions of 64 maps and 3x3 kernels, each
with 2x2 max pooling; two dense layers; dropout of 0.5 everywhere. `edge_bench.train.models.auralise` makes its
features audible.

*Ours*, where 003 is silent:

* 11,025 Hz: table I's first row, 93 ms x 86 Hz for a 3x3 kernel, fits this rate and no other;
* the compression of the magnitudes, log(1 + 1000 m) (it has an inverse, which auralisation needs);
* frames are centred (half a window of zeros before and after the clip), so that the inverse is exact;
* 'same' padding, 256 units in the hidden dense layer;
* dropout after every pooling and after the hidden layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from edge_runtime import ConfigError

from . import _check

Float32 = NDArray[np.float32]

SAMPLE_RATE = 11025
FFT_LENGTH = 512
HOP_LENGTH = 256
_COMPRESSION = 1000.0


@dataclass(frozen=True)
class GenreConfig:
    """Size of the spectrogram (4 s: 257 x 173), maps and number of convolutions, hidden units, classes."""

    bins: int = FFT_LENGTH // 2 + 1
    frames: int = 4 * SAMPLE_RATE // HOP_LENGTH + 1
    layers: int = 5
    maps: int = 64
    hidden: int = 256
    classes: int = 3
    dropout: float = 0.5

    def __post_init__(self) -> None:
        _check.whole("genre", bins=self.bins, frames=self.frames, layers=self.layers, maps=self.maps)
        _check.whole("genre", hidden=self.hidden, classes=self.classes)
        _check.fraction("genre", dropout=self.dropout)
        if min(self.bins, self.frames) < 2**self.layers:
            raise ConfigError(
                f"genre: {self.layers} layers of pooling leave nothing of {self.bins} x {self.frames} pixels"
            )


def build(config: GenreConfig = GenreConfig()) -> keras.Model:
    """Return the network: compressed magnitudes (batch, bins, frames, 1) to (batch, classes) probabilities.

    Convolution i with its ReLU is the layer ``conv{i}``, its pooling ``pool{i}``.
    """
    inputs = keras.Input((config.bins, config.frames, 1), name="spectrogram")
    x = inputs
    for i in range(1, config.layers + 1):
        x = layers.Conv2D(config.maps, 3, padding="same", activation="relu", name=f"conv{i}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{i}")(x)
        x = layers.Dropout(config.dropout, name=f"dropout{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(config.hidden, activation="relu", name="hidden")(x)
    x = layers.Dropout(config.dropout, name="dropout_hidden")(x)
    x = layers.Dense(config.classes, name="pooled_logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="genre")


def stft(samples: Float32) -> NDArray[np.complex64]:
    """Return the transform of samples at 11,025 Hz, shape (257, frames); a sine of amplitude a gives a / 2."""
    from scipy import signal

    if len(samples) < FFT_LENGTH:
        raise ConfigError(f"genre: {len(samples)} samples are fewer than the {FFT_LENGTH} of one frame")
    return signal.stft(
        samples, nperseg=FFT_LENGTH, noverlap=FFT_LENGTH - HOP_LENGTH, boundary="zeros", padded=False
    )[2].astype(np.complex64)


def istft(spectrum: NDArray[np.complex64]) -> Float32:
    """Inverse of `stft`: (frames - 1) * 256 samples."""
    from scipy import signal

    return signal.istft(spectrum, nperseg=FFT_LENGTH, noverlap=FFT_LENGTH - HOP_LENGTH)[1].astype(np.float32)


def compress(magnitude: Float32) -> Float32:
    """Return the network's input for the magnitudes of `stft`."""
    return np.log1p(np.float32(_COMPRESSION) * magnitude)


def expand(compressed: Float32) -> Float32:
    """Inverse of `compress`."""
    return np.expm1(compressed) / np.float32(_COMPRESSION)
