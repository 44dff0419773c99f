"""A float graph to full integers, with ranges that somebody chose: int8, or int16 activations beside int8 weights.

What TFLite's kernels ask for: weights are symmetric, with a scale for each output channel of a convolution and one for
a fully connected layer (older interpreters know no other); biases have the scale of the products; sigmoid, tanh and
softmax have fixed output scales; operators that only move numbers do not change their scale (`ranges.groups`).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from edge_runtime import BundleError, tflite

from .calm import CANDIDATES, MOST, calm
from .objects import operator_name, unpack
from .pack import pack

Range = tuple[float, float]

# which output channels of a kernel are scaled alone: its axis
CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3}
WEIGHTED = (*CHANNEL_AXIS, "FULLY_CONNECTED")

# operators' versions from which on they know a type, as TensorFlow's register.cc counts them
_VERSIONS = {
    "int8": {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "RESHAPE": 1},
    "int16": {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 5, "FULLY_CONNECTED": 7, "RESHAPE": 1, "ADD": 4, "MUL": 4, "SPLIT": 4,
              "LOGISTIC": 3, "TANH": 3, "SOFTMAX": 3, "MEAN": 3, "CONCATENATION": 3, "STRIDED_SLICE": 4, "PAD": 3,
              "MAX_POOL_2D": 3, "AVERAGE_POOL_2D": 3, "TRANSPOSE": 5},
}  # fmt: skip


@dataclass(frozen=True)
class Activations:
    """An integer type of activations: its name in the schema, its limits, the type of biases beside it."""

    name: str
    low: int
    high: int
    bias: str

    def scale_and_zero(self, wanted: Range) -> tuple[np.float32, int]:
        """Return the scale and zero point for a range, which is widened to hold 0.

        int8 as ``tf.quantization.fake_quant_with_min_max_vars`` has them; int16 is symmetric.
        """
        low, high = (float(np.float32(n)) for n in (min(wanted[0], 0.0), max(wanted[1], 0.0)))
        if high - low < 1e-6:
            low, high = -1.0, 1.0  # nothing was ever there
        if self.name == "int16":
            return np.float32(max(low / self.low, high / self.high)), 0
        scale = np.float32(high - low) / np.float32(self.high - self.low)
        return scale, int(np.clip(np.floor(self.low - low / scale + 0.5), self.low, self.high))


INT8 = Activations("int8", -128, 127, "int32")
INT16 = Activations("int16", -32768, 32767, "int64")
KINDS = {kind.name: kind for kind in (INT8, INT16)}


def quantise_graph(
    flatbuffer: bytes, ranges: Mapping[int, Range], *, kind: Activations = INT8, one_scale: bool = False
) -> bytes:
    """Return the graph in integers, input and output included.

    Parameters
    ----------
    flatbuffer : bytes
        One float32 graph.
    ranges : mapping
        For each activation, by tensor number, what its integers are to reach; those that share a scale have equal ones.
    one_scale : bool
        Weights of a convolution share one scale, also when it is in two halves (`kernels_alike`). That saves 16 bytes
        a channel and costs resolution; a depthwise one, whose channels differ most and have few weights, keeps a scale
        for each.

    Raises
    ------
    BundleError
        If the graph is not float32 throughout.
    """
    model = unpack(flatbuffer)
    graph = model.subgraphs[0]
    work = _Work(model, graph, kind, kernels_alike(tflite.read(flatbuffer).subgraphs[0]) if one_scale else {})
    for index, wanted in ranges.items():
        scale, zero = kind.scale_and_zero(wanted)
        work.describe(index, kind.name, [scale], [zero])
    for operator in graph.operators:
        name = operator_name(model, operator)
        if name in WEIGHTED:
            work.weights(name, operator, one_scale)
        else:
            for index in (int(i) for i in operator.inputs if i >= 0):
                if index not in ranges and graph.tensors[index].type == schema.TensorType.FLOAT32:
                    work.constant(index)
        if name in ("ADD", "SUB") and kind is INT16:
            operator.builtinOptions = operator.builtinOptions or schema.AddOptionsT()
            operator.builtinOptions.potScaleInt16 = False
    used = {int(i) for operator in graph.operators for i in (*operator.inputs, *operator.outputs)} - {-1}
    left = [i for i in sorted(used) if graph.tensors[i].type == schema.TensorType.FLOAT32]
    if left:
        raise BundleError(f"tensor {left[0]} of the graph stays float: no range is known for it")
    for code in model.operatorCodes:
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = next(n for n, v in vars(schema.BuiltinOperator).items() if v == number)
        code.version = max(code.version, _VERSIONS[kind.name].get(name, 2))
    model.metadata = model.metadataBuffer = None  # the float converter's remarks are no longer true
    return pack(model)


class _Work:
    """A graph on its way to integers."""

    def __init__(self, model: Any, graph: Any, kind: Activations, alike: Mapping[int, tuple[int, ...]]) -> None:
        self._model, self._graph, self._kind = model, graph, kind
        # which kernels count when a scale is chosen, before any of them is integers, and what they make
        self._with = {i: [self._values(j) for j in kernels] for i, kernels in alike.items()}
        makes = {int(o.inputs[1]): int(o.outputs[0]) for o in graph.operators if len(o.inputs) > 1}
        self._results = {i: [makes[j] for j in kernels] for i, kernels in alike.items()}
        self._uses = Counter(int(i) for operator in graph.operators for i in operator.inputs)

    def describe(self, index: int, dtype: str, scale: Any, zero: Any, *, axis: int = 0) -> None:
        tensor = self._graph.tensors[index]
        tensor.type = getattr(schema.TensorType, dtype.upper())
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = np.asarray(scale, np.float32)
        tensor.quantization.zeroPoint = np.asarray(zero, np.int64)
        tensor.quantization.quantizedDimension = axis

    def _values(self, index: int) -> NDArray[np.float32]:
        tensor = self._graph.tensors[index]
        data = self._model.buffers[tensor.buffer].data
        if data is None or tensor.type != schema.TensorType.FLOAT32:
            raise BundleError(f"tensor {index} of the graph should be a float32 constant")
        return np.frombuffer(bytes(data), np.float32).reshape(tensor.shape)

    def _store(self, index: int, values: NDArray[Any], dtype: str) -> None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values, np.dtype(dtype)).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        self._graph.tensors[index].buffer = len(self._model.buffers) - 1

    def _own(self, operator: Any, place: int) -> int:
        """Return the number of a constant input that no other operator has: constants are shared, their scales not."""
        index = int(operator.inputs[place])
        if self._uses[index] < 2:
            return index
        self._graph.tensors.append(copy.copy(self._graph.tensors[index]))
        index = len(self._graph.tensors) - 1
        operator.inputs = np.array([*operator.inputs[:place], index, *operator.inputs[place + 1 :]], np.int32)
        return index

    def weights(self, name: str, operator: Any, one_scale: bool) -> None:
        """Quantise kernel and bias of a sum of products."""
        source = self._graph.tensors[int(operator.inputs[0])].quantization.scale[0]
        has_bias = len(operator.inputs) > 2 and operator.inputs[2] >= 0
        kernel = self._values(int(operator.inputs[1]))
        bias = self._values(int(operator.inputs[2])) if has_bias else None
        axis = scale_axis(name, kernel, one_scale)
        alike = self._with.get(int(operator.inputs[1])) if axis is None else None
        scales = weight_scales(kernel if alike is None else np.stack(alike), axis, bias, float(source))
        moves = np.isin(kernel, (0, 1)).all()  # it is a slice: one step must stay one step
        if self._kind is INT8 and name in CHANNEL_AXIS and len(scales) <= MOST and not moves:
            results = [int(operator.outputs[0])] if alike is None else self._results[int(operator.inputs[1])]
            uses = [(source.item(), self._graph.tensors[i].quantization.scale[0].item()) for i in results]
            tried = CANDIDATES // len(scales)
            scales = np.array([calm(scale, uses, candidates=tried) for scale in scales.tolist()], np.float32)
        steps = np.rint(kernel / _along(scales, kernel.ndim, axis))
        index = self._own(operator, 1)
        self._store(index, np.clip(steps, -127, 127), "int8")
        self.describe(index, "int8", scales, np.zeros(len(scales)), axis=axis or 0)
        if bias is not None:
            index = self._own(operator, 2)
            products = scales * np.float32(source)
            limit = 2**31 - 1 if self._kind is INT8 else 2**39
            self._store(index, np.clip(np.rint(bias.astype(np.float64) / products), -limit, limit), self._kind.bias)
            self.describe(index, self._kind.bias, products, np.zeros(len(products)))

    def constant(self, index: int) -> None:
        """Quantise a constant operand as if it were an activation."""
        values = self._values(index)
        scale, zero = self._kind.scale_and_zero((float(values.min()), float(values.max())))
        steps = np.clip(np.rint(values / scale) + zero, self._kind.low, self._kind.high)
        self._store(index, steps, self._kind.name)
        self.describe(index, self._kind.name, [scale], [zero])


def kernels_alike(graph: tflite.Subgraph) -> dict[int, tuple[int, ...]]:
    """Return by kernel which convolutions' kernels share its scale: those of one shape that read one tensor.

    They are the halves of what the network has as one convolution.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for operator in graph.operators:
        if operator.name == "CONV_2D":
            source, kernel = operator.inputs[:2]
            found.setdefault((source, *graph.tensors[kernel].shape), []).append(kernel)
    return {kernel: tuple(kernels) for kernels in found.values() for kernel in kernels if len(kernels) > 1}


