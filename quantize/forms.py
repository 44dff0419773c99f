"""A converted clip graph to a flatbuffer with two signatures that share every weight.

``clip`` is the strided graph. ``dense`` is the same operators with dilation in place of stride ("a trous"): a
decision every frame. Both quantise alike, since they hold the same tensors, so dense output t is, bit for bit, what
the strided network gives for the clip that ends at frame t.

What no interpreter reads (names, calibration ranges, converter metadata) is dropped, equal buffers are stored once.
"""

from __future__ import annotations

import copy
from typing import Any

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from edge_runtime import BundleError

_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def two_forms(flatbuffer: bytes, *, block_frames: int, receptive_field: int) -> bytes:
    """Return the flatbuffer with the signatures ``clip`` and ``dense``.

    Parameters
    ----------
    flatbuffer : bytes
        As the converter writes it: one graph, features (1, 1, frames, inputs) to probabilities (1, classes).
    block_frames : int
        Decisions in a call of the dense form; its input is ``block_frames + receptive_field - 1`` frames.

    Raises
    ------
    BundleError
        If the graph holds an operator that this rewrite does not know.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    clip = model.subgraphs[0]
    dense = _dense(model, copy.deepcopy(clip), block_frames + receptive_field - 1)
    model.subgraphs = [clip, dense]
    model.signatureDefs = [
        _signature("clip", 0, clip, "features", "probabilities"),
        _signature("dense", 1, dense, "features", "logits"),
    ]
    _strip(model)
    builder = flatbuffers.Builder(len(flatbuffer))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _operator_name(model: Any, operator: Any) -> str:
    code = model.operatorCodes[operator.opcodeIndex]
    return _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]


def _constant(model: Any, graph: Any, index: int) -> np.ndarray[Any, Any]:
    return np.frombuffer(bytes(model.buffers[graph.tensors[index].buffer].data), np.int32).copy()


def _new_constant(model: Any, graph: Any, like: int, values: np.ndarray[Any, Any]) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.astype(np.int32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor = copy.deepcopy(graph.tensors[like])
    tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _dense(model: Any, graph: Any, frames: int) -> Any:
    """Turn strides into dilations in a copy of the clip graph, and drop the pooling and the softmax.

    `rate` is how many frames lie between two values of a tensor in the strided form, `length` how many values it has
    in the dense form.
    """
    graph.name = b"dense"
    start = int(graph.inputs[0])
    rate, length = {start: 1}, {start: frames}
    kept = []
    for operator in graph.operators:
        name = _operator_name(model, operator)
        if name in ("MEAN", "SOFTMAX"):
            continue
        source = int(operator.inputs[1 if name == "SPLIT" else 0])
        new_rate, new_length = rate[source], length[source]
        if name == "CONV_2D":
            options = operator.builtinOptions
            taps = int(graph.tensors[int(operator.inputs[1])].shape[2])
            new_rate = rate[source] * options.strideW
            options.strideW, options.dilationWFactor = 1, rate[source] if taps > 1 else 1
            new_length -= (taps - 1) * rate[source]
        elif name == "STRIDED_SLICE":
            begin = _constant(model, graph, int(operator.inputs[1]))
            strides = _constant(model, graph, int(operator.inputs[3]))
            new_rate = rate[source] * int(strides[2])
            begin[2] *= rate[source]
            strides[2] = 1
            new_length -= int(begin[2])
            operator.inputs[1] = _new_constant(model, graph, int(operator.inputs[1]), begin)
            operator.inputs[3] = _new_constant(model, graph, int(operator.inputs[3]), strides)
        elif name not in ("SPLIT", "LOGISTIC", "TANH", "MUL", "ADD", "CONCATENATION"):
            raise BundleError(f"the dense form of operator {name} is not known")
        kept.append(operator)
        for output in operator.outputs:
            rate[int(output)], length[int(output)] = new_rate, new_length
    for index, frames_there in length.items():
        tensor = graph.tensors[index]
        tensor.shape = np.array([1, 1, frames_there, tensor.shape[-1]], np.int32)
        tensor.shapeSignature = None
    graph.operators = kept
    graph.outputs = np.array(kept[-1].outputs, np.int32)
    return _without_unused_tensors(graph)


def _without_unused_tensors(graph: Any) -> Any:
    used = sorted(
        {int(i) for o in graph.operators for i in (*o.inputs, *o.outputs) if i >= 0}
        | {int(i) for i in (*graph.inputs, *graph.outputs)}
    )
    place = {old: new for new, old in enumerate(used)} | {-1: -1}
    graph.tensors = [graph.tensors[i] for i in used]
    for operator in graph.operators:
        operator.inputs = np.array([place[int(i)] for i in operator.inputs], np.int32)
        operator.outputs = np.array([place[int(i)] for i in operator.outputs], np.int32)
    graph.inputs = np.array([place[int(i)] for i in graph.inputs], np.int32)
    graph.outputs = np.array([place[int(i)] for i in graph.outputs], np.int32)
    return graph


def _signature(key: str, number: int, graph: Any, source: str, result: str) -> Any:
    def entry(name: str, index: int) -> Any:
        item = schema.TensorMapT()
        item.name, item.tensorIndex = name, int(index)
        return item

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key, number
    signature.inputs = [entry(source, graph.inputs[0])]
    signature.outputs = [entry(result, graph.outputs[0])]
    return signature


def _strip(model: Any) -> None:
    model.metadata = None
    model.metadataBuffer = None
    model.description = None
    place: dict[bytes, int] = {b"": 0}
    buffers = [schema.BufferT()]
    for graph in model.subgraphs:
        ends = {int(i) for i in (*graph.inputs, *graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            data = model.buffers[tensor.buffer].data
            content = b"" if data is None else bytes(data)
            if content not in place:
                place[content] = len(buffers)
                buffers.append(schema.BufferT())
                buffers[-1].data = np.frombuffer(content, np.uint8)
            tensor.buffer = place[content]
            if index not in ends:
                tensor.name = None
            if tensor.quantization is not None:
                tensor.quantization.min = tensor.quantization.max = None
                if tensor.quantization.scale is None:
                    tensor.quantization = None
    model.buffers = buffers
