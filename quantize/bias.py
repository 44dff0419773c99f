"""Bias correction: the mean error that int8 rounding leaves in each channel is taken out of its bias.

Rounding errors of weights and activations do not average to zero over real inputs; layer by layer they move the
logits to one side, and a class loses (Nagel et al. 2019, "Data-free quantization through weight equalization and bias
correction", section 4.2). Biases are int32 at the scale of the products, so the correction is exact and free.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import BundleError, tflite
from edge_runtime.classify import quantise
from edge_runtime.executor import Executor

from .objects import unpack
from .pack import pack

Float32 = NDArray[np.float32]


def correct_biases(quantised: bytes, exact: bytes, clips: Float32) -> bytes:
    """Return the int8 graph with corrected biases.

    Layers are corrected one after the other, each with those before it already corrected.

    Parameters
    ----------
    quantised, exact : bytes
        The int8 and the float32 conversion of one network: the same operators in the same order.
    clips : np.ndarray, float32, shape (clips, frames, features)
        Padded to the graphs' length.

    Raises
    ------
    BundleError
        If the two graphs are not of the same operators.
    """
    layers = [_convolutions(flatbuffer) for flatbuffer in (quantised, exact)]
    if len(layers[0]) != len(layers[1]):
        raise BundleError(f"{len(layers[0])} int8 and {len(layers[1])} float convolutions: not the same network")
    runner = Executor(exact)
    wanted: list[list[NDArray[Any]]] = [[] for _ in layers[0]]
    for clip in clips:
        tensors = runner.tensors(clip[None, None])
        for found, layer in zip(wanted, layers[1], strict=True):
            found.append(tensors[layer.outputs[0]])
    for number, layer in enumerate(layers[0]):
        error = _mean_error(quantised, layer.outputs[0], clips, wanted[number])
        quantised = _add_to_bias(quantised, layer.inputs[2], -error)
    return quantised


def _convolutions(flatbuffer: bytes) -> list[tflite.Operator]:
    return [o for o in tflite.read(flatbuffer).subgraphs[0].operators if o.name == "CONV_2D"]


def _mean_error(flatbuffer: bytes, tensor: int, clips: Float32, wanted: list[NDArray[Any]]) -> NDArray[np.float64]:
    """Return the mean of (int8 - float) of each channel, the float clipped to what int8 can say."""
    runner = Executor(flatbuffer)
    quantization = tflite.read(flatbuffer).subgraphs[0].tensors[tensor].quantization
    assert quantization is not None
    scale, zero = quantization.scale[0], quantization.zero_point[0]
    total = np.zeros(wanted[0].shape[-1])
    for clip, exact in zip(clips, wanted, strict=True):
        fed = quantise(clip[None, None], *runner.input_quantization, runner.input_dtype)
        got = (runner.tensors(fed)[tensor].astype(np.float64) - zero) * scale
        reachable = np.clip(exact, scale * (-128 - zero), scale * (127 - zero))
        total += (got - reachable).mean(axis=(0, 1, 2))
    return total / len(clips)


def _add_to_bias(flatbuffer: bytes, tensor: int, change: NDArray[np.float64]) -> bytes:
    model = unpack(flatbuffer)
    bias = model.subgraphs[0].tensors[tensor]
    buffer = model.buffers[bias.buffer]
    values = np.frombuffer(bytes(buffer.data), np.int32) + np.rint(change / bias.quantization.scale).astype(np.int64)
    buffer.data = np.frombuffer(values.astype(np.int32).tobytes(), np.uint8)
    return pack(model)