def scale_axis(name: str, kernel: NDArray[np.float32], one_scale: bool) -> int | None:
    """Return the axis of a kernel along which scales differ, None if it has one scale."""
    axis = CHANNEL_AXIS.get(name)
    if axis is None or (one_scale and name == "CONV_2D"):
        return None
    largest = np.abs(kernel).max(tuple(i for i in range(kernel.ndim) if i != axis))
    return None if (largest == largest[0]).all() else axis  # they would all be equal


def weight_scales(
    kernel: NDArray[np.float32], axis: int | None, bias: NDArray[np.float32] | None = None, source: float = 1.0
) -> NDArray[np.float32]:
    """Return the scale of each output channel, or one where `axis` is None.

    A channel of zeros gets one with which its bias still fits into int32.
    """
    others = tuple(i for i in range(kernel.ndim) if i != axis) if axis is not None else None
    largest = np.atleast_1d(np.abs(kernel).max(others)) / 127
    if bias is not None:
        room = np.abs(bias).astype(np.float64) / (source * 2**30)
        largest = np.maximum(largest, room if axis is not None else room.max())
    return np.maximum(largest, 1e-9).astype(np.float32)


def _along(scales: NDArray[np.float32], dimensions: int, axis: int | None) -> NDArray[np.float32]:
    return scales.reshape([-1 if i == axis else 1 for i in range(dimensions)]) if axis is not None else scales
