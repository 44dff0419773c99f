"""The deployed SwishNet as a TensorFlow graph, ready for the TFLite converter.

The time axis is the width of a one-row image, ``(1, 1, frames, channels)``: convolutions then need no reshape around
them. All are 'valid', the padding is in front of the clip, so the graph has no PAD and its time axis can be resized
at load to any ``108 + 48 n`` frames.

The branches of a block in parts are gated one above the other, as two rows of an image: a concatenation of channels
would not leave the sigmoids together. The convolution that follows takes both rows at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from .fuse import STRIDES, Fused, Parts, SwishNetWeights


def clip_function(weights: SwishNetWeights, frames: int, inputs: int) -> Any:
    """Return a concrete function from features (1, 1, frames, inputs) to probabilities (1, classes).

    Weights are constants of the graph: the converter silently drops variables of a Keras 3 model.
    """

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def clip(x: Any) -> dict[str, Any]:
        return {"probabilities": tf.nn.softmax(tf.reduce_mean(_logits(weights, x), axis=[1, 2]))}

    return clip.get_concrete_function(tf.TensorSpec([1, 1, frames, inputs], tf.float32, name="features"))


def _logits(weights: SwishNetWeights, x: Any) -> Any:
    x = _block(x, weights, 0)
    x = _one_row(_block(x, weights, 1))
    x = _one_row(_block(x, weights, 2)) + x[:, :, 5:]
    x = _block(x, weights, 3) + x[:, :, 2::3]
    skips = []
    for number, more in ((4, 8), (5, 4), (6, 2), (7, 1)):
        gated = _block(x, weights, number)
        skips.append(gated[:, :, 2 * (more - 1) :: more] if more > 1 else gated)
        x = gated + x[:, :, 2::2] if number < 6 else gated
    head = tf.nn.relu(_convolve(tf.concat(skips, axis=-1), weights.hidden.kernel, weights.hidden.bias))
    return _convolve(head, weights.logits.kernel, weights.logits.bias)


def _block(x: Any, weights: SwishNetWeights, number: int) -> Any:
    part = weights.blocks[number]
    y = _branches(_one_row(x), part) if isinstance(part, Parts) else _fused(x, part, STRIDES[number])
    sigmoid, tanh = tf.split(y, 2, axis=-1)
    return tf.sigmoid(sigmoid) * tf.tanh(tanh)


def _fused(x: Any, part: Fused, stride: int) -> Any:
    return _convolve(x, part.kernel, part.bias, stride)


def _branches(x: Any, part: Parts) -> Any:
    """Return the k3 branch above the separable one: (1, 2, frames, filters)."""
    upper = _convolve(x[:, :, 3:], part.kernel, part.bias)
    kernel = tf.constant(part.depthwise[None, ..., None])
    lower = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "VALID")
    return tf.concat([upper, _convolve(lower, part.pointwise[None], part.pointwise_bias)], axis=1)


def _convolve(x: Any, kernel: NDArray[Any], bias: NDArray[Any], stride: int = 1) -> Any:
    """Convolve along time; an input of two rows holds the first half of the channels above the second."""
    taps, channels, outputs = kernel.shape
    rows = x.shape[1]
    kernel = np.moveaxis(kernel.reshape(taps, rows, channels // rows, outputs), 1, 0)
    return tf.nn.bias_add(tf.nn.conv2d(x, tf.constant(kernel), [1, 1, stride, 1], "VALID"), tf.constant(bias))


def _one_row(x: Any) -> Any:
    """Return two rows of an image as one with twice the channels."""
    return tf.concat(tf.split(x, 2, axis=1), axis=-1) if x.shape[1] == 2 else x
