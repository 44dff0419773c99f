"""The numpy executor against TFLite's reference kernels: every operator alone, then SwishNet tensor by tensor."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_runtime
from edge_runtime import InterpreterError, fixedpoint, tflite
from edge_runtime.executor import OPERATORS, Executor
from edge_runtime.fixedpoint import Multiplier
from edge_runtime.interpreter import Session
from edge_runtime.truncate import signature_alone

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="tensorflow is not installed: no model can be made"
)


def reference(flatbuffer: bytes, frames: int | None = None) -> Any:
    """Return LiteRT's interpreter with its reference kernels, all tensors kept."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=flatbuffer,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    if frames is not None:
        details = interpreter.get_input_details()[0]
        interpreter.resize_tensor_input(details["index"], [1, 1, frames, details["shape"][3]])
    interpreter.allocate_tensors()
    return interpreter


def random_input(rng: np.random.Generator, executor: Executor) -> np.ndarray:
    """Return any int8 numbers, or float32 ones of about 1."""
    if executor.input_dtype == np.float32:
        return rng.standard_normal(executor.input_shape).astype(np.float32)
    info = np.iinfo(executor.input_dtype)
    # inputs of several loudnesses: with all of them loud, most gates would be shut
    x = rng.standard_normal(executor.input_shape) * rng.choice([5, 20, 60, 200]) + rng.normal(0, 10)
    return np.clip(np.round(x), info.min, info.max).astype(executor.input_dtype)


def assert_equals_reference(flatbuffer: bytes, *, frames: int | None = None, inputs: int = 5, seed: int = 0) -> None:
    """Check every tensor of the first graph: whole numbers to the bit, float32 closely."""
    executor, interpreter = Executor(flatbuffer, frames=frames), reference(flatbuffer, frames)
    rng, graph = np.random.default_rng(seed), tflite.read(flatbuffer).subgraphs[0]
    for _ in range(inputs):
        x = random_input(rng, executor)
        interpreter.set_tensor(graph.inputs[0], x)
        interpreter.invoke()
        mine = executor.tensors(x)
        for operator in graph.operators:
            for index in operator.outputs:
                theirs, what = interpreter.get_tensor(index), f"{operator.name}, tensor {index}"
                assert (mine[index].shape, mine[index].dtype) == (theirs.shape, theirs.dtype), what
                if theirs.dtype == np.float32:
                    np.testing.assert_allclose(mine[index], theirs, rtol=1e-5, atol=1e-5, err_msg=what)
                else:
                    np.testing.assert_array_equal(mine[index], theirs, err_msg=what)


# --- fixed point ----------------------------------------------------------------------------------


def literal_high_product(a: int, b: int) -> int:
    """gemmlowp's definition on whole numbers: a nudge by the sign, then a division that truncates."""
    nudged = a * b + (1 << 30 if a * b >= 0 else 1 - (1 << 30))
    return abs(nudged) // (1 << 31) * (1 if nudged >= 0 else -1)


def literal_shift(x: int, exponent: int) -> int:
    """gemmlowp's definition: the remainder decides, and by more for numbers below zero."""
    mask = (1 << exponent) - 1
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0))


int32 = st.integers(-(1 << 31) + 1, (1 << 31) - 1)


@given(a=int32, b=int32)
def test_high_product_is_gemmlowps(a: int, b: int) -> None:
    assert fixedpoint.doubling_high(np.array([a]), b) == literal_high_product(a, b)


@given(x=st.one_of(int32, st.integers(-64, 64)), exponent=st.integers(0, 31))
def test_shift_is_gemmlowps(x: int, exponent: int) -> None:
    assert fixedpoint.divide_by_power(np.array([x]), exponent) == literal_shift(x, exponent)


@given(factor=st.floats(2.0**-31, 2.0**20))
def test_multiplier_is_within_half_a_unit_of_its_last_bit(factor: float) -> None:
    nearest = Multiplier.nearest(factor)
    assert 1 << 30 <= nearest.mantissa < 1 << 31
    assert abs(float(nearest.mantissa) * 2.0 ** (int(nearest.exponent) - 31) / factor - 1) <= 2.0**-31


