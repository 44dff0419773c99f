"""A SwishNet bundle back to a Keras network that can be trained on: the inverse of `edge_bench.quantize.fuse`.

A bundle holds one fused convolution a block. Its k3 branch is read off behind three taps of zeros. Its separable
branch is ``kernel[k, c, f] = depth[k, c] * point[c, f]``: for each input channel c a matrix of rank one, which a
singular value decomposition takes apart exactly, up to how the size is shared between the two (here evenly). The
weights of an int8 bundle are the float ones rounded, so each matrix is only nearly of rank one; the nearest is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, tflite
from edge_runtime.bundle import Bundle

Array = NDArray[np.float64]

TAPS = (6, 6, 6, 3, 3, 3, 3, 3, 1, 1)  # of blocks 1 to 8, the hidden layer and the logits
STRIDES = (1, 1, 1, 3, 2, 2, 2, 2, 1, 1)
MOST_LOST = 0.05  # share of a kernel that int8 rounding may have moved away from rank one


@dataclass(frozen=True)
class Convolution:
    """A convolution along time: kernel (taps, in, out) and bias (out,), dequantised."""

    kernel: Array
    bias: Array
    stride: int


def convolutions(bundle: Bundle) -> list[Convolution]:
    """Return the convolutions of a bundle's form ``clip``, in order, as real numbers."""
    graph = bundle.model.subgraphs[bundle.info["forms"]["clip"]["subgraph"]]
    found = []
    for operator in graph.operators:
        if operator.name == "CONV_2D":
            kernel, bias = (_real(graph.tensors[i], bundle.path) for i in operator.inputs[1:3])
            # TFLite's order is (out, 1, taps, in)
            found.append(Convolution(kernel[:, 0].transpose(1, 2, 0), bias, operator.options["stride_w"]))
    return found


def _real(tensor: tflite.Tensor, what: str) -> Array:
    """Return a constant's real values; its quantisation runs along the first axis."""
    kinds: dict[str, Any] = {"float32": "<f4", "int8": "i1", "int32": "<i4"}
    if tensor.data is None or tensor.dtype not in kinds:
        raise ConfigError(f"{what}: tensor {tensor.name!r} of type {tensor.dtype} holds no weights that can be trained")
    values = np.frombuffer(tensor.data, kinds[tensor.dtype]).reshape(tensor.shape).astype(np.float64)
    if tensor.quantization is None:
        return values
    shape = (-1, *[1] * (values.ndim - 1))
    zero = np.array(tensor.quantization.zero_point).reshape(shape)
    return (values - zero) * np.array(tensor.quantization.scale).reshape(shape)


def separate(kernel: Array) -> tuple[Array, Array, float]:
    """Return depthwise (taps, in) and pointwise (in, out) factors of a kernel (taps, in, out), and what is lost.

    The last is the distance of their product from the kernel, as a share of the kernel's size: 0 for a product.

    Examples
    --------
    >>> depth, point = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, -1.0, 2.0], [0.5, 0.0, 1.0]])
    >>> d, p, lost = separate(depth[:, :, None] * point)
    >>> bool(np.allclose(d[:, :, None] * p, depth[:, :, None] * point)), lost < 1e-9
    (True, True)
    """
    u, s, v = np.linalg.svd(kernel.transpose(1, 0, 2), full_matrices=False)
    root = np.sqrt(s[:, 0])
    total = np.sqrt((s**2).sum())
    lost = float(np.sqrt((s[:, 1:] ** 2).sum()) / total) if total else 0.0
    return (u[:, :, 0] * root[:, None]).T, v[:, 0] * root[:, None], lost


def swishnet(bundle: Bundle, **options: Any) -> keras.Model:
    """Return a SwishNet of the zoo with the weights of a bundle.

    Parameters
    ----------
    bundle : Bundle
        float32 or int8.
    options
        Of `edge_bench.train.models.swishnet.SwishNetConfig`, such as dropout.

    Raises
    ------
    ConfigError
        If the bundle holds another kind of network.
    """
    from .models import build

    layers = convolutions(bundle)
    other = ConfigError(
        f"{bundle.path}: holds no SwishNet ({bundle.info['family']}): give the training's folder or its model.keras"
    )
    if tuple(c.kernel.shape[0] for c in layers) != TAPS or tuple(c.stride for c in layers) != STRIDES:
        raise other
    inputs, classes = layers[0].kernel.shape[1], layers[-1].kernel.shape[2]
    options = {"width": layers[3].kernel.shape[2] // 16, **options}
    model = build("swishnet-slim", inputs=inputs, classes=classes, **options)
    try:
        for number, layer in enumerate(layers[:3], 1):
            conv, sep = _branches(layer.kernel)
            conv_bias, sep_bias = _branches(layer.bias)
            depth, point, lost = separate(sep)
            if np.abs(conv[:3]).max() > 0 or lost > MOST_LOST:
                raise other
            model.get_layer(f"b{number}_conv").set_weights([conv[3:], conv_bias])
            model.get_layer(f"b{number}_sep").set_weights([depth[:, :, None], point[None], sep_bias])
        for number, layer in enumerate(layers[3:8], 4):
            model.get_layer(f"b{number}_conv").set_weights([layer.kernel, layer.bias])
        for name, layer in zip(("hidden", "logits"), layers[8:], strict=True):
            model.get_layer(name).set_weights([layer.kernel[0], layer.bias])
    except ValueError as error:  # a shape that the zoo's network does not have
        raise other from error
    return model


def _branches(fused: Array) -> tuple[Array, Array]:
    """Undo (a's sigmoids, b's sigmoids, a's tanhs, b's tanhs) along the last axis."""
    a, b, c, d = np.split(fused, 4, axis=-1)
    return np.concatenate([a, c], axis=-1), np.concatenate([b, d], axis=-1)
