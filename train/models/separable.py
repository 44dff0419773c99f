"""Plain against depthwise-separable convolution on separated sources (Mersy & Kuan 2021, seed 004).

Clips of about 10 s at 22,050 Hz; a separator gives bass, drums and other; the mel spectrogram of each, 128 x 458, is
one channel. Two convolutions, batch normalisation after each, max pooling after each, dropout of 0.5 before the dense
layer, L1 and L2 penalties; ``plain`` convolutions or ``depthwise``-separable ones. The plain single-spectrogram
networks have ``depth`` 1.

*Ours*: 16 and 32 filters of 3 x 3, 'same' padding, ReLU after the normalisation, pooling by 4 along both axes (66
songs would drown in the 100,000 inputs that pooling by 2 leaves the dense layer), penalties of 1e-4 each on the
kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from edge_runtime import ConfigError

from . import _check

POOL = 4


@dataclass(frozen=True)
class SeparableConfig:
    """What the abstract compares, and the sizes it leaves open.

    Attributes
    ----------
    kind : {'plain', 'depthwise'}
    depth : int
        Spectrograms on top of each other: 3 separated ones, or 1.
    filters : tuple of int
        Of each convolution.
    l1, l2 : float
        Penalties on the kernels.
    """

    kind: str = "depthwise"
    depth: int = 3
    bands: int = 128
    frames: int = 458
    filters: tuple[int, ...] = (16, 32)
    kernel: int = 3
    classes: int = 6
    dropout: float = 0.5
    l1: float = 1e-4
    l2: float = 1e-4

    def __post_init__(self) -> None:
        _check.one_of("separable", ("plain", "depthwise"), kind=self.kind)
        _check.whole("separable", depth=self.depth, bands=self.bands, frames=self.frames, kernel=self.kernel)
        _check.whole("separable", classes=self.classes)
        _check.whole("separable", **{f"filters[{i}]": n for i, n in enumerate(self.filters)})
        _check.fraction("separable", dropout=self.dropout, l1=self.l1, l2=self.l2)
        if min(self.bands, self.frames) < POOL ** len(self.filters):
            raise ConfigError(
                f"separable: pooling by {POOL} {len(self.filters)} times leaves nothing of "
                f"{self.bands} x {self.frames} pixels"
            )


def _convolution(config: SeparableConfig, filters: int, name: str) -> keras.Layer:
    def penalty() -> keras.Regularizer:
        return keras.regularizers.L1L2(config.l1, config.l2)

    # the normalisation that follows has its own bias
    common: dict[str, Any] = {"padding": "same", "use_bias": False, "name": name}
    if config.kind == "plain":
        return layers.Conv2D(filters, config.kernel, kernel_regularizer=penalty(), **common)
    return layers.SeparableConv2D(
        filters, config.kernel, depthwise_regularizer=penalty(), pointwise_regularizer=penalty(), **common
    )


def build(config: SeparableConfig = SeparableConfig()) -> keras.Model:
    """Return the network: (batch, bands, frames, depth) to (batch, classes) probabilities."""
    inputs = keras.Input((config.bands, config.frames, config.depth), name="spectrograms")
    x = inputs
    for i, filters in enumerate(config.filters, start=1):
        x = _convolution(config, filters, f"conv{i}")(x)
        x = layers.BatchNormalization(name=f"norm{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
        x = layers.MaxPooling2D(POOL, name=f"pool{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(config.dropout, name="dropout")(x)
    x = layers.Dense(config.classes, name="pooled_logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name=f"separable_{config.kind}")
