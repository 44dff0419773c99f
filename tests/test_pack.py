"""Packed models: a fraction of the bytes, and every interpreter gets the same bits out of the same nodes."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime import BundleError, tflite
from edge_runtime.interpreter import BACKENDS

WEIGHTS = Path(os.environ.get("EDGE_BENCH_WEIGHTS", Path(__file__).parents[2] / "shared" / "weights"))
EACH = [pytest.param(name, marks=[pytest.mark.slow] if name == "tf.lite" else []) for name in BACKENDS]
FOREIGN = "mlperf_tiny_kws_int8.tflite"

# what these weights reach, rounded up to the next 100 bytes: both forms, and the clip alone
BOUNDS = {
    ("slim", "int8"): (16100, 15100), ("slim", "float32"): (44000, 42200),
    ("wide", "int8"): (31000, 30000), ("wide", "float32"): (123300, 121400),
}  # fmt: skip
CASES = [
    pytest.param(width, precision, marks=[pytest.mark.slow] if width == "wide" else []) for width, precision in BOUNDS
]

RUN = """
import json, sys
from pathlib import Path
import numpy as np
from edge_runtime import InterpreterError
from edge_runtime.interpreter import Session, SignatureSession

def outputs(session):
    rng = np.random.default_rng(3)
    if session.input_dtype == np.float32:
        inputs = [rng.standard_normal(session.input_shape).astype(np.float32) for _ in range(3)]
    else:
        lowest, highest = np.iinfo(session.input_dtype).min, np.iinfo(session.input_dtype).max
        loud = [rng.standard_normal(session.input_shape) * scale for scale in (10, 40, 160)]
        inputs = [np.clip(np.rint(x), lowest, highest).astype(session.input_dtype) for x in loud]
    results = [session.run(x) for x in inputs]
    assert len({r.tobytes() for r in results}) > 1, "the answers do not depend on the input"
    return [session.output_shape, *(r.tobytes().hex() for r in results)]

backend, found = sys.argv[1], {}
for path in map(Path, sys.argv[2:]):
    data, answers = path.read_bytes(), {}
    try:
        for frames in (None,) if "clip" not in path.name else (None, 108, 156, 204):
            session = Session(data, frames=frames, backend=backend)
            answers[str(frames)] = outputs(session)
            nodes = session.nodes()
            answers[f"nodes {frames}"] = [nodes.total, nodes.delegated, nodes.partitions]
        if "both" in path.name:
            answers["dense"] = outputs(SignatureSession(data, "dense", backend=backend))
    except InterpreterError as error:
        if "no TFLite interpreter works here" not in str(error):
            raise
        print(json.dumps(str(error))); raise SystemExit
    found[path.stem] = answers
print(json.dumps(found))
"""


def answers(backend: str, folder: Path, models: dict[str, bytes]) -> dict[str, Any]:
    """Return outputs and node counts of each model; the interpreter runs in a process of its own."""
    paths = []
    for name, data in models.items():
        paths.append(folder / f"{name}.tflite")
        paths[-1].write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-I", "-c", RUN, backend, *map(str, paths)], capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] | str = json.loads(done.stdout.splitlines()[-1])
    if isinstance(found, str):
        pytest.skip(found)
    return found


def load(flatbuffer: bytes) -> Any:
    """Return the object that stands for a model."""
    from tensorflow.lite.python import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))


def plain(model: Any) -> bytes:
    """Return the flatbuffer that the official builder writes of a model."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def only(model: Any, number: int) -> Any:
    """Return a model with one of the graphs."""
    model = copy.deepcopy(model)
    model.subgraphs, model.signatureDefs = [model.subgraphs[number]], [model.signatureDefs[number]]
    model.signatureDefs[0].subgraphIndex = 0
    return model


def same(a: Any, b: Any) -> bool:
    """Compare two objects of the object API field by field."""
    if hasattr(a, "__dict__"):
        return type(a) is type(b) and all(same(value, vars(b)[name]) for name, value in vars(a).items())
    if isinstance(a, list) and a and hasattr(a[0], "__dict__"):
        return len(a) == len(b) and all(map(same, a, b))
    return np.array_equal(a, b)


Converted = Callable[[str, str], bytes]


