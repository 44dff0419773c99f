"""Activation ranges that calibration gets wrong for a gated network, put right in a converted int8 graph.

Only scales and zero points of activations change; weights and biases do not depend on them.

* A gate's convolution is followed by sigmoid and tanh. In int8 they are flat beyond 5.5 and 3.2: what lies farther out
  need not be told apart, and a range of +-6 in place of +-24 gives four times the resolution where it counts.
* The mean over time sees three instants in calibration. In a clip of 0.5 or 1 s it sees one, which ranges wider: it
  takes the range of what it averages.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from .objects import operator_name, unpack
from .pack import pack

GATE_RANGE = 6.0


def correct_ranges(flatbuffer: bytes) -> bytes:
    """Return the converted graph with better ranges; a float graph comes back as it is."""
    model = unpack(flatbuffer)
    graph = model.subgraphs[0]
    if graph.tensors[int(graph.inputs[0])].type != schema.TensorType.INT8:
        return flatbuffer
    for operator in graph.operators:
        name = operator_name(model, operator)
        if name == "SPLIT":
            _narrow(graph, int(operator.inputs[1]), [int(i) for i in operator.outputs])
        elif name == "MEAN":
            source, result = (graph.tensors[int(i)] for i in (operator.inputs[0], operator.outputs[0]))
            result.quantization = copy.deepcopy(source.quantization)
    return pack(model)


def _narrow(graph: Any, whole: int, halves: list[int]) -> None:
    scale = float(graph.tensors[whole].quantization.scale[0])
    if scale <= GATE_RANGE / 128:
        return
    for index in (whole, *halves):
        quantization = graph.tensors[index].quantization
        quantization.scale = np.array([GATE_RANGE / 128], np.float32)
        quantization.zeroPoint = np.array([0], np.int64)
