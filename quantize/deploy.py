"""A trained Keras model to the float graph that is deployed, in the form that was asked for.

SwishNet has forms of its own (`fuse`). Any other network is taken as Keras runs it, behind the bundle's input
(1, 1, frames, features).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from edge_bench.train.models.swishnet import RECEPTIVE_FIELD, STRIDE
from edge_runtime import BundleError, ConfigError, EdgeBenchError, tflite
from edge_runtime.interpreter import Session

from .fuse import PAIRS, fuse
from .graph import clip_function
from .objects import operator_name, unpack
from .pack import pack
from .slices import is_identity, slices_as_convolutions

DENSE_BLOCK = 512
OPTIMISE = ("balanced", "latency", "size")
WORTH_PARTS = 1024  # bytes of weights that a block in parts must save where time counts too
APART = ("b1", "b2", "b3", "b4", "b5")  # many rows: a convolution each for sigmoids and tanhs is faster than SPLIT


@dataclass(frozen=True)
class Deployed:
    """A network on its way to a bundle.

    Attributes
    ----------
    convert : callable
        Of a ``tf.lite.TFLiteConverter`` setup function (or None) to the flatbuffer of one graph.
    frames : int
        Length of its input.
    receptive_field, stride : int
        In frames.
    clip : dict or None
        Which lengths the input can have (`edge_runtime.bundle.Bundle.padded_frames`); None for SwishNet's rule.
    has_dense : bool
        Whether a dense form can be derived.
    one_scale : bool
        Whether a layer's weights share one scale.
    form : str
        For people: ``fused``, ``b1 in parts``, ``plain``.
    """

    convert: Callable[[Callable[[Any], None] | None], bytes]
    frames: int
    receptive_field: int
    stride: int
    clip: dict[str, int] | None
    has_dense: bool
    one_scale: bool
    form: str


def is_swishnet(model: keras.Model) -> bool:
    """Return whether the forms of `fuse` fit."""
    names = {layer.name for layer in model.layers}
    return {"b1_conv", "b1_sep", "b8_conv", "hidden", "logits"} <= names


def swishnet(model: keras.Model, *, optimise: str = "balanced") -> Deployed:
    """Return SwishNet in the form that is best for latency, size or both.

    latency: every block is one convolution and every channel has a scale. size: every block with two branches is left
    in parts where that is smaller, and a layer has one scale. balanced: a block is left in parts where that saves more
    than a kilobyte of weights, and a layer has one scale.

    Raises
    ------
    ConfigError
        If the aim is unknown.
    """
    if optimise not in OPTIMISE:
        raise ConfigError(f"cannot optimise for {optimise!r}, must be one of {', '.join(OPTIMISE)}, plain")
    least = {"balanced": WORTH_PARTS, "size": WORTH_PARTS / 2}.get(optimise, np.inf)
    return swishnet_in_parts(
        model, [n for n in PAIRS if saved_by_parts(model, n) > least], apart=() if optimise == "size" else APART,
        one_scale=optimise != "latency",
    )  # fmt: skip


def saved_by_parts(model: keras.Model, block: str) -> int:
    """Return how many weights fewer a block stores in parts."""
    return fuse(model).parameters - fuse(model, in_parts=[block]).parameters


def swishnet_in_parts(
    model: keras.Model, in_parts: Sequence[str], *, apart: Sequence[str] = (), one_scale: bool = False
) -> Deployed:
    """Return SwishNet with these blocks in parts and the others fused, these blocks' gates apart (`fuse`)."""
    frames, inputs = RECEPTIVE_FIELD + 2 * STRIDE, int(model.input_shape[-1])
    function = clip_function(fuse(model, in_parts=in_parts, apart=apart), frames, inputs)

    def convert(setup: Callable[[Any], None] | None = None) -> bytes:
        return slices_as_convolutions(_converted(function, setup))

    form = f"{' '.join(in_parts)} in parts" if in_parts else "fused"
    return Deployed(convert, frames, RECEPTIVE_FIELD, STRIDE, None, True, one_scale, form)


def plain(model: keras.Model, *, frames: int, image: bool = True) -> Deployed:
    """Return any network as Keras runs it, for one length of clip.

    Parameters
    ----------
    frames : int
        Of a clip.
    image : bool
        Whether the input is a bundle's, (1, 1, frames, features); else (1, frames, features).
    """
    function = _keras_function(model, frames, image)

    def convert(setup: Callable[[Any], None] | None = None) -> bytes:
        return _converted(function, setup)

    return Deployed(convert, frames, frames, 1, {"least": frames, "step": 0}, False, False, "plain")


