"""The deployed SwishNet as a TensorFlow graph, ready for the TFLite converter.

The time axis is the width of a one-row image, ``(1, 1, frames, channels)``: convolutions then need no reshape around
them. All are 'valid', the padding is in front of the clip, so the graph has no PAD and its time axis can be resized
at load to any ``108 + 48 n`` frames.

A block with many rows has a convolution for its sigmoids and one for its tanhs: XNNPACK's SPLIT along channels copies
row by row (3.4 ns a copy on Zen 3, 1.4 us at 199 frames), and twice half a convolution takes no longer than a whole
one. The branches of a block in parts are gated each by itself; only what they give is joined.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from numpy.typing import NDArray

from .fuse import STRIDES, Fused, SwishNetWeights


def clip_function(weights: SwishNetWeights, frames: int, inputs: int) -> Any:
    """Return a concrete function from features (1, 1, frames, inputs) to probabilities (1, classes).

    Weights are constants of the graph: the converter silently drops variables of a Keras 3 model.
    """

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def clip(x: Any) -> dict[str, Any]:
        return {"probabilities": tf.nn.softmax(tf.reduce_mean(_logits(weights, x), axis=[1, 2]))}

    return clip.get_concrete_function(tf.TensorSpec([1, 1, frames, inputs], tf.float32, name="features"))


def _logits(weights: SwishNetWeights, x: Any) -> Any:
    x = _block(_block(x, weights, 0), weights, 1)
    x = _block(x, weights, 2) + x[:, :, 5:]
    x = _block(x, weights, 3) + x[:, :, 2::3]
    skips = []
    for number, more in ((4, 8), (5, 4), (6, 2), (7, 1)):
        gated = _block(x, weights, number)
        skips.append(gated[:, :, 2 * (more - 1) :: more] if more > 1 else gated)
        x = gated + x[:, :, 2::2] if number < 6 else gated
    head = tf.nn.relu(_convolve(tf.concat(skips, axis=-1), weights.hidden.kernel, weights.hidden.bias))
    return _convolve(head, weights.logits.kernel, weights.logits.bias)


def _block(x: Any, weights: SwishNetWeights, number: int) -> Any:
    part, apart = weights.blocks[number], number in weights.apart
    if isinstance(part, Fused):
        return _gated(x, part, STRIDES[number], apart)
    depthwise = tf.constant(part.depthwise[None, ..., None])
    lower = tf.nn.depthwise_conv2d(x, depthwise, [1, 1, 1, 1], "VALID")
    upper = _gated(x, Fused(part.kernel, part.bias), 1, apart)
    return tf.concat([upper[:, :, 3:], _gated(lower, Fused(part.pointwise[None], part.pointwise_bias), 1, apart)], -1)


def _gated(x: Any, part: Fused, stride: int, apart: bool) -> Any:
    """Return sigmoid times tanh of both halves of a convolution's channels."""
    if apart:
        half = part.kernel.shape[-1] // 2
        parts = (slice(None, half), slice(half, None))
        sigmoid, tanh = (_convolve(x, part.kernel[..., which], part.bias[which], stride) for which in parts)
    else:
        sigmoid, tanh = tf.split(_convolve(x, part.kernel, part.bias, stride), 2, axis=-1)
    return tf.sigmoid(sigmoid) * tf.tanh(tanh)


def _convolve(x: Any, kernel: NDArray[Any], bias: NDArray[Any], stride: int = 1) -> Any:
    """Convolve along time: kernel (taps, channels in, channels out)."""
    return tf.nn.bias_add(tf.nn.conv2d(x, tf.constant(kernel[None]), [1, 1, stride, 1], "VALID"), tf.constant(bias))
