"""The flatbuffer reader: what it says is what the interpreters say, and damage is an error and nothing worse."""

from __future__ import annotations

import struct
import time
import warnings
from typing import Any

import numpy as np
import pytest
from helpers import parts_of

from edge_runtime import BundleError, tflite

PRECISIONS = ("float32", "int8")


@pytest.fixture(scope="module")
def models(bundles: dict[str, Any]) -> dict[str, bytes]:
    """The bare flatbuffers."""
    return {precision: parts_of(path.read_bytes())[0] for precision, path in bundles.items()}


@pytest.fixture(scope="module")
def other() -> bytes:
    """A quantised image network as the converter writes it: metadata, names and other operators."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 10, 3), batch_size=1)
    x = keras.layers.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu")(inputs)
    x = keras.layers.DepthwiseConv2D(3, dilation_rate=2)(x)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.AveragePooling2D((1, 2), padding="same")(x)
    x = keras.layers.Dense(5)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Softmax()(x))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    rng = np.random.default_rng(0)
    converter.representative_dataset = lambda: ([rng.random((1, 12, 10, 3)).astype(np.float32)] for _ in range(8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bytes(converter.convert())


def interpreters(flatbuffer: bytes) -> list[Any]:
    """TensorFlow's and LiteRT's interpreter without a delegate, which would add tensors of its own."""
    import tensorflow as tf
    from ai_edge_litert import interpreter as litert

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = [
            tf.lite.Interpreter(
                model_content=flatbuffer,
                experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            ),
            litert.Interpreter(
                model_content=flatbuffer,
                experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            ),
        ]
    for each in made:
        each.allocate_tensors()
    return made


def same_tensors(graph: tflite.Subgraph, details: list[dict[str, Any]]) -> int:
    """Compare a graph with an interpreter's details (which may go on with temporaries); return how many have scales."""
    by_index = {int(d["index"]): d for d in details}
    quantised = 0
    for tensor in graph.tensors:
        detail = by_index[tensor.index]
        assert tensor.name == detail["name"]
        assert tensor.shape == tuple(detail["shape"]), tensor.name
        assert tensor.dtype == np.dtype(detail["dtype"]).name
        scales = detail["quantization_parameters"]
        if tensor.quantization is None:
            assert len(scales["scales"]) == 0
            continue
        quantised += 1
        np.testing.assert_array_equal(np.float32(tensor.quantization.scale), scales["scales"])
        np.testing.assert_array_equal(tensor.quantization.zero_point, scales["zero_points"])
        assert tensor.quantization.axis == scales["quantized_dimension"]
    return quantised


# --- against the interpreters -----------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tensors_are_those_of_the_interpreters(models: dict[str, bytes], precision: str) -> None:
    model = tflite.read(models[precision])
    for interpreter in interpreters(models[precision]):
        quantised = same_tensors(model.subgraphs[0], interpreter.get_tensor_details())
        assert (quantised > 20) == (precision == "int8")
        assert model.subgraphs[0].inputs == tuple(d["index"] for d in interpreter.get_input_details())
        assert model.subgraphs[0].outputs == tuple(d["index"] for d in interpreter.get_output_details())
        operators = [d["op_name"] for d in interpreter._get_ops_details()]
        assert [o.name for o in model.subgraphs[0].operators] == operators
        for operator, detail in zip(model.subgraphs[0].operators, interpreter._get_ops_details(), strict=True):
            assert set(operator.inputs) - {-1} == set(map(int, detail["inputs"])) - {-1}
            assert operator.outputs == tuple(map(int, detail["outputs"]))


def test_another_model_reads_alike(other: bytes) -> None:
    model = tflite.read(other)
    for interpreter in interpreters(other):
        assert same_tensors(model.subgraphs[0], interpreter.get_tensor_details()) > 5
    names = [o.name for o in model.subgraphs[0].operators]
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "FULLY_CONNECTED", "SOFTMAX"} <= set(names)
    options = {o.name: o.options for o in model.subgraphs[0].operators}
    assert options["CONV_2D"]["stride_h"] == 2 and options["CONV_2D"]["stride_w"] == 1
    assert options["CONV_2D"]["padding"] == 0 and options["CONV_2D"]["activation"] == 1  # SAME, RELU
    assert options["MAX_POOL_2D"]["filter_h"] == options["MAX_POOL_2D"]["filter_w"] == 2