def general(model: keras.Model, *, frames: int) -> Deployed:
    """Return any network, with a time axis that can be resized where its graph allows that.

    It is converted at several lengths. Where only numbers in RESHAPE differ between two of them, these are left open;
    the lengths that the graph then takes go into the bundle. Else it takes clips of one length.
    """
    fixed = model.input_shape[2] if len(model.input_shape) == 4 else model.input_shape[1]
    if features_of(model) and fixed:
        return plain(model, frames=int(fixed))
    # an image of 32 k - 2 columns is odd at every halving: there the converter cannot write PAD as 'same'
    for step, length, other in ((1, frames - (frames + 2) % 32, frames - (frames + 2) % 32 - 32),
                                (10, frames - frames % 10, frames - frames % 10 - 40)):  # fmt: skip
        if other < step:
            continue

        def convert(setup: Callable[[Any], None] | None = None, lengths: tuple[int, int] = (length, other)) -> bytes:
            return _leave_reshapes_open(*(_converted(_keras_function(model, n, True), setup) for n in lengths))

        try:
            _check(convert(), model, length // 2 // step * step)
        except EdgeBenchError:
            continue
        return Deployed(convert, length, length, 1, {"least": step, "step": step}, False, False, "plain")
    return plain(model, frames=frames)


def _check(flatbuffer: bytes, model: keras.Model, frames: int) -> None:
    """Make sure that a graph, resized, says what Keras says."""
    x = np.random.default_rng(0).standard_normal((1, frames, features_of(model))).astype(np.float32)
    if np.abs(Session(flatbuffer, frames=frames).run(x[None]) - np.asarray(model(x))).max() > 1e-4:
        raise BundleError("the resized graph differs from the network")


def features_of(model: keras.Model) -> int:
    """Return how many features of a frame a network takes.

    Raises
    ------
    ConfigError
        If it does not take clips, (frames, features) or (features, frames, 1).
    """
    shape = model.input_shape
    if isinstance(shape, tuple) and len(shape) == 3 and shape[2]:
        return int(shape[2])
    if isinstance(shape, tuple) and len(shape) == 4 and shape[1] and shape[3] == 1:
        return int(shape[1])
    raise ConfigError(f"model {model.name!r} takes {shape}, a bundle feeds clips of one sound: (frames, features)")


def stored_parameters(exact: bytes) -> int:
    """Return how many weights a float graph stores, those of its slices and biases that are all zero left out."""
    graph = tflite.read(exact).subgraphs[0]
    used: dict[int, int] = {}
    for operator in graph.operators:
        if not is_identity(graph, operator):
            for tensor in (graph.tensors[i] for i in operator.inputs if i >= 0):
                if tensor.data is not None and tensor.dtype == "float32" and any(bytes(tensor.data)):
                    used[tensor.index] = math.prod(tensor.shape)
    return sum(used.values())


def _converted(function: Any, setup: Callable[[Any], None] | None) -> bytes:
    # weights are constants of the function; the second argument only keeps its owner alive
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    if setup is not None:
        setup(converter)
    return bytes(converter.convert())


def _keras_function(model: keras.Model, frames: int, image: bool) -> Any:
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def clip(features: Any) -> dict[str, Any]:
        return {"probabilities": model(_as_input(features, model) if image else features, training=False)}

    shape = [1, 1, frames, features_of(model)]
    spec = tf.TensorSpec(shape if image else [shape[0], *shape[2:]], tf.float32, name="features")
    # the converter silently drops variables of a Keras 3 model
    return convert_variables_to_constants_v2(clip.get_concrete_function(spec))


def _as_input(features: Any, model: keras.Model) -> Any:
    """Return a bundle's input (1, 1, frames, features) as a network takes it: frames in rows, or an image of bands."""
    if len(model.input_shape) == 3:
        return tf.reshape(features, (1, *features.shape[2:]))
    return tf.transpose(features, (0, 3, 2, 1))


def _leave_reshapes_open(a: bytes, b: bytes) -> bytes:
    """Return the first graph with -1 in RESHAPE where the second, of another length, has another number.

    Raises
    ------
    BundleError
        If the graphs differ in anything else than shapes.
    """
    first, second = unpack(a), unpack(b)
    graph, other = first.subgraphs[0], second.subgraphs[0]
    for m, g in ((first, graph), (second, other)):
        _drop_whole_slices(m, g)
    names = [[operator_name(m, o) for o in m.subgraphs[0].operators] for m in (first, second)]
    if names[0] != names[1]:
        raise BundleError("the network's graph depends on the clip's length")
    for name, here, there in zip(names[0], graph.operators, other.operators, strict=True):
        if name == "RESHAPE":
            shapes = [g.tensors[int(o.outputs[0])].shape for g, o in ((graph, here), (other, there))]
            if len(shapes[0]) != len(shapes[1]) or (shapes[0] != shapes[1]).sum() > 1:
                raise BundleError("a RESHAPE of the network depends on the clip's length in two axes")
            wanted = np.where(shapes[0] != shapes[1], -1, shapes[0]).astype(np.int32)
            here.inputs = np.array([here.inputs[0], _constant(first, graph, int(here.inputs[1]), wanted)], np.int32)
            here.builtinOptions, here.builtinOptionsType = None, schema.BuiltinOptions.NONE
        elif any(_content(first, graph, i) != _content(second, other, j)
                 for i, j in zip(here.inputs.tolist(), there.inputs.tolist(), strict=True)):  # fmt: skip
            raise BundleError(f"the network's {name} depends on the clip's length")
    return pack(first)


def _drop_whole_slices(model: Any, graph: Any) -> None:
    """Drop each STRIDED_SLICE that takes all there is."""
    kept: list[Any] = []
    place: dict[int, int] = {}
    for operator in graph.operators:
        operator.inputs = np.array([place.get(int(i), int(i)) for i in operator.inputs], np.int32)
        ends = [graph.tensors[int(i)].shape for i in (operator.inputs[0], operator.outputs[0])]
        if operator_name(model, operator) == "STRIDED_SLICE" and np.array_equal(*ends):
            place[int(operator.outputs[0])] = int(operator.inputs[0])
        else:
            kept.append(operator)
    graph.operators = kept


def _constant(model: Any, graph: Any, like: int, values: NDArray[np.int32]) -> int:
    """Add a constant like another and return its tensor's number."""
    buffer, tensor = schema.BufferT(), copy.copy(graph.tensors[like])
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _content(model: Any, graph: Any, index: int) -> bytes:
    data = model.buffers[graph.tensors[index].buffer].data if index >= 0 else None
    return b"" if data is None else bytes(data)
