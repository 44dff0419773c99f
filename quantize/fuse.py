"""SwishNet's weights in the form that is deployed: parallel branches fused into one convolution, block by block.

A k3 convolution is a k6 one whose first three taps are zero, and depthwise times pointwise multiplies out to a full
convolution: a fused block is one convolution, and at this size the number of operators is what costs time. What it
costs is bytes, the zeros and the products: a block that is left in parts (`Parts`) is smaller and takes more operators.

Channels of a fused block are ordered so that all sigmoids come first and all tanhs follow: one split serves both gates.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError

Float32 = NDArray[np.float32]

STRIDES = (1, 1, 1, 3, 2, 2, 2, 2)
RATES = (1, 1, 1, 1, 3, 6, 12, 24)  # frames between two inputs of the block in the strided form
BLOCKS = tuple(f"b{number}" for number in range(1, 9))
PAIRS = BLOCKS[:3]  # those with two branches


@dataclass(frozen=True)
class Fused:
    """A block as one convolution: (taps, channels in, channels out) and (channels out,)."""

    kernel: Float32
    bias: Float32


@dataclass(frozen=True)
class Parts:
    """A block as its k3 convolution beside its k6 depthwise (taps, channels in) and pointwise (in, out) one."""

    kernel: Float32
    bias: Float32
    depthwise: Float32
    pointwise: Float32
    pointwise_bias: Float32


@dataclass(frozen=True)
class SwishNetWeights:
    """Weights in the form that is deployed.

    Attributes
    ----------
    blocks : tuple of Fused or Parts
        Blocks 1 to 8; the first three have 6 taps, the others 3.
    hidden, logits : Fused
        The head, as convolutions of one tap.
    apart : frozenset of int
        Blocks, from 0 on, whose sigmoids and tanhs come from convolutions of their own.
    """

    blocks: tuple[Fused | Parts, ...]
    hidden: Fused
    logits: Fused
    apart: frozenset[int] = frozenset()

    @property
    def parameters(self) -> int:
        """Weights that this form stores."""
        return sum(a.size for part in (*self.blocks, self.hidden, self.logits) for a in vars(part).values())


def fuse(model: keras.Model, *, in_parts: Collection[str] = (), apart: Collection[str] = ()) -> SwishNetWeights:
    """Return the deployed weights of a SwishNet.

    Parameters
    ----------
    in_parts : collection of {'b1', 'b2', 'b3'}
        Blocks that are not fused.
    apart : collection of {'b1', ... 'b8'}
        Blocks whose sigmoids and tanhs come from convolutions of their own.

    Raises
    ------
    ConfigError
        If the model is not a SwishNet, or a block of that name cannot be left in parts.
    """
    if unknown := set(in_parts) - set(PAIRS):
        raise ConfigError(f"block {min(unknown)!r} has no two branches; those of a SwishNet are {', '.join(PAIRS)}")
    try:
        blocks = [_pair(model, name, name in in_parts) for name in PAIRS]
        blocks += [_plain(model, f"{name}_conv") for name in BLOCKS[3:]]
        numbers = frozenset(BLOCKS.index(name) for name in apart)
        return SwishNetWeights(tuple(blocks), _plain(model, "hidden"), _plain(model, "logits"), numbers)
    except ValueError as error:
        raise ConfigError(f"model {model.name!r} is not a SwishNet: {error}") from None


def _plain(model: keras.Model, name: str) -> Fused:
    kernel, bias = model.get_layer(name).get_weights()
    return Fused(kernel if len(kernel.shape) == 3 else kernel[None], bias)


def _pair(model: keras.Model, name: str, in_parts: bool) -> Fused | Parts:
    conv, conv_bias = model.get_layer(f"{name}_conv").get_weights()
    depth, point, sep_bias = model.get_layer(f"{name}_sep").get_weights()
    if in_parts:
        return Parts(conv, conv_bias, *_level(depth[:, :, 0], point[0]), sep_bias)
    half = conv.shape[2] // 2
    wide = np.concatenate([np.zeros_like(conv), conv])
    sep = depth[:, :, :1] * point
    return Fused(_interleave(wide, sep, half), _interleave(conv_bias, sep_bias, half))


def _level(depthwise: Float32, pointwise: Float32) -> tuple[Float32, Float32]:
    """Return the same product with a largest depthwise weight of 1 in every channel: one scale then serves them all.

    Nothing lies between the two but a sum, so what one is divided by the other is multiplied with.
    """
    largest = np.abs(depthwise).max(axis=0)
    largest[largest == 0] = 1
    return depthwise / largest, pointwise * largest[:, None]


def _interleave(a: Float32, b: Float32, half: int) -> Float32:
    """Return the channels as (a's sigmoids, b's sigmoids, a's tanhs, b's tanhs)."""
    return np.concatenate([a[..., :half], b[..., :half], a[..., half:], b[..., half:]], axis=-1)
