"""What the deployed form of SwishNet-slim buys: against the usual export, against the machine, frame by frame.

Weights are random: they change no time. One thread, LiteRT.
"""

from __future__ import annotations

import copy
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_bench.benchmarks.interleave import interleave, ratio
from edge_runtime.interpreter import Session

MACS = 509_616  # of the plain strided form of slim on 2 s: what the network asks for, however it is deployed
FRAMES = 198
FORMS = ("balanced", "fused", "plain", "dense", "large", "empty")


def session(flatbuffer: bytes, **options: Any) -> Any:
    """Return what runs a model once on a fixed input."""
    made = Session(flatbuffer, backend="litert", **options)
    x = np.random.default_rng(0).integers(-60, 60, made.input_shape).astype(made.input_dtype)
    return partial(made.run, x)


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    """The models of `convert`; kept in the folder ``EDGE_BENCH_FORMS`` if set, for a machine without TensorFlow."""
    kept = os.environ.get("EDGE_BENCH_FORMS")
    files = {name: Path(kept) / f"{name}.tflite" for name in FORMS} if kept else {}
    if files and all(file.is_file() for file in files.values()):
        return {name: file.read_bytes() for name, file in files.items()}
    found = convert()
    for name, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(found[name])
    return found


def convert() -> dict[str, bytes]:
    """Return models in int8 by name.

    The balanced form (shipped), fused throughout, the usual export, and the dense form alone; a large convolution
    (1 x 1, 256 to 256 channels, 64 x 64 pixels) and an addition to 8 numbers, for the floor.
    """
    tf = pytest.importorskip("tensorflow")
    import keras

    from edge_bench.quantize import deploy
    from edge_bench.quantize.convert import Calibration, convert_deployed
    from edge_bench.quantize.objects import unpack
    from edge_bench.quantize.pack import pack, strip
    from edge_bench.quantize.recipes import recipe_of
    from edge_bench.train.models import build

    keras.utils.set_random_seed(0)
    model = build("swishnet-slim")
    clips = np.random.default_rng(0).standard_normal((8, 204, 20)).astype(np.float32)
    calibration = Calibration(clips, ("random",) * len(clips))
    forms = {
        "balanced": deploy.swishnet(model), "fused": deploy.swishnet(model, optimise="latency"),
        "plain": deploy.plain(model, frames=FRAMES, image=False),
    }  # fmt: skip
    found = {
        name: convert_deployed(form, recipe_of("static-int8"), calibration).flatbuffer for name, form in forms.items()
    }
    dense = copy.deepcopy(unpack(found["balanced"]))
    dense.subgraphs, dense.signatureDefs = dense.subgraphs[1:], dense.signatureDefs[1:]
    dense.signatureDefs[0].subgraphIndex = 0
    strip(dense)
    kernel = np.random.default_rng(0).standard_normal((1, 1, 256, 256)).astype(np.float32)
    large = one_operator(lambda x: tf.nn.conv2d(x, kernel, 1, "VALID"), (1, 64, 64, 256))
    return {**found, "dense": pack(dense), "large": large, "empty": one_operator(lambda x: x + x, (1, 1, 1, 8))}


def one_operator(function: Any, shape: tuple[int, ...]) -> bytes:
    """Return an int8 model of a TensorFlow function."""
    import tensorflow as tf

    from edge_bench.quantize.quantiser import quantise_graph
    from edge_runtime import tflite

    graph = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    flatbuffer = bytes(tf.lite.TFLiteConverter.from_concrete_functions([graph], tf.Module()).convert())
    tensors = tflite.read(flatbuffer).subgraphs[0]
    ends = {i for operator in tensors.operators for i in operator.outputs} | set(tensors.inputs)
    return quantise_graph(flatbuffer, dict.fromkeys(ends, (-4.0, 4.0)))


def test_fused_is_twice_as_fast_as_the_usual_export(benchmark: Any, made: dict[str, bytes]) -> None:
    runs = {name: session(made[name]) for name in ("balanced", "fused", "plain")}
    times = interleave(runs, rounds=400, calls=dict.fromkeys(runs, 10))
    found = {name: ratio(times["plain"], times[name]) for name in ("balanced", "fused")}
    benchmark.extra_info.update(ratio=found)
    benchmark(runs["balanced"])
    for name, (middle, low, high) in found.items():
        print(f"\n{name}: {np.median(times[name]):.1f} us, the usual Conv1D int8 export "
              f"{np.median(times['plain']):.1f} us: {middle:.2f} x as fast ({low:.2f} to {high:.2f})")  # fmt: skip
    assert min(middle for middle, _, _ in found.values()) >= 2


def test_within_eight_times_the_floor(benchmark: Any, made: dict[str, bytes]) -> None:
    """The floor: the network's multiply-accumulates at the core's int8 peak, and an empty invoke.

    The peak is the best rate of the large int8 convolution (268 million multiply-accumulates) on the same interpreter
    and thread; the empty invoke is the model of one addition.
    """
    runs = {"slim": session(made["balanced"]), "large": session(made["large"]), "empty": session(made["empty"])}
    times = interleave(runs, rounds=200, calls={"slim": 10, "empty": 50})
    peak = 64 * 64 * 256 * 256 / min(times["large"])  # a microsecond
    floor = MACS / peak + float(np.median(times["empty"]))
    found = float(np.median(times["slim"])) / floor
    benchmark.extra_info.update(ratio=found, macs_per_us=peak, floor_us=floor)
    benchmark(runs["slim"])
    print(f"\npeak {peak / 1000:.1f} GMAC/s, empty invoke {np.median(times['empty']):.2f} us, floor {floor:.1f} us; "
          f"slim {np.median(times['slim']):.1f} us: {found:.2f} x the floor")  # fmt: skip
    assert found <= 8


def test_a_dense_frame_costs_at_most_three_strided_ones(benchmark: Any, made: dict[str, bytes]) -> None:
    """Over the same audio: the strided network on clips of 2 s side by side, the dense form on its blocks."""
    runs = {"dense": session(made["dense"]), "strided": session(made["balanced"])}
    times = interleave(runs, rounds=300, calls={"strided": 3})
    decisions = Session(made["dense"], backend="litert").output_shape[2]
    per_frame = {"dense": np.array(times["dense"]) / decisions, "strided": np.array(times["strided"]) / FRAMES}
    middle, low, high = ratio(per_frame["dense"].tolist(), per_frame["strided"].tolist())
    benchmark.extra_info.update(ratio=(middle, low, high))
    benchmark(runs["dense"])
    print(f"\na dense frame {np.median(per_frame['dense']):.3f} us, a strided one "
          f"{np.median(per_frame['strided']):.3f} us: {middle:.2f} x ({low:.2f} to {high:.2f})")  # fmt: skip
    assert middle <= 3
