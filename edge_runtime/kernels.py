"""TFLite's operators in numpy: int8 equal to the reference kernels of TensorFlow 2.21 bit for bit, and float32.

An int8 tensor stands for ``scale * (q - zero_point)``. A function named after an operator prepares its `Kernel`: it
folds weights, scales and zero points once. Images are (batch, height, width, channels).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import fixedpoint
from .errors import InterpreterError
from .fixedpoint import Array, Multiplier, RoundedOnce, round_away
from .tflite import Quantization, Tensor

Kernel = Callable[..., Any]  # the operator's input arrays, constants included, to its output or a list of outputs

LARGEST = 1 << 24  # numbers in an intermediate result
_CLAMPS = {0: (-np.inf, np.inf), 1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}  # by ActivationFunctionType
_CODES = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64)  # the int8 value of each byte


@dataclass(frozen=True)
class Node:
    """An operator with its tensors; absent optional inputs are None.

    `rounds_once` makes products and sums of products those of XNNPACK in place of those of the reference kernels.
    """

    name: str
    options: Mapping[str, int]
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    rounds_once: bool = False

    def multiplier(self, factor: Any) -> Callable[[Array], Array]:
        """Return what brings a product to the output's scale."""
        return RoundedOnce.nearest(factor) if self.rounds_once else Multiplier.nearest(factor)

    def refuse(self, why: str) -> InterpreterError:
        """Return the error that names this operator."""
        return InterpreterError(f"operator {self.name}: {why}")

    def input(self, number: int) -> Tensor:
        """Return an input tensor that must be there."""
        tensor = self.inputs[number] if number < len(self.inputs) else None
        if tensor is None:
            raise self.refuse(f"input {number} is missing")
        return tensor

    def constant(self, number: int) -> Array:
        """Return the values of an input that must be constant."""
        values = constant(self.input(number))
        if values is None:
            raise self.refuse(f"input {number} must be constant")
        return values

    def quantized(self) -> bool:
        """Return whether all tensors are int8; the alternative is that all are float32 (indices may be int32)."""
        kinds = {tensor.dtype for tensor in (*self.inputs, *self.outputs) if tensor is not None} - {"int32"}
        if kinds not in ({"int8"}, {"float32"}):
            raise self.refuse(f"tensors of type {' and '.join(sorted(kinds)) or 'int32'} are not supported")
        return kinds == {"int8"}

    def affine(self, tensor: Tensor) -> Quantization:
        """Return how a tensor that must be quantised is quantised."""
        if tensor.quantization is None:
            raise self.refuse(f"tensor {tensor.index} has no scale")
        return tensor.quantization

    def scale(self, tensor: Tensor) -> float:
        """Return the scale of a tensor, of its first channel if each has one."""
        return self.affine(tensor).scale[0]

    def zero(self, tensor: Tensor) -> int:
        """Return the zero point of a tensor, of its first channel if each has one."""
        return self.affine(tensor).zero_point[0]


def constant(tensor: Tensor) -> Array | None:
    """Return the values of a constant tensor, None for any other."""
    if tensor.data is None:
        return None
    try:
        return np.frombuffer(tensor.data, np.dtype(tensor.dtype)).reshape(tensor.shape)
    except (TypeError, ValueError):
        raise InterpreterError(f"tensor {tensor.index} of type {tensor.dtype} cannot be read") from None


def finish(node: Node) -> Callable[[Array], Array]:
    """Return a kernel's last step: zero point, fused activation, cast (TFLite: CalculateActivationRangeQuantized)."""
    code = node.options.get("activation", 0)
    if code not in _CLAMPS:
        raise node.refuse(f"fused activation {code} is not supported")
    limits = np.array(_CLAMPS[code], np.float32)
    if not node.quantized():
        return lambda x: np.clip(x, *limits) if code else x
    scale, zero = node.scale(node.outputs[0]), node.zero(node.outputs[0])
    low, high = (int(n) for n in np.clip(round_away(limits / np.float32(scale)) + zero, -128, 127))

    def clamp(x: Array) -> Array:
        x = x + zero
        np.maximum(x, low, out=x)
        return np.minimum(x, high, out=x).astype(np.int8)

    return clamp


# --- one number at a time -------------------------------------------------------------------------