def test_a_factor_too_small_for_any_result_is_zero() -> None:
    assert Multiplier.nearest(2.0**-40)(np.array([(1 << 31) - 1])) == 0


@given(x=st.integers(-(1 << 31) + 1, 0))
def test_exponential_is_right_to_six_digits(x: int) -> None:
    assert fixedpoint.exp_on_negative(np.array([x])) / 2.0**31 == pytest.approx(np.exp(x / 2.0**26), abs=1e-6)


@given(x=st.integers(1 << 19, (1 << 31) - 1))
def test_reciprocal_is_right_to_eight_digits(x: int) -> None:
    inverse, bits = fixedpoint.reciprocal(np.array([x]), 12)
    assert inverse / 2.0**31 / 2.0**bits == pytest.approx(1 / (x / 2.0**19), rel=1e-7)


# --- one operator ---------------------------------------------------------------------------------


@dataclass
class T:
    """A tensor of a made model; the scale is one number or one a channel, 0 for no quantisation."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: Any = 0.0
    zero: int = 0
    data: np.ndarray | None = None
    axis: int = 0


@dataclass
class Op:
    """A model of one operator; the first input that has no data is the graph's."""

    name: str
    inputs: list[T]
    outputs: list[T]
    options: dict[str, Any] = field(default_factory=dict)
    table: str = ""

    def build(self) -> bytes:
        import flatbuffers
        from tensorflow.lite.python import schema_py_generated as schema

        model, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
        model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
        model.buffers, graph.tensors = [schema.BufferT()], []
        code.builtinCode = getattr(schema.BuiltinOperator, self.name)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        for entry in (*self.inputs, *self.outputs):
            tensor = schema.TensorT()
            tensor.shape, tensor.type = list(entry.shape), getattr(schema.TensorType, entry.dtype.upper())
            if np.any(entry.scale):
                tensor.quantization = schema.QuantizationParametersT()
                tensor.quantization.scale = np.atleast_1d(np.float32(entry.scale))
                tensor.quantization.zeroPoint = np.full(np.size(entry.scale), entry.zero, np.int64)
                tensor.quantization.quantizedDimension = entry.axis
            if entry.data is not None:
                model.buffers.append(schema.BufferT())
                model.buffers[-1].data = np.frombuffer(entry.data.astype(entry.dtype).tobytes(), np.uint8)
                tensor.buffer = len(model.buffers) - 1
            graph.tensors.append(tensor)
        operator.inputs, count = list(range(len(self.inputs))), len(self.inputs)
        operator.outputs = list(range(count, count + len(self.outputs)))
        graph.inputs = [next(i for i, entry in enumerate(self.inputs) if entry.data is None)]
        graph.outputs, graph.operators = operator.outputs[:1], [operator]
        if self.table:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, self.table)
            operator.builtinOptions = getattr(schema, f"{self.table}T")()
            for name, value in self.options.items():
                assert hasattr(operator.builtinOptions, name), name
                setattr(operator.builtinOptions, name, value)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def scale_of(rng: np.random.Generator, low: float = 0.01, high: float = 0.2) -> np.float32:
    return np.float32(np.exp(rng.uniform(np.log(low), np.log(high))))


def activation(
    rng: np.random.Generator, shape: tuple[int, ...], kind: str, data: np.ndarray | None = None, high: float = 0.2
) -> T:
    """Return a tensor with a random scale and zero point, or a float32 one."""
    if kind == "float32":
        return T(shape, kind, data=data)
    return T(shape, kind, scale_of(rng, high=high), int(rng.integers(-128, 128)), data)


def weighted(
    rng: np.random.Generator, name: str, kind: str, shapes: tuple[tuple[int, ...], ...], table: str,
    options: dict[str, Any], *, axis: int = 0, per_channel: bool = True,
) -> Op:  # fmt: skip
    """Return an operator with weights and bias; `shapes` are of input, weights and output."""
    source, weights, result = shapes
    outputs, taps = weights[axis], np.prod(weights) // weights[axis]
    if kind == "float32":
        tensors = [T(source, kind), T(weights, kind, data=rng.standard_normal(weights) / np.sqrt(taps))]
        bias = T((outputs,), kind, data=rng.standard_normal(outputs))
        return Op(name, [*tensors, bias], [T(result, kind)], options, table)
    x = activation(rng, source, kind)
    scales = np.array([scale_of(rng, 0.002, 0.02) for _ in range(outputs)], np.float32)
    scale = scales if per_channel else scales[0]
    w = T(weights, kind, scale, data=rng.integers(-127, 128, weights), axis=axis)
    bias = T((outputs,), "int32", np.float32(x.scale) * scale, data=rng.integers(-3000, 3000, outputs))
    y = T(result, kind, x.scale * scales.mean() * np.sqrt(taps) * 90, int(rng.integers(-128, 128)))
    return Op(name, [x, w, bias], [y], options, table)