@pytest.mark.parametrize("precision", PRECISIONS)
def test_constants_are_those_of_the_interpreter(models: dict[str, bytes], precision: str) -> None:
    model = tflite.read(models[precision])
    interpreter = interpreters(models[precision])[0]
    constants = [t for t in model.subgraphs[0].tensors if t.data is not None]
    assert len(constants) >= 20
    for tensor in constants:
        values = np.frombuffer(bytes(tensor.data or b""), tensor.dtype).reshape(tensor.shape)
        np.testing.assert_array_equal(values, interpreter.get_tensor(tensor.index))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_signatures(models: dict[str, bytes], precision: str) -> None:
    model = tflite.read(models[precision])
    assert [(s.key, s.subgraph) for s in model.signatures] == [("clip", 0), ("dense", 1)]
    for interpreter in interpreters(models[precision]):
        wanted = interpreter.get_signature_list()
        assert list(wanted) == [s.key for s in model.signatures]
        for signature in model.signatures:
            assert list(signature.inputs) == wanted[signature.key]["inputs"]
            assert list(signature.outputs) == wanted[signature.key]["outputs"]
            graph = model.subgraphs[signature.subgraph]
            assert tuple(signature.inputs.values()) == graph.inputs
            runner = interpreter.get_signature_runner(signature.key)
            (detail,) = runner.get_input_details().values()
            assert tuple(detail["shape"]) == graph.tensors[graph.inputs[0]].shape
            (detail,) = runner.get_output_details().values()
            assert tuple(detail["shape"]) == graph.tensors[graph.outputs[0]].shape


def test_dense_dilates_where_clip_strides(models: dict[str, bytes]) -> None:
    clip, dense = tflite.read(models["int8"]).subgraphs
    strides = [o.options["stride_w"] for o in clip.operators if o.name == "CONV_2D"]
    dilations = [o.options["dilation_w"] for o in dense.operators if o.name == "CONV_2D"]
    # block 1 has two branches in parts; up to block 5 sigmoids and tanhs have convolutions of their own
    assert strides == [*[1] * 4, *[1] * 4, 3, 3, 2, 2, 2, 2, 2, 1, 1]
    assert dilations == [*[1] * 4, *[1] * 4, 1, 1, 3, 3, 6, 12, 24, 1, 1]
    assert {o.options["stride_w"] for o in dense.operators if o.name == "CONV_2D"} == {1}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_both_forms_share_their_weights(models: dict[str, bytes], precision: str) -> None:
    clip, dense = tflite.read(models[precision]).subgraphs

    def kernels(graph: tflite.Subgraph) -> list[int]:
        return [graph.tensors[o.inputs[1]].buffer for o in graph.operators if o.name == "CONV_2D"]

    assert kernels(clip) == kernels(dense) and len(set(kernels(clip))) == len(kernels(clip))


# --- damage -----------------------------------------------------------------------------------


def outcome(data: bytes, *, limit_s: float = 2.0) -> tflite.Model | None:
    """Read and return the model, None for a BundleError; anything else fails, and so does being slow."""
    start = time.thread_time()
    try:
        return tflite.read(data)
    except BundleError as error:
        assert "\n" not in str(error)
        return None
    finally:
        assert time.thread_time() - start < limit_s