def add(node: Node) -> Kernel:
    """ADD (TFLite: reference_integer_ops::Add); both terms are brought to one scale with 20 spare bits."""
    last = finish(node)
    if not node.quantized():
        return lambda a, b: last(_fits(a, b) + b)
    sources, result = [node.input(0), node.input(1)], node.outputs[0]
    largest = 2 * max(node.scale(source) for source in sources)
    terms = [Multiplier.nearest(node.scale(s) / largest)((_CODES - node.zero(s)) << 20) for s in sources]
    factor = Multiplier.nearest(largest / (node.scale(result) * 2**20))
    return _pairs(last(factor(terms[0][:, None] + terms[1])))


def mul(node: Node) -> Kernel:
    """MUL (TFLite: reference_integer_ops::Mul)."""
    last = finish(node)
    if not node.quantized():
        return lambda a, b: last(_fits(a, b) * b)
    first, second, result = node.input(0), node.input(1), node.outputs[0]
    scale = np.float32(node.scale(first)) * np.float32(node.scale(second)) / np.float32(node.scale(result))
    factor = node.multiplier(scale)
    return _pairs(last(factor((_CODES - node.zero(first))[:, None] * (_CODES - node.zero(second)))))


def _pairs(table: Array) -> Kernel:
    """Return the kernel that looks up the result of every pair of int8 numbers, table (256, 256)."""
    flat = np.ascontiguousarray(table).ravel()

    def run(a: Array, b: Array) -> Array:
        _fits(a, b)
        index = a.view(np.uint8).astype(np.intp)
        index <<= 8
        return flat.take(index + b.view(np.uint8))

    return run


def _fits(a: Array, b: Array) -> Array:
    """Return the first of two arrays that are broadcast together, if the result has a reasonable size."""
    check_size(np.broadcast_shapes(a.shape, b.shape))
    return a


def check_size(shape: Iterable[int]) -> None:
    """Refuse an intermediate result that no network for a small device has.

    Raises
    ------
    ValueError
        If it has more than `LARGEST` numbers: a damaged file asks for gigabytes with a few bytes.
    """
    if (count := math.prod(shape)) > LARGEST:
        raise ValueError(f"a result of {count} numbers is too large")


def logistic(node: Node) -> Kernel:
    """LOGISTIC (TFLite: a table from float32, PopulateLookupTable)."""

    def function(x: Array) -> Array:
        with np.errstate(over="ignore"):
            powers: Array = np.exp(-x.astype(np.float64)).astype(np.float32)
        return 1 / (1 + powers)

    return _function(node, function)


def tanh(node: Node) -> Kernel:
    """TANH (TFLite: a table from float32, PopulateLookupTable)."""
    return _function(node, lambda x: np.tanh(x.astype(np.float64)).astype(np.float32))


def _function(node: Node, function: Kernel) -> Kernel:
    """Return the kernel of a float32 function: applied as it is, or as a table of 256 entries."""
    if not node.quantized():
        return function
    source, result = node.input(0), node.outputs[0]
    x = np.float32(node.scale(source)) * (_CODES - node.zero(source)).astype(np.float32)
    steps = round_away(function(x) * (np.float32(1) / np.float32(node.scale(result)))) + node.zero(result)
    table = np.clip(steps, -128, 127).astype(np.int8)
    return lambda q: _look_up(table, q)


def _look_up(table: Array, x: Array) -> Array:
    """Return an entry of a table of 256 for each int8 number."""
    entries: Array = table.take(x.view(np.uint8))
    return entries


def softmax(node: Node) -> Kernel:
    """SOFTMAX over the last axis (TFLite: reference_ops::Softmax); beta is 1, as converters write it."""
    if node.quantized():
        if (node.scale(node.outputs[0]), node.zero(node.outputs[0])) != (1 / 256, -128):
            raise node.refuse("its output must have scale 1/256 and zero point -128")
        powers = fixedpoint.softmax_powers(node.scale(node.input(0)))
        return lambda x: fixedpoint.softmax(x, powers)

    def run(x: Array) -> Array:
        powers: Array = np.exp(x - x.max(-1, keepdims=True))
        total: Array = powers.sum(-1, keepdims=True)
        return powers / total

    return run


