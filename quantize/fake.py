"""The deployed graph with fake quantisation, as a Keras layer: it computes in float what the int8 graph will say.

It runs the very float graph that `edge_bench.quantize.quantiser` turns into integers, operator by operator, so what is
rounded in training is what will be rounded: fused kernels by output channel, the input of a gate as a whole, tensors
that share a scale with one range. Every network of the zoo that can be deployed can be trained so.

* Kernels: ``tf.quantization.fake_quant_*``, symmetric, with the scales that the quantiser takes. Zeros stay zeros: a
  fused kernel holds the k3 branch behind three taps of zeros.
* Activations: ranges are moving averages of each batch's extremes. A range that calibration made narrower than the
  extremes stays narrower by the same share.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edge_runtime import BundleError, kernels, tflite

from .quantiser import Range, kernels_alike, scale_axis
from .ranges import groups
from .slices import is_identity

MOMENTUM = 0.99
_ACTIVATIONS = {0: tf.identity, 1: tf.nn.relu, 3: tf.nn.relu6}
_UNARY = {"LOGISTIC": tf.sigmoid, "TANH": tf.tanh}
_BINARY = {"ADD": tf.add, "MUL": tf.multiply, "SUB": tf.subtract}


class FakeQuantised(keras.layers.Layer):  # type: ignore[misc]
    """A float graph with fake quantisation, up to what its softmax sees.

    Input shape (batch, frames, features), output shape (batch, classes).

    Parameters
    ----------
    flatbuffer : bytes
        One float graph, whose last operator is a softmax.
    ranges, extremes : mapping
        Chosen ranges and those of all calibration clips, by tensor number.
    one_scale : bool
        See `edge_bench.quantize.quantiser.quantise_graph`.

    Raises
    ------
    BundleError
        If the graph holds an operator that is not known here.
    """

    def __init__(
        self, flatbuffer: bytes, ranges: dict[int, Range], extremes: dict[int, Range], *, one_scale: bool, name: str
    ) -> None:
        super().__init__(name=name)
        self._graph = tflite.read(flatbuffer).subgraphs[0]
        *self._operators, last = self._graph.operators
        if last.name != "SOFTMAX":
            raise BundleError(f"the network ends with {last.name}; one that ends with a softmax can be trained")
        self._one_scale = one_scale
        self._kernels: dict[int, Any] = {}
        self._limits: dict[int, Any] = {}
        self._groups = groups(self._graph)
        self._alike = kernels_alike(self._graph) if one_scale else {}
        for number, group in enumerate(self._groups):
            index = min(group.members)
            limits = self.add_weight(
                shape=(2,), initializer=keras.initializers.Constant(ranges[index]), trainable=False,
                name=f"range_{number}",
            )  # fmt: skip
            ends = zip(ranges[index], extremes[index], strict=True)
            share = np.array([min(1.0, chosen / seen) if seen else 1.0 for chosen, seen in ends], np.float32)
            self._limits |= dict.fromkeys(group.members, (group, limits, share))
        for operator in self._operators:
            self._add_weights(operator)

    def _add_weights(self, operator: tflite.Operator) -> None:
        for place, index in enumerate(operator.inputs):
            tensor = self._graph.tensors[index] if index >= 0 else None
            if tensor is None or tensor.data is None or tensor.dtype != "float32" or index in self._kernels:
                continue
            fixed = is_identity(self._graph, operator) or place == 0 or operator.name in _BINARY
            self._kernels[index] = self.add_weight(
                shape=tensor.shape, initializer=keras.initializers.Constant(kernels.constant(tensor)),
                trainable=not fixed, name=f"constant_{index}",
            )  # fmt: skip

    def call(self, inputs, training=False):  # type: ignore[no-untyped-def]
        """Run the graph."""
        start = self._graph.inputs[0]
        values = {start: self._rounded(start, inputs[:, None], training)}
        for operator in self._operators:
            results = self._run(operator, values)
            for index, result in zip(operator.outputs, results, strict=True):
                values[index] = self._rounded(index, result, training)
        logits = values[self._graph.operators[-1].inputs[0]]
        return tf.reshape(logits, (-1, logits.shape[-1]))

    def compute_output_shape(self, input_shape):  # type: ignore[no-untyped-def]
        """Return (batch, classes)."""
        return (input_shape[0], self._graph.tensors[self._graph.outputs[0]].shape[-1])

    def _rounded(self, index: int, x: Any, training: bool) -> Any:
        group, limits, share = self._limits[index]
        if training and group.fixed is None and group.limit is None:
            seen = tf.stack([tf.minimum(tf.reduce_min(x), 0.0), tf.maximum(tf.reduce_max(x), 0.0)]) * share
            limits.assign(MOMENTUM * limits + (1 - MOMENTUM) * tf.stop_gradient(tf.cast(seen, limits.dtype)))
        low, high = tf.unstack(tf.convert_to_tensor(limits))
        return tf.quantization.fake_quant_with_min_max_vars(x, tf.minimum(low, 0.0), tf.maximum(high, 1e-6))

    def _kernel(self, operator: tflite.Operator) -> Any:
        index = operator.inputs[1]
        values = tf.convert_to_tensor(self._kernels[index])
        if is_identity(self._graph, operator):
            return values
        kernel = kernels.constant(self._graph.tensors[index])
        assert kernel is not None
        values = values * (kernel != 0).astype(np.float32)
        axis = scale_axis(operator.name, kernel, self._one_scale)
        if axis is None:
            alike = [tf.convert_to_tensor(self._kernels[i]) for i in self._alike.get(index, (index,))]
            found = tf.reduce_max(tf.stack([tf.reduce_max(tf.abs(v)) for v in alike]))
            largest = tf.stop_gradient(tf.maximum(found, 1e-6))
            return tf.quantization.fake_quant_with_min_max_vars(values, -largest, largest, narrow_range=True)
        order = [i for i in range(4) if i != axis] + [axis]
        moved = tf.transpose(values, order)
        largest = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(moved), axis=[0, 1, 2]), 1e-6))
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            moved, -largest, largest, narrow_range=True
        )
        return tf.transpose(rounded, np.argsort(order))

    def _value(self, index: int, values: dict[int, Any]) -> Any:
        if index in values:
            return values[index]
        if index in self._kernels:
            return tf.convert_to_tensor(self._kernels[index])
        return kernels.constant(self._graph.tensors[index])

    def _run(self, operator: tflite.Operator, values: dict[int, Any]) -> list[Any]:
        name, option = operator.name, operator.options
        inputs = [self._value(i, values) for i in operator.inputs if i >= 0]
        activate = _ACTIVATIONS.get(option.get("activation", 0))
        if activate is None:
            raise BundleError(f"operator {name}: its activation is not known to the training")
        x = inputs[0]
        if name in _UNARY:
            return [_UNARY[name](x)]
        if name in _BINARY:
            return [activate(_BINARY[name](x, inputs[1]))]
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            return [activate(self._convolve(operator, x, inputs))]
        if name == "FULLY_CONNECTED":
            y = tf.reshape(x, (-1, inputs[1].shape[1])) @ tf.transpose(self._kernel(operator))
            return [activate(y + inputs[2] if len(inputs) > 2 else y)]
        if name == "SPLIT":
            return list(tf.split(inputs[1], option["splits"], axis=int(x)))
        if name == "CONCATENATION":
            return [tf.concat(inputs, axis=option["axis"])]
        if name == "MEAN":
            return [tf.reduce_mean(x, axis=np.ravel(inputs[1]).tolist(), keepdims=bool(option["keep_dims"]))]
        if name == "RESHAPE":  # a leading 1 is the batch of one clip
            shape = [int(n) for n in inputs[1]]
            return [tf.reshape(x, [tf.shape(x)[0] if shape[0] == 1 else shape[0], *shape[1:]])]
        if name == "STRIDED_SLICE":
            if (option["begin_mask"], option["end_mask"], int(inputs[3][2])) != (0b1011, 0b1111, 1):
                raise BundleError("a STRIDED_SLICE of more than the first frames is not known to the training")
            return [x[:, :, int(inputs[1][2]) :]]
        if name == "TRANSPOSE":
            return [tf.transpose(x, [int(n) for n in inputs[1]])]
        if name == "PAD":
            return [tf.pad(x, inputs[1])]
        if name in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
            pool = tf.nn.max_pool2d if name == "MAX_POOL_2D" else tf.nn.avg_pool2d
            sizes = [option["filter_h"], option["filter_w"]], [option["stride_h"], option["stride_w"]]
            return [activate(pool(x, *sizes, _padding(option)))]
        raise BundleError(f"operator {name} is not known to the training")

    def _convolve(self, operator: tflite.Operator, x: Any, inputs: list[Any]) -> Any:
        option = operator.options
        if is_identity(self._graph, operator):
            return x[:, :, option["dilation_w"] :: option["stride_w"]]
        kernel = self._kernel(operator)
        strides = [1, option["stride_h"], option["stride_w"], 1]
        dilations = [option["dilation_h"], option["dilation_w"]]
        if operator.name == "CONV_2D":
            kernel = tf.transpose(kernel, (1, 2, 3, 0))
            y = tf.nn.conv2d(x, kernel, strides, _padding(option), dilations=[1, *dilations, 1])
        else:
            kernel = tf.transpose(kernel, (1, 2, 3, 0))
            y = tf.nn.depthwise_conv2d(x, kernel, strides, _padding(option), dilations=dilations)
        return y + inputs[2] if len(inputs) > 2 else y

    def trained_ranges(self) -> dict[int, Range]:
        """Return the ranges by tensor number; the softmax' output has its fixed one."""
        found = {i: tuple(float(n) for n in np.asarray(limits)) for i, (_, limits, _) in self._limits.items()}
        return {i: (low, high) for i, (low, high) in found.items()}

    def trained_constants(self) -> dict[int, np.ndarray[Any, Any]]:
        """Return the constants by tensor number."""
        found = {}
        for index, variable in self._kernels.items():
            before = kernels.constant(self._graph.tensors[index])
            assert before is not None
            values = np.asarray(variable)
            found[index] = values * (before != 0) if values.ndim == 4 else values
        return found


def _padding(option: dict[str, int]) -> str:
    return "SAME" if option["padding"] == 0 else "VALID"


