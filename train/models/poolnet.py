"""Pooling against convolutions only, on slices of a spectrogram (Brandinu & Bratschi, seed 002).

Music against speech on GTZAN: 79 slices a file, each a map of 128 x 32 values. The slides print every layer's shape
and count, so the networks are theirs to the parameter:

* ``pooling``: four times (convolution 2x2 with 32, 64, 128, 256 filters, max pooling 2), dense 512, dense 2:
  2,271,330;
* ``conv``: convolutions 3x3 with the same filters and strides 1, 2, 2, 2, dense 512, dense 2: 8,777,986.

Everything is padded 'same'. The slides compare ReLU with tanh, strides 2 with 3, and kernels: `activation`, `strides`
and `kernel` are these. *Ours*: `strides` is the step of the pooling in the one network and of the last three
convolutions in the other (a pool stays 2 wide); the hidden dense layer has the same activation; which axis of the map
is frequency (the first) the slides do not say.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from . import _check

FILTERS = (32, 64, 128, 256)
KERNELS = {"pooling": 2, "conv": 3}


@dataclass(frozen=True)
class PoolNetConfig:
    """What the slides vary.

    Attributes
    ----------
    kind : {'pooling', 'conv'}
    rows, columns : int
        Size of the input map.
    classes : int
    activation : {'relu', 'tanh'}
    kernel : int
        Side of the kernels; 0 for the slides' own, 2 with pooling and 3 without.
    strides : int
        Factor by which a stage shrinks the map.
    hidden : int
        Units of the dense layer.
    """

    kind: str = "pooling"
    rows: int = 128
    columns: int = 32
    classes: int = 2
    activation: str = "relu"
    kernel: int = 0
    strides: int = 2
    hidden: int = 512

    def __post_init__(self) -> None:
        _check.one_of("poolnet", tuple(KERNELS), kind=self.kind)
        _check.one_of("poolnet", ("relu", "tanh"), activation=self.activation)
        _check.whole("poolnet", rows=self.rows, columns=self.columns, classes=self.classes, hidden=self.hidden)
        _check.whole("poolnet", strides=self.strides)
        _check.whole("poolnet", 0, kernel=self.kernel)


def build(config: PoolNetConfig = PoolNetConfig()) -> keras.Model:
    """Return the network: (batch, rows, columns, 1) to (batch, classes) probabilities."""
    kernel = config.kernel or KERNELS[config.kind]
    inputs = keras.Input((config.rows, config.columns, 1), name="slice")
    x = inputs
    for i, filters in enumerate(FILTERS, start=1):
        step = config.strides if config.kind == "conv" and i > 1 else 1
        x = layers.Conv2D(
            filters, kernel, strides=step, padding="same", activation=config.activation, name=f"conv{i}"
        )(x)
        if config.kind == "pooling":
            x = layers.MaxPooling2D(2, strides=config.strides, padding="same", name=f"pool{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(config.hidden, activation=config.activation, name="hidden")(x)
    x = layers.Dense(config.classes, name="pooled_logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name=f"poolnet_{config.kind}")
