"""TFLite's operators that slide a filter over an image, and the fully connected one: int8 to the bit, and float32.

Images are (batch, height, width, channels). Sums of products go through floating-point matrix products, which are
exact here and much faster than numpy's integer ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .fixedpoint import Array, round_away
from .kernels import Kernel, Node, check_size, finish


@dataclass(frozen=True)
class Windows:
    """Where a filter lies on an image; every pair is (along height, along width)."""

    taps: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    same: bool

    @classmethod
    def of(cls, node: Node, height: int, width: int) -> Windows:
        """Read strides, dilations and padding from an operator's options."""
        option = node.options
        strides = option["stride_h"], option["stride_w"]
        dilations = option.get("dilation_h", 1), option.get("dilation_w", 1)
        if min(*strides, *dilations, height, width) < 1:
            raise node.refuse("its filter size, stride or dilation is below 1")
        return cls((height, width), strides, dilations, option["padding"] == 0)

    def __call__(self, x: Array, fill: float) -> Array:
        """Return a view (batch, rows, columns, taps along height, taps along width, channels) of an image.

        `fill` is what lies outside the image when the padding is 'same'.

        Raises
        ------
        ValueError
            If the filter is larger than the image.
        """
        reach = [(n - 1) * d + 1 for n, d in zip(self.taps, self.dilations, strict=True)]
        x = self._pad(x, reach, fill) if self.same else np.ascontiguousarray(x)
        counts = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:3], reach, self.strides, strict=True)]
        if min(counts) < 1:
            raise ValueError(f"a filter that spans {reach} does not fit into an image of {x.shape[1:3]}")
        batch, row, column, channel = x.strides
        steps = (row * self.strides[0], column * self.strides[1], row * self.dilations[0], column * self.dilations[1])
        shape = (len(x), *counts, *self.taps, x.shape[3])
        # what as_strided does, without its detour; the counts above keep it inside
        return np.ndarray(shape, x.dtype, x, 0, (batch, *steps, channel))

    def _pad(self, x: Array, reach: list[int], fill: float) -> Array:
        """Pad as TFLite's ComputePaddingHeightWidth, the odd one behind."""
        edges = []
        for size, span, stride in zip(x.shape[1:3], reach, self.strides, strict=True):
            missing = max(0, (-(-size // stride) - 1) * stride + span - size)
            edges.append((missing // 2, missing - missing // 2))
        check_size(n + sum(edge) for n, edge in zip(x.shape, ((0, 0), *edges, (0, 0)), strict=True))
        return np.pad(x, ((0, 0), *edges, (0, 0)), constant_values=fill)


def average_pool_2d(node: Node) -> Kernel:
    """AVERAGE_POOL_2D (TFLite: reference_integer_ops::AveragePool); only what lies inside the image counts."""
    windows, last = Windows.of(node, node.options["filter_h"], node.options["filter_w"]), _pooled(node)

    def run(x: Array) -> Array:
        count = windows(np.ones((1, *x.shape[1:3], 1), np.int64), 0).sum((3, 4))
        if not node.quantized():
            return last(windows(x, 0).sum((3, 4)) / count.astype(np.float32))
        total = windows(x, 0).sum((3, 4), dtype=np.int64)
        return last(np.sign(total) * ((abs(total) + count // 2) // count))

    return run


def max_pool_2d(node: Node) -> Kernel:
    """MAX_POOL_2D (TFLite: reference_integer_ops::MaxPool)."""
    windows, last = Windows.of(node, node.options["filter_h"], node.options["filter_w"]), _pooled(node)
    lowest = -128 if node.quantized() else -np.inf
    return lambda x: last(windows(x, lowest).max((3, 4)))


def _pooled(node: Node) -> Callable[[Array], Array]:
    """Return `finish` for numbers that hold their zero point already."""
    last = finish(node)
    if not node.quantized():
        return last
    if node.affine(node.input(0)) != node.affine(node.outputs[0]):
        raise node.refuse("input and output differ in scale or zero point")
    zero = node.zero(node.outputs[0])
    return lambda x: last(x.astype(np.int64) - zero)


# --- sums of products -----------------------------------------------------------------------------


def _linear(node: Node, channel_axis: int, sums: Callable[[Array, float], Kernel]) -> Kernel:
    """Return a kernel of sums of products with bias, scale and activation.

    `sums` makes the sums' kernel from the weights, in the type to calculate in, and the value outside the image.
    """
    weights, last = node.constant(1), finish(node)
    bias = node.constant(2) if len(node.inputs) > 2 and node.inputs[2] is not None else 0
    if not node.quantized():
        add = sums(weights, 0.0)
        return lambda x, *_: last(add(x) + bias)
    zero = node.zero(node.input(0))
    whole = weights.astype(np.int64) - node.zero(node.input(1))
    others = tuple(axis for axis in range(weights.ndim) if axis != channel_axis)
    # every partial sum is a whole number below this, which float32 holds exactly to 2**24 and float64 to 2**53
    largest = 128 * abs(whole).sum(others).max()
    add = sums(whole.astype(np.float32 if largest < 1 << 24 else np.float64), zero)
    offset = bias - zero * whole.sum(others)
    factor = _factor(node)
    return lambda x, *_: last(factor(add(x).astype(np.int64) + offset))


def _factor(node: Node) -> Callable[[Array], Array]:
    """Return what brings sums of products to the output's scale.

    FULLY_CONNECTED alone does so in float64 (TFLite: reference_integer_ops::FullyConnected with scales; up to
    tflite-runtime 2.14 it took the multiplier too, and some results differed by one).
    """
    products = np.array(node.affine(node.input(1)).scale) * node.scale(node.input(0))
    scales = products / node.scale(node.outputs[0])
    if node.name == "FULLY_CONNECTED":
        return lambda x: round_away(x * scales)
    if node.rounds_once:  # XNNPACK multiplies and divides in float32
        weights, source, result = (np.array(node.affine(t).scale, np.float32) for t in (
            node.input(1), node.input(0), node.outputs[0]))  # fmt: skip
        return node.multiplier(source[0] * weights / result[0])
    return node.multiplier(scales)


def conv_2d(node: Node) -> Kernel:
    """CONV_2D (TFLite: reference_integer_ops::ConvPerChannel); filter (outputs, height, width, inputs)."""
    outputs, height, width, channels = node.input(1).shape
    if node.input(0).shape[-1] != channels:
        raise node.refuse("grouped convolution is not supported")
    windows = Windows.of(node, height, width)

    def sums(weights: Array, outside: float) -> Kernel:
        matrix = np.ascontiguousarray(weights.reshape(outputs, -1).T)

        def run(x: Array) -> Array:
            patches = windows(x.astype(matrix.dtype, copy=False), outside)
            check_size(patches.shape)
            # windows that overlap in memory would keep the product from the BLAS
            product: Array = np.ascontiguousarray(patches.reshape(-1, len(matrix))) @ matrix
            return product.reshape(*patches.shape[:3], outputs)

        return run

    return _linear(node, 0, sums)


def depthwise_conv_2d(node: Node) -> Kernel:
    """DEPTHWISE_CONV_2D (TFLite: ...::DepthwiseConvPerChannel); filter (1, height, width, outputs)."""
    _, height, width, outputs = node.input(1).shape
    channels = node.input(0).shape[-1]
    if channels < 1 or outputs % channels:
        raise node.refuse(f"{outputs} outputs are no multiple of {channels} channels")
    windows = Windows.of(node, height, width)

    def sums(weights: Array, outside: float) -> Kernel:
        taps = weights.reshape(height, width, channels, -1)

        def run(x: Array) -> Array:
            patches = windows(x.astype(taps.dtype, copy=False), outside)
            shape = (*patches.shape[:3], *taps.shape[2:])
            check_size(shape)
            total, product = np.zeros(shape, taps.dtype), np.empty(shape, taps.dtype)
            for i, j in np.ndindex(height, width):
                total += np.multiply(patches[:, :, :, i, j, :, None], taps[i, j], out=product)
            return total.reshape(*patches.shape[:3], outputs)

        return run

    return _linear(node, 3, sums)


def fully_connected(node: Node) -> Kernel:
    """FULLY_CONNECTED (TFLite: reference_integer_ops::FullyConnected); filter (outputs, inputs)."""

    def sums(weights: Array, _: float) -> Kernel:
        matrix = np.ascontiguousarray(weights.T)

        def run(x: Array) -> Array:
            product: Array = x.reshape(-1, len(matrix)).astype(matrix.dtype, copy=False) @ matrix
            return product.reshape(*x.shape[:-1], -1) if node.options["keep_dims"] else product

        return run

    return _linear(node, 0, sums)
