"""SwishNet with each block's parallel branches and gate halves fused into one convolution: an exact rewrite.

A k3 convolution is a k6 one whose first three taps are zero, and depthwise times pointwise multiplies out to a full
convolution. Channels are ordered so that all sigmoids of a block come first and all tanhs follow: one split serves
both gates. The network computes the same numbers with fewer operators, and at this size the number of
operators is what costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError

Float32 = NDArray[np.float32]

STRIDES = (1, 1, 1, 3, 2, 2, 2, 2)
RATES = (1, 1, 1, 1, 3, 6, 12, 24)  # frames between two inputs of the block in the strided form


@dataclass(frozen=True)
class FusedSwishNet:
    """Weights of the fused network.

    Attributes
    ----------
    kernels, biases : tuple of np.ndarray
        Of blocks 1 to 8: (taps, channels in, channels out) with 6 taps for the first three and 3 for the others, and
        (channels out,).
    hidden, hidden_bias, logits, logits_bias : np.ndarray
        The head.
    """

    kernels: tuple[Float32, ...]
    biases: tuple[Float32, ...]
    hidden: Float32
    hidden_bias: Float32
    logits: Float32
    logits_bias: Float32

    @property
    def parameters(self) -> int:
        """Weights that the fused form stores."""
        head = (self.hidden, self.hidden_bias, self.logits, self.logits_bias)
        return sum(a.size for a in (*self.kernels, *self.biases, *head))


def fuse(model: keras.Model) -> FusedSwishNet:
    """Return the fused weights of a SwishNet.

    Raises
    ------
    ConfigError
        If the model is not one.
    """
    try:
        kernels, biases = [], []
        for name in ("b1", "b2", "b3"):
            conv, conv_bias = model.get_layer(f"{name}_conv").get_weights()
            depth, point, sep_bias = model.get_layer(f"{name}_sep").get_weights()
            half = conv.shape[2] // 2
            wide = np.concatenate([np.zeros_like(conv), conv])
            sep = depth[:, :, 0, None] * point[0]
            kernels.append(_interleave(wide, sep, half))
            biases.append(_interleave(conv_bias, sep_bias, half))
        for name in ("b4", "b5", "b6", "b7", "b8"):
            conv, conv_bias = model.get_layer(f"{name}_conv").get_weights()
            kernels.append(conv)
            biases.append(conv_bias)
        hidden, hidden_bias = model.get_layer("hidden").get_weights()
        logits, logits_bias = model.get_layer("logits").get_weights()
    except ValueError as error:
        raise ConfigError(f"model {model.name!r} is not a SwishNet: {error}") from None
    return FusedSwishNet(tuple(kernels), tuple(biases), hidden, hidden_bias, logits, logits_bias)


def _interleave(a: Float32, b: Float32, half: int) -> Float32:
    """Return the channels as (a's sigmoids, b's sigmoids, a's tanhs, b's tanhs)."""
    return np.concatenate([a[..., :half], b[..., :half], a[..., half:], b[..., half:]], axis=-1)