def conv(padding: int, stride: int, dilation: int, size: int, act: int = 0) -> Callable[..., Op]:
    def make(rng: np.random.Generator, kind: str) -> Op:
        options = {
            "padding": padding, "strideW": stride, "strideH": 1, "fusedActivationFunction": act,
            "dilationWFactor": dilation, "dilationHFactor": 1,
        }  # fmt: skip
        shapes = ((2, 5, 13, 4), (7, 3, 3, 4), (2, 5 if padding == 0 else 3, size, 7))
        return weighted(rng, "CONV_2D", kind, shapes, "Conv2DOptions", options)

    return make


def depthwise(rng: np.random.Generator, kind: str) -> Op:
    options = {
        "padding": 0, "strideW": 2, "strideH": 2, "depthMultiplier": 2, "fusedActivationFunction": 3,
        "dilationWFactor": 1, "dilationHFactor": 1,
    }  # fmt: skip
    shapes = ((1, 6, 9, 3), (1, 3, 3, 6), (1, 3, 5, 6))
    return weighted(rng, "DEPTHWISE_CONV_2D", kind, shapes, "DepthwiseConv2DOptions", options, axis=3)


def dense(per_channel: bool, keep: bool) -> Callable[..., Op]:
    def make(rng: np.random.Generator, kind: str) -> Op:
        shapes = ((2, 3, 40), (9, 40), (2, 3, 9) if keep else (6, 9))
        options = {"keepNumDims": keep, "fusedActivationFunction": 1}
        return weighted(rng, "FULLY_CONNECTED", kind, shapes, "FullyConnectedOptions", options, per_channel=per_channel)

    return make


def binary(name: str, table: str, act: int = 0) -> Callable[..., Op]:
    def make(rng: np.random.Generator, kind: str) -> Op:
        other = rng.integers(-128, 128, (1, 1, 3)) if kind == "int8" else rng.standard_normal((1, 1, 3))
        x, y = activation(rng, (4, 50, 3), kind), activation(rng, (1, 1, 3), kind, other)
        result = activation(rng, (4, 50, 3), kind)
        return Op(name, [x, y], [result], {"fusedActivationFunction": act}, table)

    return make


def function(name: str, scale: float, zero: int, table: str = "") -> Callable[..., Op]:
    def make(rng: np.random.Generator, kind: str) -> Op:
        result = T((40, 5), kind, scale, zero) if kind == "int8" else T((40, 5), kind)
        source = activation(rng, (40, 5), kind, high=50.0)
        return Op(name, [source], [result], {"beta": 1.0} if table else {}, table)

    return make


def mean(keep: bool) -> Callable[..., Op]:
    def make(rng: np.random.Generator, kind: str) -> Op:
        axes = T((2,), "int32", data=np.array([1, -2]))
        result = activation(rng, (3, 1, 1, 5) if keep else (3, 5), kind)
        return Op("MEAN", [activation(rng, (3, 4, 7, 5), kind), axes], [result], {"keepDims": keep}, "ReducerOptions")

    return make


def pool(name: str) -> Callable[..., Op]:
    def make(rng: np.random.Generator, kind: str) -> Op:
        x = activation(rng, (1, 7, 8, 3), kind)
        options = {
            "padding": 0, "strideW": 2, "strideH": 3, "filterWidth": 3, "filterHeight": 2,
            "fusedActivationFunction": 1,
        }  # fmt: skip
        return Op(name, [x], [T((1, 3, 4, 3), kind, x.scale, x.zero)], options, "Pool2DOptions")

    return make


