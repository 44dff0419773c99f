"""A converted clip graph to a flatbuffer with two signatures that share every weight.

``clip`` is the strided graph. ``dense`` is the same operators with dilation in place of stride ("a trous"): a
decision every frame. Both quantise alike, since they hold the same tensors, so dense output t is, bit for bit, what
the strided network gives for the clip that ends at frame t.

Both number their tensors alike, so that most operators of the one are those of the other: `pack` stores them once.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from edge_runtime import BundleError

from .objects import operator_name, unpack
from .pack import pack, strip


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
    model = unpack(flatbuffer)
    clip = model.subgraphs[0]
    clip.name = b"clip"
    for operator in clip.operators:
        name = operator_name(model, operator)
        if name == "STRIDED_SLICE":
            _slice(model, clip, operator, *_first_and_step(model, clip, operator))
        elif name in ("MUL", "ADD", "MEAN") and _all_default(operator.builtinOptions):
            # every interpreter takes the defaults without them (but for a flag of ADD that only int16 knows)
            operator.builtinOptions, operator.builtinOptionsType = None, schema.BuiltinOptions.NONE
    dense = _dense(model, copy.deepcopy(clip), block_frames + receptive_field - 1)
    _number_alike(clip, dense)
    model.subgraphs = [clip, dense]
    model.signatureDefs = [
        _signature("clip", 0, clip, "features", "probabilities"),
        _signature("dense", 1, dense, "features", "logits"),
    ]
    strip(model)
    return pack(model)


def _all_default(options: Any) -> bool:
    return options is not None and vars(options) == vars(type(options)())


def _constant(model: Any, tensor: Any) -> list[int]:
    """Return the numbers of a constant int32 tensor, none for any other."""
    data = model.buffers[tensor.buffer].data
    if data is None or tensor.type != schema.TensorType.INT32:
        return []
    return [int(n) for n in np.frombuffer(bytes(data), np.int32)]


def _first_and_step(model: Any, graph: Any, operator: Any) -> tuple[int, int]:
    """Return which frames of (1, 1, frames, channels) a STRIDED_SLICE takes, as in ``x[:, :, first::step]``."""
    first, step = (_constant(model, graph.tensors[int(operator.inputs[i])]) for i in (1, 3))
    options = operator.builtinOptions
    others = options.ellipsisMask | options.newAxisMask | options.shrinkAxisMask
    if (options.beginMask, options.endMask, others) != (0b1011, 0b1111, 0) or step != [1, 1, *step[2:3], 1]:
        raise BundleError("the dense form of a STRIDED_SLICE along anything but time is not known")
    return first[2], step[2]


def _slice(model: Any, graph: Any, operator: Any, first: int, step: int) -> None:
    """Let a STRIDED_SLICE take these frames; constants are shared, also between `first` and `step`.

    The masks hide where the other axes begin and where all of them end, so one constant (1, 1, n, 1) serves as
    beginning and as step, and any as the end.
    """
    places = []
    for value in (first, step):
        wanted = [1, 1, value, 1]
        found = next((i for i, tensor in enumerate(graph.tensors) if _constant(model, tensor) == wanted), None)
        if found is None:
            buffer = schema.BufferT()
            buffer.data = np.array(wanted, "<i4").view(np.uint8)
            model.buffers.append(buffer)
            tensor = copy.deepcopy(graph.tensors[int(operator.inputs[1])])
            tensor.buffer = len(model.buffers) - 1
            graph.tensors.append(tensor)
            found = len(graph.tensors) - 1
        places.append(found)
    operator.inputs = np.array([operator.inputs[0], places[0], places[0], places[1]], np.int32)


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
        name = operator_name(model, operator)
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
            first, step = _first_and_step(model, graph, operator)
            new_rate = rate[source] * step
            new_length -= first * rate[source]
            _slice(model, graph, operator, first * rate[source], 1)
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
    return graph


def _number_alike(clip: Any, dense: Any) -> None:
    """Number the tensors that both graphs use first and alike, then those of only one; drop those of none.

    `dense` began as a copy of `clip`: their numbers mean the same so far. The input comes first, then what is used
    most often: the axis of the SPLITs is 1, so that a list of inputs ``[2, 1, n]`` ends with the list ``[1, n]``.
    """
    uses = [
        Counter(int(i) for o in graph.operators for i in (*o.inputs, *o.outputs) if i >= 0) for graph in (clip, dense)
    ]
    both = uses[0].keys() & uses[1].keys()
    for graph, count in zip((clip, dense), uses, strict=True):
        order = sorted(count, key=lambda i: (i not in both, i not in graph.inputs, -(uses[0][i] + uses[1][i]), i))
        place = {old: new for new, old in enumerate(order)} | {-1: -1}
        graph.tensors = [graph.tensors[i] for i in order]
        for entry in (graph, *graph.operators):
            entry.inputs = np.array([place[int(i)] for i in entry.inputs], np.int32)
            entry.outputs = np.array([place[int(i)] for i in entry.outputs], np.int32)


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