def quantize(node: Node) -> Kernel:
    """QUANTIZE from float32 (TFLite: reference_ops::AffineQuantize) or from another scale (Requantize)."""
    source, result = node.input(0), node.outputs[0]
    scale, zero, info = node.scale(result), node.zero(result), _integers(node, result)

    def clip(x: Array) -> Array:
        return np.clip(x + zero, info.min, info.max).astype(info.dtype)

    if source.dtype == "float32":
        return lambda x: clip(round_away(x / np.float32(scale)))
    _integers(node, source)
    factor, before = Multiplier.nearest(node.scale(source) / scale), node.zero(source)
    return lambda x: clip(factor(x.astype(np.int64) - before))


def dequantize(node: Node) -> Kernel:
    """DEQUANTIZE to float32 (TFLite: reference_ops::Dequantize)."""
    source = node.input(0)
    scale, zero = node.scale(source), node.zero(source)
    _integers(node, source)
    return lambda x: (scale * (x.astype(np.int64) - zero)).astype(np.float32)


def _integers(node: Node, tensor: Tensor) -> np.iinfo[Any]:
    if tensor.dtype not in ("int8", "uint8"):
        raise node.refuse(f"tensors of type {tensor.dtype} are not supported")
    return np.iinfo(tensor.dtype)


# --- along axes -----------------------------------------------------------------------------------


def mean(node: Node) -> Kernel:
    """MEAN (TFLite: reference_ops::QuantizedMeanOrSum)."""
    keep = bool(node.options["keep_dims"])
    if not node.quantized():
        return lambda x, axes: x.mean(tuple(np.ravel(axes)), keepdims=keep)
    source, result, last = node.input(0), node.outputs[0], finish(node)
    ratio, zero = node.scale(source) / node.scale(result), node.zero(source)

    def run(x: Array, axes: Array) -> Array:
        total = x.sum(tuple(np.ravel(axes)), dtype=np.int64, keepdims=keep)
        count = x.size // total.size
        factor = RoundedOnce.nearest(ratio / count) if node.rounds_once else Multiplier.nearest(ratio).over(count)
        return last(factor(total - zero * count))

    return run


def split(node: Node) -> Kernel:
    """SPLIT into equal parts; the axis comes first."""
    count = node.options["splits"]

    def run(axis: Array, x: Array) -> list[Array]:
        size, rest = divmod(x.shape[int(axis)], count)
        if rest or count < 1:
            raise ValueError(f"{x.shape} cannot be split into {count} equal parts along axis {int(axis)}")
        before = (slice(None),) * (int(axis) % x.ndim)
        return [x[(*before, slice(i * size, i * size + size))] for i in range(count)]

    return run


def concatenation(node: Node) -> Kernel:
    """CONCATENATION; int8 tensors must share one scale, as in TFLite."""
    if node.outputs[0].quantization is not None:
        scales = {node.affine(t).scale + node.affine(t).zero_point for t in (*node.inputs, *node.outputs) if t}
        if len(scales) != 1:
            raise node.refuse("its tensors differ in scale or zero point")
    return lambda *parts: np.concatenate(parts, node.options["axis"])


def strided_slice(node: Node) -> Kernel:
    """STRIDED_SLICE with begin, end and shrink masks."""
    option = node.options
    if option["ellipsis_mask"] or option["new_axis_mask"]:
        raise node.refuse("ellipsis and new-axis masks are not supported")

    def run(x: Array, begin: Array, end: Array, strides: Array) -> Array:
        index: list[int | slice] = []
        for axis, (first, stop, step) in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist(), strict=True)):
            start = None if option["begin_mask"] >> axis & 1 else first
            until = None if option["end_mask"] >> axis & 1 else stop
            index.append(first if option["shrink_axis_mask"] >> axis & 1 else slice(start, until, step))
        return x[tuple(index)]

    return run


def reshape(node: Node) -> Kernel:
    """RESHAPE to the shape that is its second input."""
    node.input(1)
    return lambda x, shape: x.reshape(tuple(shape))


def transpose(node: Node) -> Kernel:
    """TRANSPOSE by the permutation that is its second input."""
    node.input(1)
    return lambda x, order: x.transpose(tuple(order))


def pad(node: Node) -> Kernel:
    """PAD with the number that stands for 0."""
    zero = node.zero(node.outputs[0]) if node.quantized() else 0

    def run(x: Array, widths: Array) -> Array:
        check_size(n + int(before) + int(after) for n, (before, after) in zip(x.shape, widths, strict=True))
        return np.pad(x, widths, constant_values=zero)

    return run
