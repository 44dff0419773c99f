"""Frames that are skipped, as XNNPACK takes them: ``x[:, :, first::step]`` as a convolution where the step is not 1.

XNNPACK copies a STRIDED_SLICE without a step (0.3 us where the convolution below takes 1 or 2), but takes none with a
step, and every operator that it leaves out splits the graph it runs into two. A depthwise convolution with the taps
(0, 1), dilated by `first` and with stride `step`, gives the same numbers, bit for bit in int8 too, and one kernel
serves all slices of as many channels: fewer bytes than constants for begin and step.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from edge_runtime import BundleError, tflite

from .objects import operator_name, unpack
from .pack import pack


def slices_as_convolutions(flatbuffer: bytes) -> bytes:
    """Return a float graph of (1, rows, frames, channels) with its slices along time replaced."""
    model = unpack(flatbuffer)
    graph = model.subgraphs[0]
    constants: dict[int, list[int]] = {}
    for operator in graph.operators:
        if operator_name(model, operator) != "STRIDED_SLICE":
            continue
        first, step = _first_and_step(model, graph, operator)
        if step == 1:
            # all go to the end, by the mask: any four numbers will do for it, and these are there
            operator.inputs = np.array([*operator.inputs[:2], operator.inputs[1], operator.inputs[3]], np.int32)
            continue
        if not first:
            raise BundleError("a slice from the first frame on has no form as a convolution")
        channels = int(graph.tensors[int(operator.inputs[0])].shape[3])
        if channels not in constants:  # without a bias the float kernel of LiteRT 2.3 crashes
            taps = np.repeat(np.array([0, 1], np.float32), channels).reshape(1, 1, 2, channels)
            constants[channels] = [_add(model, graph, values) for values in (taps, np.zeros(channels, np.float32))]
        operator.inputs = np.array([operator.inputs[0], *constants[channels]], np.int32)
        operator.opcodeIndex = _code(model, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
        operator.builtinOptionsType = schema.BuiltinOptions.DepthwiseConv2DOptions
        options = operator.builtinOptions = schema.DepthwiseConv2DOptionsT()
        options.padding, options.depthMultiplier = schema.Padding.VALID, 1
        options.strideH, options.strideW = step, step  # height is 1, and XNNPACK wants both alike where it can choose
        options.dilationWFactor = first
    return pack(model)


def is_identity(graph: tflite.Subgraph, operator: tflite.Operator) -> bool:
    """Return whether an operator is such a convolution: it moves numbers and changes none."""
    if operator.name != "DEPTHWISE_CONV_2D" or operator.options["activation"]:
        return False
    kernel, bias = (graph.tensors[i] for i in operator.inputs[1:])
    if kernel.data is None or bias.data is None or kernel.dtype != "float32" or operator.options["multiplier"] != 1:
        return False
    values = np.frombuffer(kernel.data, np.float32).reshape(-1, kernel.shape[-1])
    return bool(np.isin(values, (0, 1)).all() and (values.sum(axis=0) == 1).all() and not any(bytes(bias.data)))


def _first_and_step(model: Any, graph: Any, operator: Any) -> tuple[int, int]:
    """Return which frames of (1, rows, frames, channels) a STRIDED_SLICE takes, as in ``x[:, :, first::step]``."""
    begin, step = (_constant(model, graph.tensors[int(operator.inputs[i])]) for i in (1, 3))
    options = operator.builtinOptions
    others = options.ellipsisMask | options.newAxisMask | options.shrinkAxisMask
    if (options.beginMask, options.endMask, others) != (0b1011, 0b1111, 0) or step != [1, 1, *step[2:3], 1]:
        raise BundleError("a STRIDED_SLICE along anything but time is not known")
    return begin[2], step[2]


def _constant(model: Any, tensor: Any) -> list[int]:
    data = model.buffers[tensor.buffer].data
    if data is None or tensor.type != schema.TensorType.INT32:
        return []
    return [int(n) for n in np.frombuffer(bytes(data), np.int32)]


def _add(model: Any, graph: Any, values: NDArray[np.float32]) -> int:
    """Add a constant and return its tensor's number."""
    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.shape, tensor.type = np.array(values.shape, np.int32), schema.TensorType.FLOAT32
    tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _code(model: Any, builtin: int) -> int:
    """Return the number of an operator code, added if it is new."""
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
            return index
    code = copy.copy(model.operatorCodes[0])
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 2  # dilation
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1