@pytest.fixture(scope="module")
def converted(slim: Any) -> Converted:
    """What the converter writes of random slim and wide networks, each made when it is asked for."""
    import keras

    from edge_bench.quantize import convert
    from edge_bench.train.models import build

    made: dict[tuple[str, str], bytes] = {}
    clips = np.random.default_rng(5).standard_normal((8, 198, 20)).astype(np.float32)

    def get(width: str, precision: str) -> bytes:
        if (width, precision) not in made:
            keras.utils.set_random_seed(12)
            rng, model = np.random.default_rng(12), slim if width == "slim" else build("swishnet-wide")
            if width == "wide":  # zero biases, all equal, would be stored once
                for layer in model.layers:
                    layer.set_weights([w if w.ndim > 1 else rng.normal(0, 0.1, w.shape) for w in layer.get_weights()])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(convert, "two_forms", lambda flatbuffer, **_: bytes(flatbuffer))
                calibration = convert.Calibration(clips, ("random",) * len(clips))
                made[width, precision] = convert.convert(model, precision=precision, calibration=calibration)
        return made[width, precision]

    return get


@pytest.fixture(scope="module")
def packed(converted: Converted) -> Converted:
    """The same with two signatures."""
    from edge_bench.quantize.forms import two_forms

    made: dict[tuple[str, str], bytes] = {}

    def get(width: str, precision: str) -> bytes:
        if (width, precision) not in made:
            made[width, precision] = two_forms(converted(width, precision), block_frames=512, receptive_field=108)
        return made[width, precision]

    return get


# --- interpreters -----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", EACH)
@pytest.mark.parametrize("width", ["slim", pytest.param("wide", marks=pytest.mark.slow)])
def test_outputs_and_nodes_stay(
    converted: Converted, packed: Converted, width: str, backend: str, tmp_path: Path
) -> None:
    """Also LiteRT and tf.lite run the official verifier before they load a model; tflite-runtime does not."""
    from edge_bench.quantize.pack import pack

    models = {}
    for precision in ("int8", "float32"):
        small = packed(width, precision)
        dense = only(load(small), 1)  # alone: only a first graph's nodes can be counted (2.14 delegates no other)
        models |= {
            f"{precision}-clip-converted": converted(width, precision),
            f"{precision}-clip-both-plain": plain(load(small)), f"{precision}-clip-both": small,
            f"{precision}-dense-plain": plain(dense), f"{precision}-dense": pack(dense),
        }  # fmt: skip
    found = answers(backend, tmp_path, models)
    for precision in ("int8", "float32"):
        both = found[f"{precision}-clip-both"]
        assert both == found[f"{precision}-clip-both-plain"]
        assert found[f"{precision}-dense"] == found[f"{precision}-dense-plain"]
        before = found[f"{precision}-clip-converted"]
        assert {key: both[key] for key in before} == before
        # the balanced form has blocks in parts, which are gated by themselves: slim its first, wide its first three
        counts = both["nodes 204"][0], found[f"{precision}-dense"]["nodes None"][0]
        assert counts == {"slim": (64, 62), "wide": (80, 78)}[width]


@pytest.mark.skipif(not (WEIGHTS / FOREIGN).is_file(), reason=f"{FOREIGN} is not in EDGE_BENCH_WEIGHTS ({WEIGHTS})")
@pytest.mark.parametrize("backend", EACH)
def test_a_foreign_model(backend: str, tmp_path: Path) -> None:
    from edge_bench.quantize.pack import pack, strip

    original = (WEIGHTS / FOREIGN).read_bytes()
    model = load(original)
    whole = pack(model)
    assert same(load(whole), model) and tflite.read(whole) == tflite.read(original)
    strip(model)
    stripped = pack(model)
    assert len(stripped) < len(whole) < len(original) - 2000
    found = answers(backend, tmp_path, {"original": original, "whole": whole, "stripped": stripped})
    assert found["original"] == found["whole"] == found["stripped"]


# --- what is in the file ----------------------------------------------------------------------


@pytest.mark.parametrize(("width", "precision"), CASES)
def test_size(packed: Converted, width: str, precision: str) -> None:
    from edge_bench.quantize.pack import pack, strip

    both, clip = BOUNDS[width, precision]
    small = packed(width, precision)
    alone = only(load(small), 0)
    strip(alone)
    assert len(small) <= both
    assert len(pack(alone)) <= clip


@pytest.mark.parametrize(("width", "precision"), CASES)
def test_readers_find_the_same_model(packed: Converted, width: str, precision: str) -> None:
    small = packed(width, precision)
    usual = plain(load(small))
    assert len(usual) > len(small) + 5000
    assert same(load(small), load(usual))
    assert tflite.read(small) == tflite.read(usual)