def moved(name: str, result: tuple[int, ...], table: str = "", outputs: int = 1, **options: Any) -> Callable[..., Op]:
    """Return an operator that only moves numbers; its indices are in `INDICES`."""

    def make(rng: np.random.Generator, kind: str) -> Op:
        x = activation(rng, (1, 6, 8), kind)
        indices = [T(np.shape(i), "int32", data=np.array(i)) for i in INDICES[name]]
        more = T((1, 2, 8), kind, x.scale, x.zero, data=rng.integers(-100, 100, (1, 2, 8)))
        inputs = {"SPLIT": [*indices, x], "CONCATENATION": [x, more]}.get(name, [x, *indices])
        return Op(name, inputs, [T(result, kind, x.scale, x.zero) for _ in range(outputs)], options, table)

    return make


INDICES: dict[str, list[Any]] = {
    "SPLIT": [-1],
    "CONCATENATION": [],
    "RESHAPE": [[4, -1]],
    "PAD": [[[0, 0], [1, 2], [0, 3]]],
    "TRANSPOSE": [[2, 0, 1]],
    "STRIDED_SLICE": [[0, 1, -3], [0, -1, 0], [1, 2, 1]],
}

CASES: dict[str, Callable[..., Op]] = {
    "conv valid": conv(1, 1, 1, 11),
    "conv same stride 2": conv(0, 2, 1, 7, act=3),
    "conv valid dilation 3": conv(1, 1, 3, 7, act=1),
    "conv same dilation 2": conv(0, 1, 2, 13, act=2),
    "depthwise": depthwise,
    "dense": dense(per_channel=False, keep=False),
    "dense per channel": dense(per_channel=True, keep=True),
    "add": binary("ADD", "AddOptions"),
    "add relu": binary("ADD", "AddOptions", act=1),
    "mul": binary("MUL", "MulOptions"),
    "logistic": function("LOGISTIC", 1 / 256, -128),
    "tanh": function("TANH", 1 / 128, 0),
    "softmax": function("SOFTMAX", 1 / 256, -128, "SoftmaxOptions"),
    "mean": mean(keep=False),
    "mean keep": mean(keep=True),
    "average pool": pool("AVERAGE_POOL_2D"),
    "max pool": pool("MAX_POOL_2D"),
    "split": moved("SPLIT", (1, 6, 4), "SplitOptions", outputs=2, numSplits=2),
    "concatenation": moved("CONCATENATION", (1, 8, 8), "ConcatenationOptions", axis=-2),
    "reshape": moved("RESHAPE", (4, 12)),
    "pad": moved("PAD", (1, 9, 11)),
    "transpose": moved("TRANSPOSE", (8, 1, 6)),
    "slice": moved("STRIDED_SLICE", (2, 3), "StridedSliceOptions", endMask=4, shrinkAxisMask=1),
}


