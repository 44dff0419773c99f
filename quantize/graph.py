"""The fused SwishNet as a TensorFlow graph, ready for the TFLite converter.

The time axis is the width of a one-row image, ``(1, 1, frames, channels)``: convolutions then need no reshape around
them. All are 'valid', the padding is in front of the clip, so the graph has no PAD and its time axis can be resized
at load to any ``108 + 48 n`` frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from .fuse import STRIDES, FusedSwishNet


def clip_function(weights: FusedSwishNet, frames: int) -> Any:
    """Return a concrete function from features (1, 1, frames, inputs) to probabilities (1, classes).

    Weights are constants of the graph: the converter silently drops variables of a Keras 3 model.
    """

    def convolve(x: Any, kernel: np.ndarray[Any, Any], bias: np.ndarray[Any, Any], stride: int) -> Any:
        y = tf.nn.conv2d(x, tf.constant(kernel[None]), [1, 1, stride, 1], "VALID")
        return tf.nn.bias_add(y, tf.constant(bias))

    def block(x: Any, number: int) -> Any:
        y = convolve(x, weights.kernels[number], weights.biases[number], STRIDES[number])
        gate, value = tf.split(y, 2, axis=-1)
        return tf.sigmoid(gate) * tf.tanh(value)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def clip(x: Any) -> dict[str, Any]:
        x = block(x, 0)
        x = block(x, 1)
        x = block(x, 2) + x[:, :, 5:]
        x = block(x, 3) + x[:, :, 2::3]
        skips = []
        for number, more in ((4, 8), (5, 4), (6, 2), (7, 1)):
            gated = block(x, number)
            skips.append(gated[:, :, 2 * (more - 1) :: more] if more > 1 else gated)
            x = gated + x[:, :, 2::2] if number < 6 else gated
        head = tf.concat(skips, axis=-1)
        head = tf.nn.relu(convolve(head, weights.hidden[None], weights.hidden_bias, 1))
        logits = convolve(head, weights.logits[None], weights.logits_bias, 1)
        return {"probabilities": tf.nn.softmax(tf.reduce_mean(logits, axis=[1, 2]))}

    inputs = weights.kernels[0].shape[1]
    return clip.get_concrete_function(tf.TensorSpec([1, 1, frames, inputs], tf.float32, name="features"))