def content(graph: tflite.Subgraph) -> list[Any]:
    """Return what the operators do, whatever the numbers and names of the tensors."""

    def tensor(index: int) -> Any:
        return dataclasses.replace(graph.tensors[index], index=0, name="", buffer=0)

    rows = []
    for operator in graph.operators:
        inputs: list[Any] = [tensor(i) for i in operator.inputs]
        rows.append((operator.name, operator.options, inputs, [tensor(i) for i in operator.outputs]))
    return rows


@pytest.mark.parametrize(("width", "precision"), CASES)
def test_the_clip_is_what_was_converted(converted: Converted, packed: Converted, width: str, precision: str) -> None:
    before, after = tflite.read(converted(width, precision)).subgraphs[0], tflite.read(packed(width, precision))
    assert content(before) == content(after.subgraphs[0])
    assert [(s.key, s.subgraph) for s in after.signatures] == [("clip", 0), ("dense", 1)]


def test_equal_models_give_equal_bytes(converted: Converted, packed: Converted) -> None:
    from edge_bench.quantize.forms import two_forms
    from edge_bench.quantize.pack import pack

    small = packed("slim", "int8")
    assert two_forms(converted("slim", "int8"), block_frames=512, receptive_field=108) == small
    assert pack(load(small)) == small, "packing what is packed changes nothing"
    assert pack(load(plain(load(small)))) == small
    assert small[4:8] == b"TFL3" and len(small) % 4 == 0


@pytest.mark.parametrize(("dtype", "align"), [(np.int64, 16), (np.float64, 16), (np.int32, 4), (np.int8, 4)])
def test_constants_lie_on_their_own_size(dtype: Any, align: int) -> None:
    from tensorflow.lite.python import schema_py_generated as schema

    from edge_bench.quantize.pack import pack

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [], [schema.BufferT()]
    graph.tensors, graph.operators = [], []
    constants = [np.arange(n, n + 2 * n, dtype=dtype) for n in range(1, 9)]
    for array in constants:
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = array.view(np.uint8)
        graph.tensors.append(schema.TensorT())
        graph.tensors[-1].shape, graph.tensors[-1].buffer = [array.size], len(model.buffers) - 1
        graph.tensors[-1].type = getattr(schema.TensorType, np.dtype(dtype).name.upper())
    graph.inputs = graph.outputs = [0]
    data = np.frombuffer(pack(model), np.uint8)
    for tensor, array in zip(tflite.read(data.data).subgraphs[0].tensors, constants, strict=True):
        found = np.frombuffer(tensor.data, np.uint8)
        np.testing.assert_array_equal(found.view(dtype), array)
        assert (found.ctypes.data - data.ctypes.data) % align == 0


def test_weights_behind_the_file_are_refused(packed: Converted) -> None:
    from edge_bench.quantize.pack import pack

    model = load(packed("slim", "int8"))
    model.buffers[1].offset = 1 << 31
    with pytest.raises(BundleError, match="weights outside its flatbuffer"):
        pack(model)


def test_another_slice_is_refused(slim: Any) -> None:
    import tensorflow as tf
    from tensorflow.lite.python import schema_py_generated as schema

    from edge_bench.quantize.fuse import fuse
    from edge_bench.quantize.graph import clip_function
    from edge_bench.quantize.slices import slices_as_convolutions

    function = clip_function(fuse(slim), 204, 20)
    model = load(bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module()).convert()))
    sliced = [o for o in model.subgraphs[0].operators if isinstance(o.builtinOptions, schema.StridedSliceOptionsT)]
    assert len(sliced) == 7
    sliced[0].builtinOptions.beginMask = 0
    with pytest.raises(BundleError, match="STRIDED_SLICE along anything but time"):
        slices_as_convolutions(plain(model))


words = st.lists(st.integers(0, 3), max_size=6)


@given(st.lists(st.tuples(words, st.sampled_from([4, 8, 16])), max_size=12, unique_by=str))
def test_overlapping_vectors_are_all_there(vectors: list[tuple[list[int], int]]) -> None:
    from edge_bench.quantize.pack import _overlapping, _Vector

    nodes = {
        number: _Vector(struct.pack(f"<{1 + len(numbers)}I", len(numbers), *numbers), align)
        for number, (numbers, align) in enumerate(vectors, 1)
    }
    blobs = _overlapping(nodes)
    found = {number: (blob, at) for blob in blobs for number, at in blob.offsets.items()}
    assert found.keys() == nodes.keys() and sum(len(blob.offsets) for blob in blobs) == len(nodes)
    for number, node in nodes.items():
        blob, at = found[number]
        assert blob.content[at : at + len(node.content)] == node.content and at % 4 == 0
        assert node.align == 4 or (at == 0 and blob.align == node.align)