@needs_tensorflow
@pytest.mark.parametrize("kind", ["int8", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_operator_equals_the_reference_kernel(case: str, kind: str) -> None:
    for seed in range(4):
        assert_equals_reference(CASES[case](np.random.default_rng(seed), kind).build(), seed=seed)


@needs_tensorflow
@pytest.mark.parametrize("kinds", ["float32 int8", "float32 uint8", "int8 int8", "uint8 int8", "int8 float32"])
def test_conversion_equals_the_reference_kernel(kinds: str) -> None:
    source, result = kinds.split()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        tensors = [
            T((50, 4), kind, 0.0 if kind == "float32" else scale_of(rng), 100 if kind == "uint8" else seed)
            for kind in (source, result)
        ]
        name, table = ("DEQUANTIZE", "") if result == "float32" else ("QUANTIZE", "QuantizeOptions")
        assert_equals_reference(Op(name, tensors[:1], tensors[1:], table=table).build(), seed=seed)


@needs_tensorflow
@pytest.mark.parametrize("name", ["ADD", "MUL"])
def test_every_pair_of_numbers_equals_the_reference_kernel(name: str) -> None:
    codes = np.arange(-128, 128, dtype=np.int8)
    for seed in (0, 1, 12, 37, 228, 417):  # from 12 on MUL's results show that its scales are multiplied in float32
        rng = np.random.default_rng(seed)
        tensors = [activation(rng, (256, 1), "int8"), activation(rng, (1, 256), "int8", codes)]
        result = T((256, 256), "int8", tensors[0].scale * tensors[1].scale * scale_of(rng, 50, 200), seed % 100)
        flatbuffer = Op(name, tensors, [result], table=f"{name.title()}Options").build()
        interpreter = reference(flatbuffer)
        interpreter.set_tensor(0, codes[:, None])
        interpreter.invoke()
        np.testing.assert_array_equal(Executor(flatbuffer).run(codes[:, None]), interpreter.get_tensor(2))


@needs_tensorflow
def test_sums_beyond_the_whole_numbers_of_float32_are_exact() -> None:
    weights = np.repeat([[127, -127]], 1500, axis=1).repeat(50, axis=0)  # 1500 * 127 * 127 is above 2**24, and even
    x, bias = np.full((1, 3000), 127, np.int8), np.arange(50) - 25
    x[0, 0] -= 1  # now every sum on the way is odd
    tensors = [T(x.shape, scale=1.0), T(weights.shape, scale=1.0, data=weights), T((50,), "int32", 1.0, data=bias)]
    model = Op("FULLY_CONNECTED", tensors, [T((1, 50), scale=1.0)], table="FullyConnectedOptions")
    np.testing.assert_array_equal(Executor(model.build()).run(x)[0], np.maximum(bias - 127, -128))


@needs_tensorflow
def test_a_result_is_not_the_inputs_memory() -> None:
    executor = Executor(CASES["reshape"](np.random.default_rng(0), "int8").build())
    x = np.ones(executor.input_shape, np.int8)
    result, tensors = executor.run(x), executor.tensors(x)
    executor.fill()[...] = 2
    assert all((array == 1).all() for array in (result, *tensors.values()))


def test_every_operator_is_tested_alone() -> None:
    made = {CASES[case](np.random.default_rng(0), "int8").name for case in CASES}
    assert made | {"QUANTIZE", "DEQUANTIZE"} == set(OPERATORS)


# --- SwishNet -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    """SwishNet slim with random weights, int8 and float32."""
    pytest.importorskip("tensorflow", reason="tensorflow is not installed: no model can be made")
    import keras

    from edge_bench.quantize.convert import Calibration, convert
    from edge_bench.train.models import build

    keras.utils.set_random_seed(3)
    model, rng = build("swishnet-slim"), np.random.default_rng(3)
    for layer in model.layers:  # biases other than 0, and weights that open and shut the gates
        layer.set_weights([1.5 * w if w.ndim > 1 else rng.normal(0, 0.2, w.shape) for w in layer.get_weights()])
    clips = rng.standard_normal((12, 204, 20)).astype(np.float32)
    calibration = Calibration(clips, ("random",) * len(clips))
    return {kind: convert(model, precision=kind, calibration=calibration) for kind in ("int8", "float32")}


@pytest.mark.parametrize("frames", [108, 156, 204])
@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_every_tensor_of_a_clip_equals_the_reference(models: dict[str, bytes], kind: str, frames: int) -> None:
    assert_equals_reference(models[kind], frames=frames, inputs=50 if kind == "int8" else 5)


def check_dense(flatbuffer: bytes, inputs: int) -> None:
    executor, rng = Executor(signature_alone(flatbuffer, "dense")), np.random.default_rng(2)
    runner = reference(flatbuffer).get_signature_runner("dense")
    for _ in range(inputs):
        x = random_input(rng, executor)
        np.testing.assert_array_equal(executor.run(x), runner(features=x)["logits"])


def test_dense_form_equals_the_reference(models: dict[str, bytes]) -> None:
    check_dense(models["int8"], 50)


@pytest.mark.slow
def test_many_clips_and_dense_inputs_equal_the_reference(models: dict[str, bytes]) -> None:
    for frames in (108, 156, 204):
        assert_equals_reference(models["int8"], frames=frames, inputs=250, seed=frames)
    check_dense(models["int8"], 250)  # a thousand: edge-bench verify NAME --interpreters --inputs 1000


def test_interface_is_that_of_a_session(models: dict[str, bytes]) -> None:
    for flatbuffer in models.values():
        session, executor = Session(flatbuffer, frames=156), Executor(flatbuffer, frames=156)
        for name in ("shape", "dtype", "quantization"):
            for end in ("input", "output"):
                assert getattr(executor, f"{end}_{name}") == getattr(session, f"{end}_{name}")
        assert (executor.backend, executor.version) == ("numpy", np.__version__)
        assert executor.nodes().total == len(tflite.read(flatbuffer).subgraphs[0].operators)
        assert (executor.nodes().delegated, executor.nodes().partitions) == (0, 0)


def test_filled_input_gives_what_run_gives_and_results_are_copies(models: dict[str, bytes]) -> None:
    executor = Executor(models["int8"])
    x = random_input(np.random.default_rng(0), executor)
    first = executor.run(x)
    kept = first.copy()
    executor.fill()[...] = 0
    other = executor.invoke()
    executor.fill()[...] = x
    np.testing.assert_array_equal(executor.invoke(), kept)
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(other, kept)


# --- what is refused ------------------------------------------------------------------------------


def test_wrong_inputs_are_refused(models: dict[str, bytes]) -> None:
    executor = Executor(models["int8"])
    with pytest.raises(InterpreterError, match="takes int8"):
        executor.run(np.zeros(executor.input_shape, np.float32))
    with pytest.raises(InterpreterError, match="of shape"):
        executor.run(np.zeros((1, 1, 3, 20), np.int8))


@pytest.mark.parametrize("frames", [-1, 0, 20])
def test_lengths_without_a_result_are_refused(models: dict[str, bytes], frames: int) -> None:
    with pytest.raises(InterpreterError, match=r"cannot have|cannot run"):
        Executor(models["int8"], frames=frames)


def test_lengths_that_tflite_takes_are_taken(models: dict[str, bytes]) -> None:
    def works(make: Callable[..., Any], frames: int) -> bool:
        try:
            make(models["int8"], frames)
        except (InterpreterError, RuntimeError):
            return False
        return True

    lengths = range(100, 130)
    taken = [frames for frames in lengths if works(lambda model, n: Executor(model, frames=n), frames)]
    assert taken == [frames for frames in lengths if works(reference, frames)]
    assert 108 in taken
    assert 100 not in taken


@needs_tensorflow
def test_unknown_operators_and_types_are_named() -> None:
    square = [T((2, 2), "float32"), T((2, 2), "float32")]
    with pytest.raises(InterpreterError, match="operator RELU is not known"):
        Executor(Op("RELU", square[:1], square[1:]).build())
    wide = [T((2, 2), "int16", 0.1), T((2, 2), "int16", 0.1)]
    with pytest.raises(InterpreterError, match="operator TANH: tensors of type int16"):
        Executor(Op("TANH", wide[:1], wide[1:]).build())
    differing = [T((2, 2), scale=0.1), T((2, 2), scale=0.2, data=np.zeros((2, 2))), T((4, 2), scale=0.1)]
    with pytest.raises(InterpreterError, match="operator CONCATENATION: its tensors differ in scale"):
        Executor(Op("CONCATENATION", differing[:2], differing[2:], table="ConcatenationOptions").build())


@needs_tensorflow
def test_an_output_that_no_operator_writes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tflite.read(CASES["tanh"](np.random.default_rng(0), "int8").build())
    graph = dataclasses.replace(model.subgraphs[0], operators=())
    monkeypatch.setattr(tflite, "read", lambda _: dataclasses.replace(model, subgraphs=(graph,)))
    with pytest.raises(InterpreterError, match="no operator writes the graph's output, tensor 1"):
        Executor(b"")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_models_give_our_errors_or_run(models: dict[str, bytes], data: st.DataObject) -> None:
    damaged = bytearray(models["int8"])
    for place in data.draw(st.lists(st.integers(8, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        Executor(bytes(damaged))
    except edge_runtime.EdgeBenchError:
        pass


def test_imports_only_numpy_and_the_standard_library() -> None:
    folder = Path(edge_runtime.__file__).parent
    for name in ("executor", "kernels", "convolution", "fixedpoint"):
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert {n.partition(".")[0] for n in names} <= {"numpy", *sys.stdlib_module_names}
