"""Self-normalising network on single frames (Hussain & Haque 2018, section 4.2; seed 003, section III-A).

A frame is 20 MFCC with their first and second deltas, 60 values; a clip's class is the majority of its frames'
(`edge_bench.train.baselines`). SELU, alpha dropout and LeCun's normal initialisation follow Klambauer et al. 2017.

*Ours*: the widths. The paper prints 179,203 parameters for four layers; 60-512-256-64-3 gives that number. The rate of
alpha dropout, 0.05, is the middle of Klambauer's advice; it stands after every hidden layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from edge_runtime import ConfigError

from . import _check


@dataclass(frozen=True)
class SnnConfig:
    """Inputs of a frame, widths of the hidden layers, classes."""

    inputs: int = 60
    widths: tuple[int, ...] = (512, 256, 64)
    classes: int = 3
    dropout: float = 0.05

    def __post_init__(self) -> None:
        _check.whole("snn", inputs=self.inputs, classes=self.classes)
        if not isinstance(self.widths, tuple):
            raise ConfigError(f"snn: widths is {self.widths!r}, must be a list of whole numbers")
        _check.whole("snn", **{f"widths[{i}]": width for i, width in enumerate(self.widths)})
        _check.fraction("snn", dropout=self.dropout)


def build(config: SnnConfig = SnnConfig()) -> keras.Model:
    """Return the network: standardised frames (batch, inputs) to (batch, classes) probabilities.

    Self-normalisation needs inputs of mean 0 and variance 1.
    """
    inputs = keras.Input((config.inputs,), name="frame")
    x = inputs
    for i, width in enumerate(config.widths, start=1):
        x = layers.Dense(width, activation="selu", kernel_initializer="lecun_normal", name=f"hidden{i}")(x)
        if config.dropout:
            x = layers.AlphaDropout(config.dropout, name=f"dropout{i}")(x)
    x = layers.Dense(config.classes, kernel_initializer="lecun_normal", name="pooled_logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="snn")
