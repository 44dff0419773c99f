"""The teacher: MobileNet V1, width 0.25, with ImageNet weights (Hussain & Haque 2018, section 4.2; Howard et al. 2017).

64 log-mel bands x frames, copied into three channels; global average pooling, dense 16 ReLU, dense 3: 217,235
trainable parameters, batch normalisation's gain and bias included.

*Ours*:

* Bands lie along the image's height and time along its width; any number of frames will do.
* Normalised features (variance 1) are halved, because ImageNet's pixels, scaled to [-1, 1], vary by about 0.5.
* No dropout between the two dense layers.

**Weights.** ``weights="imagenet"`` fetches Keras' own; the path of a quantised ``.tflite`` (uint8, batch
normalisation folded) works offline (`edge_bench.train.models.weights`). The fold is undone formally: gain sqrt(1 +
eps), mean 0, variance 1, bias as it is. That is exact for inference, but training normalises with the batch's
statistics, which are not 0 and 1, and would tear the network apart in its first step. `settle` therefore measures the
statistics on real inputs and moves them into the gains and biases; what the network computes stays the same. It is not
part of `build`, which has no data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from edge_runtime import BundleError, ConfigError

from . import _check
from .weights import FoldedLayer, find_weights, read_weights

Float32 = NDArray[np.float32]

IMAGENET_CLASSES = 1001  # with a background class in front, in TensorFlow's own checkpoints


@dataclass(frozen=True)
class MobileNetConfig:
    """The teacher's inputs, head and starting weights.

    Attributes
    ----------
    inputs : int
        Mel bands.
    classes, hidden : int
    alpha : float
        Width multiplier.
    weights : str
        'random', 'imagenet' (downloaded), or the path of a quantised ``.tflite``; a bare file name is also looked for
        in the folder EDGE_BENCH_WEIGHTS.
    """

    inputs: int = 64
    classes: int = 3
    alpha: float = 0.25
    hidden: int = 16
    weights: str = "random"

    def __post_init__(self) -> None:
        _check.whole("mobilenet", inputs=self.inputs, classes=self.classes, hidden=self.hidden)
        if self.alpha not in (0.25, 0.5, 0.75, 1.0):
            raise ConfigError(f"mobilenet: alpha is {self.alpha!r}, must be 0.25, 0.5, 0.75 or 1")
        if self.weights not in ("random", "imagenet") and not str(self.weights).endswith(".tflite"):
            raise ConfigError(
                f"mobilenet: weights is {self.weights!r}, must be random, imagenet or the path of a .tflite"
            )


def build(config: MobileNetConfig = MobileNetConfig()) -> keras.Model:
    """Return the network: normalised log-mel frames (batch, time, inputs) to (batch, classes) probabilities.

    Raises
    ------
    ConfigError
        If the weights cannot be had.
    """
    inputs = keras.Input((None, config.inputs), name="features")
    x = layers.Permute((2, 1), name="image")(inputs)
    x = layers.Reshape((config.inputs, -1, 1), name="channel")(x)
    x = layers.Rescaling(0.5, name="contrast")(x)
    x = layers.Concatenate(name="channels")([x, x, x])
    trunk = keras.applications.MobileNet(
        alpha=config.alpha, include_top=False, weights=None, pooling="avg", input_tensor=x
    )
    if config.weights == "imagenet":
        _fetch(trunk, config.alpha)
    elif config.weights != "random":
        copy_folded(read_weights(find_weights(config.weights)), trunk)
    x = layers.Dense(config.hidden, activation="relu", name="hidden")(trunk.output)
    x = layers.Dense(config.classes, name="pooled_logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="mobilenet")


def imagenet_classifier(weights: str | Path, *, size: int = 128, alpha: float = 0.25) -> keras.Model:
    """Return the whole ImageNet network with the weights of a ``.tflite``: images in [-1, 1] to 1001 probabilities.

    It proves that `read_weights` and `copy_folded` understand the file.
    """
    model = keras.applications.MobileNet(
        input_shape=(size, size, 3), alpha=alpha, weights=None, classes=IMAGENET_CLASSES, dropout=0.0
    )
    copy_folded(read_weights(find_weights(weights)), model)
    return model


def _convolutions(model: keras.Model) -> Iterator[tuple[keras.Layer, keras.Layer | None]]:
    """Yield each convolution with the batch normalisation behind it, None for a convolution with its own bias."""
    normalisations = {layer.name: layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)}
    for layer in model.layers:
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            yield layer, normalisations.get(f"{layer.name}_bn")


def copy_folded(folded: list[FoldedLayer], model: keras.Model) -> None:
    """Put the weights of folded convolutions into a MobileNet of Keras, one after the other.

    A trunk takes as many as it has; the classifier's come last.

    Raises
    ------
    BundleError
        If the shapes do not fit: the file is of another width or another network.
    """
    pairs = list(_convolutions(model))
    if len(folded) < len(pairs):
        raise BundleError(f"weights: {len(folded)} convolutions do not fill the {len(pairs)} of a MobileNet")
    for (convolution, normalisation), weights in zip(pairs, folded, strict=False):
        if tuple(convolution.kernel.shape) != weights.kernel.shape:
            raise BundleError(
                f"weights: {convolution.name} has shape {tuple(convolution.kernel.shape)}, "
                f"the file {weights.kernel.shape}"
            )
        if normalisation is None:
            convolution.set_weights([weights.kernel, weights.bias])
            continue
        convolution.set_weights([weights.kernel])
        one, zero = np.ones_like(weights.bias), np.zeros_like(weights.bias)
        normalisation.set_weights([one * np.sqrt(1 + normalisation.epsilon), weights.bias, zero, one])


def settle(model: keras.Model, x: Float32) -> None:
    """Measure the statistics of every batch normalisation and move them into its gain and bias.

    What the network computes in inference stays the same, and training starts near it. Call it after loading folded
    weights, before training, with at least some hundred clips.

    Parameters
    ----------
    x : np.ndarray, float32
        Training inputs, (batch, time, bands).
    """
    normalisations = [pair[1] for pair in _convolutions(model) if pair[1] is not None]
    view = keras.Model(model.input, [layer.input for layer in normalisations])
    for layer, values in zip(normalisations, view(x), strict=True):
        gain, bias, mean, variance = (np.asarray(w, np.float64) for w in layer.get_weights())
        slope = gain / np.sqrt(variance + layer.epsilon)  # the layer is slope * value + offset
        offset = bias - slope * mean
        seen = np.asarray(values, np.float64).reshape(-1, len(slope))
        mean, variance = seen.mean(axis=0), seen.var(axis=0)
        layer.set_weights([slope * np.sqrt(variance + layer.epsilon), offset + slope * mean, mean, variance])


def _fetch(trunk: keras.Model, alpha: float) -> None:
    try:
        source = keras.applications.MobileNet(
            input_shape=(128, 128, 3), alpha=alpha, include_top=False, weights="imagenet"
        )
    except Exception as error:  # Keras passes on whatever its download meets
        raise ConfigError(
            f"mobilenet: the ImageNet weights cannot be fetched ({str(error).splitlines()[0]}); "
            "give a quantised .tflite"
        ) from None
    trunk.set_weights(source.get_weights())
