"""The numpy executor behind the part of TFLite's ``Interpreter`` interface that `edge_runtime.interpreter` uses.

So the interpreter of last resort is one more entry of that module's table, and no caller knows the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import tflite
from .errors import InterpreterError
from .executor import Executor, quantization
from .fixedpoint import Array


class Interpreter:
    """TFLite's ``Interpreter``, on numpy; `num_threads` is numpy's own affair and ignored.

    Raises
    ------
    BundleError
        If the flatbuffer is damaged.
    InterpreterError
        If a graph holds what the executor does not know.
    """

    def __init__(self, *, model_content: bytes, num_threads: int = 1) -> None:
        self._model = tflite.read(model_content)
        self._graph = self._model.subgraphs[0]
        self._frames: int | None = None
        self._built: Executor | None = None

    @property
    def _executor(self) -> Executor:
        if self._built is None:
            self.allocate_tensors()
        assert self._built is not None
        return self._built

    def get_input_details(self) -> list[dict[str, Any]]:
        """Return index, name, shape, type and quantisation of the inputs."""
        shape = None if self._built is None else self._built.input_shape
        return [_details(self._graph.tensors[i], shape) for i in self._graph.inputs]

    def get_output_details(self) -> list[dict[str, Any]]:
        """Return the same of the outputs; their shape is right once the tensors are allocated."""
        shape = None if self._built is None else self._built.output_shape
        return [_details(self._graph.tensors[i], shape) for i in self._graph.outputs]

    def resize_tensor_input(self, index: int, shape: Sequence[int]) -> None:
        """Take another length of the input's third axis."""
        own = self._graph.tensors[index].shape
        if len(own) < 3 or len(shape) != len(own) or (*own[:2], shape[2], *own[3:]) != tuple(shape):
            raise InterpreterError(f"an input of shape {own} cannot become {tuple(shape)}: only its third axis can")
        self._frames, self._built = int(shape[2]), None

    def allocate_tensors(self) -> None:
        """Prepare the graph for its input's shape."""
        self._built = Executor(self._model, frames=self._frames)

    def tensor(self, index: int) -> Callable[[], Array]:
        """Return a function that returns the input itself."""
        if index != self._graph.inputs[0]:
            raise InterpreterError(f"tensor {index} is not the input")
        return self._executor.fill

    def set_tensor(self, index: int, value: Array) -> None:
        """Copy an array into the input."""
        self._executor.set(value)

    def invoke(self) -> None:
        """Run the graph."""
        self._result = self._executor.invoke()

    def get_tensor(self, index: int) -> Array:
        """Return the output of the last `invoke`."""
        return self._result

    def _get_ops_details(self) -> list[dict[str, Any]]:
        return [
            {"index": i, "op_name": operator.name, "inputs": operator.inputs, "outputs": operator.outputs}
            for i, operator in enumerate(self._graph.operators)
        ]


def _details(tensor: tflite.Tensor, shape: tuple[int, ...] | None) -> dict[str, Any]:
    if tensor.dtype not in np.sctypeDict:
        raise InterpreterError(f"tensor {tensor.index} has type {tensor.dtype}, which is not supported")
    return {
        "index": tensor.index,
        "name": tensor.name,
        "shape": np.array(tensor.shape if shape is None else shape, np.int32),
        "dtype": np.dtype(tensor.dtype).type,
        "quantization": quantization(tensor),
    }
