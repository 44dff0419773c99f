"""Weights that others trained, from ``.tflite`` files: where they lie and how they are read, without TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_runtime import BundleError, ConfigError, tflite

Float32 = NDArray[np.float32]


class FoldedLayer(NamedTuple):
    """A convolution with folded batch normalisation: kernel in Keras' order, bias (filters,)."""

    kernel: Float32
    bias: Float32


def find_weights(name: str | Path) -> Path:
    """Return the path of a weights file, looked for here and in the folder EDGE_BENCH_WEIGHTS.

    Raises
    ------
    ConfigError
        If it is in neither place.
    """
    folder = os.environ.get("EDGE_BENCH_WEIGHTS")
    for path in (Path(name), *([Path(folder) / name] if folder else [])):
        if path.is_file():
            return path
    hint = f"nor in EDGE_BENCH_WEIGHTS ({folder})" if folder else "and EDGE_BENCH_WEIGHTS, a folder, is not set"
    raise ConfigError(f"weights {name}: no such file {hint}")


def read_weights(path: str | Path) -> list[FoldedLayer]:
    """Return the convolutions of a ``.tflite`` in their order, dequantised: ``(q - zero_point) * scale``.

    Raises
    ------
    BundleError
        If it is damaged, or a weight is neither float nor quantised.
    """
    file = Path(path)
    graph = tflite.read(file.read_bytes(), what=str(path)).subgraphs[0]
    found = []
    for operator in graph.operators:
        if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D") and len(operator.inputs) == 3:
            kernel, bias = (_dequantised(graph.tensors[i], str(path)) for i in operator.inputs[1:])
            # TFLite: (filters, height, width, inputs), depthwise (1, height, width, channels); both turn the same way
            found.append(FoldedLayer(np.ascontiguousarray(kernel.transpose(1, 2, 3, 0)), bias))
    return found


def _dequantised(tensor: tflite.Tensor, what: str) -> Float32:
    if tensor.data is None or tensor.dtype not in ("float32", "uint8", "int8", "int32"):
        raise BundleError(f"{what}: tensor {tensor.index} ({tensor.dtype}) is not a weight that can be read")
    values = np.frombuffer(tensor.data, np.dtype(tensor.dtype).newbyteorder("<")).reshape(tensor.shape)
    if tensor.dtype == "float32":
        return values.astype(np.float32)
    if tensor.quantization is None:
        raise BundleError(f"{what}: tensor {tensor.index} has no quantisation")
    shape = [1] * len(tensor.shape)
    if len(tensor.quantization.scale) > 1:
        shape[tensor.quantization.axis] = -1
    scale = np.reshape(tensor.quantization.scale, shape)
    zero_point = np.reshape(tensor.quantization.zero_point, shape)
    return ((values.astype(np.float64) - zero_point) * scale).astype(np.float32)
