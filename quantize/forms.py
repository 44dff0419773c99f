"""A converted clip graph to a flatbuffer with two signatures that share every tensor.

``clip`` is the strided graph. ``dense`` is the same operators with dilation in place of stride ("a trous"): a
decision every frame. Both quantise alike, since they hold the same tensors, so dense output t is, bit for bit, what
the strided network gives for the clip that ends at frame t.

Both have one list of tensors, whose time axis is left open between input and output (a signature of -1, as the
converter writes what it does not know; interpreters work it out when they allocate, `edge_runtime.shapes` when we
read). Most operators of the one are then those of the other, and `pack` stores them once.
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
        One graph, features (1, 1, frames, inputs) to probabilities (1, classes).
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
    leave_open(model, clip)
    dense = _dense(model, clip, block_frames, block_frames + receptive_field - 1)
    _number(clip, dense)
    model.subgraphs = [clip, dense]
    model.signatureDefs = [
        _signature("clip", 0, clip, "features", "probabilities"),
        _signature("dense", 1, dense, "features", "logits"),
    ]
    strip(model)
    return pack(model)


def one_form(flatbuffer: bytes) -> bytes:
    """Return the flatbuffer with the signature ``clip`` alone."""
    model = unpack(flatbuffer)
    clip = model.subgraphs[0]
    clip.name = b"clip"
    model.signatureDefs = [_signature("clip", 0, clip, "features", "probabilities")]
    strip(model)
    return pack(model)


def leave_open(model: Any, graph: Any) -> None:
    """Mark the time axis of all that lies between a graph's input and output as unknown, and drop default options."""
    ends = {int(i) for i in (*graph.inputs, *graph.outputs)}
    for operator in graph.operators:
        name = operator_name(model, operator)
        if name in ("MUL", "ADD", "MEAN") and _all_default(operator.builtinOptions):
            # every interpreter takes the defaults without them (but for a flag of ADD that only int16 knows)
            operator.builtinOptions, operator.builtinOptionsType = None, schema.BuiltinOptions.NONE
        for index in (int(i) for i in operator.outputs):
            tensor = graph.tensors[index]
            if name == "DEQUANTIZE":  # of a constant
                continue
            if index not in ends and len(tensor.shape) == 4:
                tensor.shapeSignature = np.array([*tensor.shape[:2], -1, tensor.shape[3]], np.int32)
                tensor.shape = np.array([*tensor.shape[:2], 1, tensor.shape[3]], np.int32)


def _all_default(options: Any) -> bool:
    return options is not None and vars(options) == vars(type(options)())


def _dense(model: Any, clip: Any, block_frames: int, frames: int) -> Any:
    """Return the graph with dilations in place of strides, without pooling and softmax.

    It has the clip graph's list of tensors, and two more in it: its own input and output. `rate` is how many frames
    lie between two values of a tensor in the strided form.
    """
    dense = schema.SubGraphT()
    dense.name, dense.tensors, dense.operators = b"dense", clip.tensors, []
    start = int(clip.inputs[0])
    rate = {start: 1}
    for original in clip.operators:
        name = operator_name(model, original)
        if name in ("MEAN", "SOFTMAX"):
            continue
        operator = copy.deepcopy(original)
        source = next((int(i) for i in operator.inputs if int(i) in rate), None)
        new_rate = rate[source] if source is not None else 1
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            options, before = operator.builtinOptions, new_rate
            taps = int(clip.tensors[int(operator.inputs[1])].shape[2])
            new_rate = before * options.strideW
            options.strideW = options.strideH = 1
            options.dilationWFactor = options.dilationWFactor * before if taps > 1 else 1
        elif name == "STRIDED_SLICE" and new_rate > 1:
            raise BundleError("the dense form of a slice behind a stride is not known")
        elif name not in ("SPLIT", "STRIDED_SLICE", "LOGISTIC", "TANH", "MUL", "ADD", "CONCATENATION", "DEQUANTIZE"):
            raise BundleError(f"the dense form of operator {name} is not known")
        if source is not None:  # else it unpacks a constant
            rate |= dict.fromkeys((int(i) for i in operator.outputs), new_rate)
        dense.operators.append(operator)
    features = _like(clip, start, frames)
    logits = _like(clip, int(dense.operators[-1].outputs[0]), block_frames)
    for operator in dense.operators:
        operator.inputs = np.array([features if i == start else i for i in operator.inputs], np.int32)
    dense.operators[-1].outputs = np.array([logits], np.int32)
    dense.inputs, dense.outputs = np.array([features], np.int32), np.array([logits], np.int32)
    return dense


def _like(graph: Any, index: int, frames: int) -> int:
    """Add a tensor of another length and return its number."""
    tensor = copy.copy(graph.tensors[index])
    tensor.shape = np.array([*tensor.shape[:2], frames, tensor.shape[3]], np.int32)
    tensor.shapeSignature = None
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _number(clip: Any, dense: Any) -> None:
    """Number the tensors of both graphs by how often they are used; drop those that neither uses.

    The axis of the SPLITs is first, so that a list of inputs ``[2, 0, n]`` ends with the list ``[0, n]``.
    """
    uses = Counter(int(i) for g in (clip, dense) for o in g.operators for i in (*o.inputs, *o.outputs) if i >= 0)
    order = sorted(uses, key=lambda i: (-uses[i], i))
    place = {old: new for new, old in enumerate(order)} | {-1: -1}
    clip.tensors = dense.tensors = [clip.tensors[i] for i in order]
    for entry in (clip, *clip.operators, dense, *dense.operators):
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
