"""Music against noise in a window of a spectrogram (Park & Lee 2015, seed 001, section 2).

STFT of 512 samples, hop 128; the window is 64 bins x 256 frames: 5.5 kHz wide and 0.74 s long, so the sample rate is
44.1 kHz. It moves by 16 pixels along both axes. 32 maps a layer, 3x3 kernels, max pooling after each, dropout, ReLU;
trained with SGD.

The structure is drawn in a figure that the text does not spell out, so these are *ours*:

* five layers, after which the map is 2 x 8 and the receptive field covers most of the window;
* 'same' padding, 2 x 2 pooling; the softmax reads the last maps directly, without a hidden layer;
* dropout of 0.5 once, before the softmax;
* the spectrogram's scale is the caller's; the network was tried with decibels, mean 0 and variance 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from edge_runtime import ConfigError

from . import _check


@dataclass(frozen=True)
class MusicNoiseConfig:
    """Size of the window, number of layers (each halves the map), maps a layer, classes."""

    bins: int = 64
    frames: int = 256
    layers: int = 5
    maps: int = 32
    classes: int = 2
    dropout: float = 0.5

    def __post_init__(self) -> None:
        _check.whole("musicnoise", bins=self.bins, frames=self.frames, layers=self.layers, maps=self.maps)
        _check.whole("musicnoise", classes=self.classes)
        _check.fraction("musicnoise", dropout=self.dropout)
        if min(self.bins, self.frames) < 2**self.layers:
            raise ConfigError(
                f"musicnoise: {self.layers} layers of pooling leave nothing of {self.bins} x {self.frames} pixels"
            )


def build(config: MusicNoiseConfig = MusicNoiseConfig()) -> keras.Model:
    """Return the network: (batch, bins, frames, 1) to (batch, classes) probabilities."""
    inputs = keras.Input((config.bins, config.frames, 1), name="window")
    x = inputs
    for i in range(1, config.layers + 1):
        x = layers.Conv2D(config.maps, 3, padding="same", activation="relu", name=f"conv{i}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    if config.dropout:
        x = layers.Dropout(config.dropout, name="dropout")(x)
    x = layers.Dense(config.classes, name="pooled_logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="musicnoise")
