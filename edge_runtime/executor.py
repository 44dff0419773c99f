"""A reference executor for TFLite graphs in numpy: it needs no interpreter and shows every tensor on the way.

Its int8 results equal those of TFLite's reference kernels bit for bit, so it says what a graph means where two
interpreters differ. Told to round once, it gives those of XNNPACK, which the shipped graphs' convolutions and products
differ in by nothing else (`tests/test_interpreter.py`). It is no substitute for them in speed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import convolution, kernels, tflite
from .errors import InterpreterError
from .fixedpoint import Array
from .interpreter import Nodes
from .kernels import Kernel, Node

OPERATORS: dict[str, Callable[[Node], Kernel]] = {
    "ADD": kernels.add,
    "AVERAGE_POOL_2D": convolution.average_pool_2d,
    "CONCATENATION": kernels.concatenation,
    "CONV_2D": convolution.conv_2d,
    "DEPTHWISE_CONV_2D": convolution.depthwise_conv_2d,
    "DEQUANTIZE": kernels.dequantize,
    "FULLY_CONNECTED": convolution.fully_connected,
    "LOGISTIC": kernels.logistic,
    "MAX_POOL_2D": convolution.max_pool_2d,
    "MEAN": kernels.mean,
    "MUL": kernels.mul,
    "PAD": kernels.pad,
    "QUANTIZE": kernels.quantize,
    "RESHAPE": kernels.reshape,
    "SOFTMAX": kernels.softmax,
    "SPLIT": kernels.split,
    "STRIDED_SLICE": kernels.strided_slice,
    "TANH": kernels.tanh,
    "TRANSPOSE": kernels.transpose,
}

# what numpy and Python raise when the operators of a foreign graph do not fit each other
_MISFITS = (ArithmeticError, AttributeError, IndexError, KeyError, MemoryError, TypeError, ValueError)


@dataclass(frozen=True)
class _Step:
    """An operator that is ready to run: numbers of its input tensors (-1: absent) and output tensors."""

    name: str
    kernel: Kernel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Executor:
    """A graph ready to run in numpy, with the interface of `edge_runtime.interpreter.Session`.

    Parameters
    ----------
    model : bytes or Model
        A flatbuffer, or one that was read; its first graph has one input and one output, int8 or float32.
    frames : int, optional
        Length of the input's third axis, the time, if other than the model's own.
    rounds_once : bool
        Round products as XNNPACK does and not as the reference kernels do.

    Raises
    ------
    BundleError
        If the flatbuffer is damaged.
    InterpreterError
        If the graph holds an operator, a type or an option that is not known here, or does not fit `frames`.

    Attributes
    ----------
    backend, version : str
        ``numpy`` and its version.
    input_shape, output_shape : tuple of int
    input_dtype, output_dtype : np.dtype
    input_quantization, output_quantization : (scale, zero point)
        (0.0, 0) where the tensor is float.
    """

    backend = "numpy"
    version = np.__version__

    def __init__(self, model: bytes | tflite.Model, *, frames: int | None = None, rounds_once: bool = False) -> None:
        graph = _graph(model if isinstance(model, tflite.Model) else tflite.read(model))
        self._in, self._out = graph.inputs[0], graph.outputs[0]
        source, result = graph.tensors[self._in], graph.tensors[self._out]
        self.input_quantization, self.output_quantization = quantization(source), quantization(result)
        self._steps = [_prepare(graph, operator, rounds_once) for operator in graph.operators]
        if self._out not in {self._in, *(i for step in self._steps for i in step.outputs)}:
            raise InterpreterError(f"no operator writes the graph's output, tensor {self._out}")
        used = {i for step in self._steps for i in step.inputs if i >= 0}
        values = {i: kernels.constant(graph.tensors[i]) for i in used}
        self._constants = {i: value for i, value in values.items() if value is not None}
        self._input = _empty(source, frames)
        self.input_shape, self.input_dtype = self._input.shape, self._input.dtype
        example = self.invoke()  # every kernel finds the shape of its output from those of its inputs
        self.output_shape, self.output_dtype = example.shape, example.dtype

    def fill(self) -> Array:
        """Return the input tensor itself, to be written in place: no copy is made."""
        return self._input

    def invoke(self) -> Array:
        """Run the graph on what the input holds and return a copy of the output."""
        return self._values()[self._out].copy()

    def run(self, x: Array) -> Array:
        """Set the input, run, and return a copy of the output.

        Raises
        ------
        InterpreterError
            If `x` has another shape or type than the input.
        """
        self.set(x)
        return self.invoke()

    def tensors(self, x: Array) -> dict[int, Array]:
        """Set the input, run, and return a copy of every tensor that is not constant, by its number in the graph."""
        self.set(x)
        return {i: value.copy() for i, value in self._values().items() if i not in self._constants}

    def nodes(self) -> Nodes:
        """Return how many operators there are; none is in a delegate."""
        return Nodes(len(self._steps), 0, 0)

    def set(self, x: Array) -> None:
        """Copy an array into the input; see `run`."""
        if x.shape != self.input_shape or x.dtype != self.input_dtype:
            expected = f"{self.input_dtype} of shape {self.input_shape}"
            raise InterpreterError(f"the input is {x.dtype} of shape {x.shape}, the graph takes {expected}")
        self._input[...] = x

    def _values(self) -> dict[int, Array]:
        """Run the graph and return all tensors by number; some share memory."""
        values = {**self._constants, self._in: self._input}
        for step in self._steps:
            try:
                result = step.kernel(*(values[i] if i >= 0 else None for i in step.inputs))
                values.update(zip(step.outputs, result if isinstance(result, list) else [result], strict=True))
            except _MISFITS as error:
                shapes = [values[i].shape for i in step.inputs if i in values]
                raise InterpreterError(f"operator {step.name} cannot run on shapes {shapes}: {error}") from None
        return values


def _graph(model: tflite.Model) -> tflite.Subgraph:
    graph = model.subgraphs[0]
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        counts = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        raise InterpreterError(f"the graph has {counts}, not one each")
    return graph


def _prepare(graph: tflite.Subgraph, operator: tflite.Operator, rounds_once: bool) -> _Step:
    if operator.name not in OPERATORS:
        raise InterpreterError(f"operator {operator.name} is not known to the numpy executor")
    inputs = tuple(graph.tensors[i] if i >= 0 else None for i in operator.inputs)
    outputs = tuple(graph.tensors[i] for i in operator.outputs)
    node = Node(operator.name, operator.options, inputs, outputs, rounds_once)
    try:
        return _Step(operator.name, OPERATORS[operator.name](node), operator.inputs, operator.outputs)
    except _MISFITS as error:
        raise node.refuse(f"its tensors or options make no sense: {error}") from None


def quantization(tensor: tflite.Tensor) -> tuple[float, int]:
    """Return the scale and zero point of a tensor as an interpreter does."""
    if tensor.quantization is None:
        return 0.0, 0
    return tensor.quantization.scale[0], tensor.quantization.zero_point[0]


def _empty(tensor: tflite.Tensor, frames: int | None) -> Array:
    """Return an input tensor full of what stands for 0, with `frames` on its third axis."""
    shape = list(tensor.shape)
    if frames is not None:
        if len(shape) < 3 or frames < 1:
            raise InterpreterError(f"an input of shape {tensor.shape} cannot have {frames} frames")
        shape[2] = frames
    try:
        return np.full(shape, quantization(tensor)[1], np.dtype(tensor.dtype))
    except TypeError:
        raise InterpreterError(f"an input of type {tensor.dtype} is not supported") from None