def mutations(data: bytes, count: int, seed: int) -> Any:
    """Yield damaged copies: flipped bits and bytes, extreme words, pieces cut out, inserted and swapped."""
    rng = np.random.default_rng(seed)
    extremes = [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, len(data), len(data) - 4]
    for number in range(count):
        mutated = bytearray(data)
        at = int(rng.integers(len(data)))
        if number % 3 == 0 and len(data) > 4000:  # most of the structure lies at the end, most of the weights before it
            at = int(rng.choice([rng.integers(2000), len(data) - 1 - rng.integers(len(data) // 2)]))
        kind = number % 6
        if kind == 0:
            mutated[at] ^= 1 << rng.integers(8)
        elif kind == 1:
            for place in rng.integers(len(data), size=rng.integers(1, 20)):
                mutated[place] = rng.integers(256)
        elif kind == 2:
            at = at // 4 * 4
            mutated[at : at + 4] = struct.pack("<I", int(rng.choice(extremes)))
        elif kind == 3:
            del mutated[at : at + int(rng.integers(1, 64))]
        elif kind == 4:
            mutated[at:at] = rng.bytes(int(rng.integers(1, 64)))
        else:
            other = int(rng.integers(len(data)))
            size = int(rng.integers(1, 256))
            mutated[at : at + size], mutated[other : other + size] = data[other : other + size], data[at : at + size]
        yield bytes(mutated)


def test_mutations(models: dict[str, bytes]) -> None:
    refused = 0
    for i, precision in enumerate(PRECISIONS):
        for mutated in mutations(models[precision], 250, seed=i):
            refused += outcome(mutated) is None
    assert 50 < refused < 495, "both outcomes must occur, or the mutations test nothing"


@pytest.mark.slow
def test_structure_under_extreme_numbers(models: dict[str, bytes]) -> None:
    """Every 32 bit word of a small model's structure becomes an extreme."""
    data = models["int8"]
    rng = np.random.default_rng(1)
    for at in rng.choice(len(data) // 4, 300, replace=False) * 4:
        for word in (0xFFFFFFFF, 0x7FFFFFFF, 0):
            outcome(data[:at] + struct.pack("<I", word) + data[at + 4 :])


def test_every_kind_of_cut(models: dict[str, bytes]) -> None:
    data = models["int8"]
    ends = [*range(64), *np.random.default_rng(0).integers(64, len(data) - 64, 250).tolist(), len(data) - 64]
    for end in ends:
        assert outcome(data[:end]) is None, f"cut to {end} of {len(data)} bytes"
    for end in range(len(data) - 64, len(data)):
        outcome(data[:end])  # the last bytes may be padding


def test_noise_behind_the_mark() -> None:
    rng = np.random.default_rng(2)
    for size in range(8, 408):
        content = rng.bytes(4) + b"TFL3" + rng.bytes(size)
        assert outcome(content) is None
        assert outcome(struct.pack("<I", int(rng.integers(8, size + 8))) + content[4:]) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .tflite"),
        (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "not a .tflite"),
        (b"PK\x03\x04" + bytes(60), "not a .tflite"),
        (b"just some text, nothing more", "not a .tflite"),
        (bytes(4) + b"TFL2" + bytes(60), "not a .tflite"),
        (bytes(4) + b"TFL3" + bytes(60), "damaged .tflite|schema version"),
    ],
)
def test_foreign_files(content: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        tflite.read(content, what="some/file")
    assert str(caught.value).startswith("some/file: ") and "\n" not in str(caught.value)


def build(subgraphs: int, tensors: int, *, version: int = 3, **changes: Any) -> bytes:
    """A model of which every subgraph is the same table and every tensor of it, too: a few bytes each."""
    import flatbuffers

    b = flatbuffers.Builder(1024)
    shape_values = changes.get("shape", (1, 4))
    b.StartVector(4, len(shape_values), 4)
    for n in reversed(shape_values):
        b.PrependInt32(n)
    shape = b.EndVector()
    b.StartObject(6)
    b.PrependUOffsetTRelativeSlot(0, shape, 0)
    b.PrependUint32Slot(2, changes.get("buffer", 0), 0)
    tensor = b.EndObject()

    def offsets(item: int, count: int) -> int:
        b.StartVector(4, count, 4)
        for _ in range(count):
            b.PrependUOffsetTRelative(item)
        return int(b.EndVector())

    def numbers(values: list[int]) -> int:
        b.StartVector(4, len(values), 4)
        for n in reversed(values):
            b.PrependInt32(n)
        return int(b.EndVector())

    all_tensors, ends = offsets(tensor, tensors), numbers([changes.get("end", 0)])
    inputs = numbers([0] * changes.get("operator_inputs", 1))
    b.StartObject(6)
    b.PrependUOffsetTRelativeSlot(1, inputs, 0)
    b.PrependUOffsetTRelativeSlot(2, ends, 0)
    operator = b.EndObject()
    all_operators = offsets(operator, changes.get("operators", 0))
    b.StartObject(5)
    for field, value in ((0, all_tensors), (1, ends), (2, ends), (3, all_operators)):
        b.PrependUOffsetTRelativeSlot(field, value, 0)
    graph = b.EndObject()
    b.StartObject(2)
    buffer = b.EndObject()
    b.StartObject(4)
    code = b.EndObject()
    graphs, buffers, codes = offsets(graph, subgraphs), offsets(buffer, 1), offsets(code, 1)
    description = b.CreateString("a model made by hand")
    b.StartObject(8)
    b.PrependUint32Slot(0, version, 0)
    b.PrependUOffsetTRelativeSlot(3, description, 0)
    b.PrependUOffsetTRelativeSlot(1, codes, 0)
    b.PrependUOffsetTRelativeSlot(2, graphs, 0)
    b.PrependUOffsetTRelativeSlot(4, buffers, 0)
    b.Finish(b.EndObject(), b"TFL3")
    return bytes(b.Output())


def test_a_model_made_by_hand() -> None:
    model = tflite.read(build(2, 3))
    assert len(model.subgraphs) == 2 and [t.shape for t in model.subgraphs[0].tensors] == [(1, 4)] * 3
    assert model.subgraphs[0].tensors[0].data is None and model.signatures == ()
    assert model.description == "a model made by hand"


def test_a_text_longer_than_the_file() -> None:
    data = bytearray(build(1, 1))
    at = data.index(b"a model made by hand") - 4
    for length in (len(data), 0x7FFFFFFF, 0xFFFFFFFF):
        data[at : at + 4] = struct.pack("<I", length)
        with pytest.raises(BundleError, match=f"a list of {length} items does not fit"):
            tflite.read(bytes(data))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "schema version 2, expected 3"),
        ({"buffer": 1}, "buffer of tensor 0: 1 of 1"),
        ({"end": 3}, "graph's tensor 3 of 3"),
        ({"end": -1}, "graph's tensor -1 of 3"),
        ({"shape": (-1, 4)}, "shape"),
        ({"shape": (1,) * 9}, "shape"),
        ({"shape": (1 << 30, 1 << 30)}, "shape"),
        ({"shape": (1 << 27, 1)}, "shape"),
    ],
)
def test_numbers_that_do_not_fit_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        tflite.read(build(1, 3, **changes))


def test_a_model_without_a_subgraph() -> None:
    with pytest.raises(BundleError, match="no subgraph"):
        tflite.read(build(0, 1))


def test_a_small_file_is_never_slow() -> None:
    data = build(500, 500)
    assert len(data) < 5000
    start = time.thread_time()
    outcome(data, limit_s=1e9)
    assert time.thread_time() - start < 0.25


def test_one_long_list_of_numbers_listed_often() -> None:
    data = build(1, 1, operators=2500, operator_inputs=2500)
    assert len(data) < 21000
    start = time.thread_time()
    outcome(data, limit_s=1e9)
    assert time.thread_time() - start < 0.1


# --- what lies behind the flatbuffer ----------------------------------------------------------


def test_a_tail_changes_nothing(bundles: dict[str, Any], models: dict[str, bytes]) -> None:
    assert tflite.read(bundles["int8"].read_bytes()).subgraphs == tflite.read(models["int8"]).subgraphs
    assert tflite.read(memoryview(models["int8"])).signatures == tflite.read(models["int8"]).signatures
