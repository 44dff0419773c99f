"""A SwishNet bundle back to a Keras network that can be trained on: the inverse of `edge_bench.quantize.fuse`.

A bundle holds a block with two branches in parts, which are read as they are, or fused. Sigmoids and tanhs may come
from one convolution or from two, which are joined. The k3 branch of a fused block is read off behind three taps of
zeros. Its separable branch is ``kernel[k, c, f] = depth[k, c] * point[c, f]``: for each input channel c a matrix of
rank one, which a singular value decomposition takes apart exactly, up to how the size is shared between the two (here
evenly). The weights of an int8 bundle are the float ones rounded, so each matrix is only nearly of rank one; the
nearest is taken.
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

TAPS = (3, 3, 3, 3, 3, 1, 1)  # of blocks 4 to 8, the hidden layer and the logits
STRIDES = (3, 2, 2, 2, 2, 1, 1)
PAIRS = ("b1", "b2", "b3")
SLICE_TAPS = 2  # of a depthwise convolution that stands for a slice (`edge_bench.quantize.slices`)
MOST_LOST = 0.05  # share of a kernel that int8 rounding may have moved away from rank one


@dataclass(frozen=True)
class Convolution:
    """A convolution along time: kernel (taps, in, out) and bias (out,), dequantised; a depthwise one has one `in`."""

    kernel: Array
    bias: Array
    stride: int
    is_depthwise: bool = False


def convolutions(bundle: Bundle) -> list[Convolution]:
    """Return the convolutions of a bundle's form ``clip``, in order, as real numbers."""
    graph = bundle.model.subgraphs[bundle.info["forms"]["clip"]["subgraph"]]
    readers = {i: operator.name for operator in graph.operators for i in operator.inputs}
    found: list[Convolution] = []
    halves: dict[tuple[int, ...], int] = {}  # where in the list, by the tensor that is read and the kernel's shape
    for operator in graph.operators:
        if operator.name == "CONV_2D":
            kernel, bias = (_real(graph.tensors[i], bundle.path) for i in operator.inputs[1:3])
            # TFLite's order is (out, rows, taps, in); bundles of 0.1 may have half of the channels in a second row
            kernel = kernel.transpose(2, 1, 3, 0).reshape(kernel.shape[2], -1, len(kernel))
            here = Convolution(kernel, bias, operator.options["stride_w"])
            key = (operator.inputs[0], *here.kernel.shape)
            if key in halves:  # sigmoids and tanhs of one convolution of the network
                other = found[halves[key]]
                pair = [other, here] if readers[operator.outputs[0]] == "TANH" else [here, other]
                kernel, bias = (np.concatenate([getattr(c, n) for c in pair], -1) for n in ("kernel", "bias"))
                found[halves[key]] = Convolution(kernel, bias, here.stride)
            else:
                halves[key] = len(found)
                found.append(here)
        elif operator.name == "DEPTHWISE_CONV_2D" and graph.tensors[operator.inputs[1]].shape[2] != SLICE_TAPS:
            kernel, bias = (_real(graph.tensors[i], bundle.path) for i in operator.inputs[1:3])
            found.append(Convolution(kernel.transpose(2, 1, 0, 3)[:, 0], bias, operator.options["stride_w"], True))
    return found


def _real(tensor: tflite.Tensor, what: str) -> Array:
    """Return a constant's real values."""
    kinds: dict[str, Any] = {"float32": "<f4", "int8": "i1", "int32": "<i4"}
    if tensor.data is None or tensor.dtype not in kinds:
        raise ConfigError(f"{what}: tensor {tensor.name!r} of type {tensor.dtype} holds no weights that can be trained")
    values = np.frombuffer(tensor.data, kinds[tensor.dtype]).reshape(tensor.shape).astype(np.float64)
    if tensor.quantization is None:
        return values
    shape = [1] * values.ndim
    shape[tensor.quantization.axis if len(tensor.quantization.scale) > 1 else 0] = -1
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

    *pairs, rest = _blocks(convolutions(bundle))
    other = ConfigError(
        f"{bundle.path}: holds no SwishNet ({bundle.info['family']}): give the training's folder or its model.keras"
    )
    shapes = [c.kernel.shape[0] for c in rest], [c.stride for c in rest]
    if len(pairs) != len(PAIRS) or not all(pairs) or (tuple(shapes[0]), tuple(shapes[1])) != (TAPS, STRIDES):
        raise other
    inputs, classes = pairs[0][0].kernel.shape[2 if pairs[0][0].is_depthwise else 1], rest[-1].kernel.shape[2]
    options = {"width": rest[0].kernel.shape[2] // 16, **options}
    model = build("swishnet-slim", inputs=inputs, classes=classes, **options)
    try:
        for name, pair in zip(PAIRS, pairs, strict=True):
            conv, conv_bias, depth, point, sep_bias, lost = _in_parts(pair) if len(pair) > 1 else _unfused(pair[0])
            if np.abs(conv[:-3]).max(initial=0) > 0 or lost > MOST_LOST:
                raise other
            model.get_layer(f"{name}_conv").set_weights([conv[-3:], conv_bias])
            model.get_layer(f"{name}_sep").set_weights([depth[:, :, None], point[None], sep_bias])
        for number, layer in enumerate(rest[:5], 4):
            model.get_layer(f"b{number}_conv").set_weights([layer.kernel, layer.bias])
        for name, layer in zip(("hidden", "logits"), rest[5:], strict=True):
            model.get_layer(name).set_weights([layer.kernel[0], layer.bias])
    except ValueError as error:  # a shape that the zoo's network does not have
        raise other from error
    return model


def _blocks(layers: list[Convolution]) -> list[list[Convolution]]:
    """Return the convolutions of the three blocks with two branches, one or three each, and then all others.

    A block that is not there is empty.
    """
    found, at = [], 0
    for _ in PAIRS:
        here = layers[at : at + 3]
        kinds = sorted((c.is_depthwise, c.kernel.shape[0]) for c in here)
        size = 3 if kinds == [(False, 1), (False, 3), (True, 6)] else 1
        if size == 1 and not (here and here[0].kernel.shape[0] == 6 and not here[0].is_depthwise):
            size = 0
        found.append(layers[at : at + size])
        at += size
    return [*found, layers[at:]]


_Branches = tuple[Array, Array, Array, Array, Array, float]  # of the k3 convolution, the separable one; what is lost


def _in_parts(pair: list[Convolution]) -> _Branches:
    point, conv, depth = sorted(pair, key=lambda c: (c.is_depthwise, c.kernel.shape[0]))
    return conv.kernel, conv.bias, depth.kernel[:, 0], point.kernel[0], point.bias, 0.0


def _unfused(layer: Convolution) -> _Branches:
    conv, sep = _branches(layer.kernel)
    conv_bias, sep_bias = _branches(layer.bias)
    depth, point, lost = separate(sep)
    return conv, conv_bias, depth, point, sep_bias, lost


def _branches(fused: Array) -> tuple[Array, Array]:
    """Undo (a's sigmoids, b's sigmoids, a's tanhs, b's tanhs) along the last axis."""
    a, b, c, d = np.split(fused, 4, axis=-1)
    return np.concatenate([a, c], axis=-1), np.concatenate([b, d], axis=-1)
