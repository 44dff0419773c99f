"""SwishNet: counts, instants, causality, and the arithmetic of Keras, the fused form, float and int8 TFLite.

The oracle is a deliberately naive numpy network, written from the table in the system's description (paper and figure):
it walks frame by frame through an endless stream, in which what precedes the clip is mean frames (zeros).
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import parts_of

from edge_runtime import ConfigError, bundle
from edge_runtime.classify import dequantise, padded, predict, quantise

keras = pytest.importorskip("keras")

from edge_bench.quantize import convert  # noqa: E402
from edge_bench.quantize.fuse import RATES, STRIDES, fuse  # noqa: E402
from edge_bench.train.models import ZOO, build  # noqa: E402
from edge_bench.train.models.swishnet import (  # noqa: E402
    RECEPTIVE_FIELD,
    STRIDE,
    PadToStride,
    SwishNetConfig,
    instants,
    padded_frames,
)  # fmt: skip
from edge_bench.train.models.swishnet import build as build_config  # noqa: E402

NAMES = ("swishnet-slim", "swishnet-wide")
WIDTH = {"swishnet-slim": 1, "swishnet-wide": 2}


@cache
def network(name: str, dropout: float = 0.0) -> Any:
    """The network with lively random weights, biases included: a bias makes padding inside a block visible."""
    keras.utils.set_random_seed(3)
    model = build(name, dropout=dropout)
    if dropout:
        for layer in network(name).layers:
            if layer.weights:
                model.get_layer(layer.name).set_weights(layer.get_weights())
        return model
    rng = np.random.default_rng(3)
    for layer in model.layers:
        layer.set_weights([w * 1.5 if w.ndim > 1 else rng.normal(0, 0.3, w.shape) for w in layer.get_weights()])
    return model


@cache
def logits_of(name: str) -> Any:
    model = network(name)
    return keras.Model(model.input, model.get_layer("logits").output)


def clip(frames: int, seed: int = 0, count: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, frames, 20)).astype(np.float32)


def logits(name: str, x: np.ndarray) -> np.ndarray:
    return np.asarray(logits_of(name)(x))


# --- the naive network ------------------------------------------------------------------------


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class Naive:
    """The table, block by block, at any instant t of a stream; float64, no arrays along time, no strides."""

    def __init__(self, model: Any, x: np.ndarray) -> None:
        self.weights = {
            layer.name: [np.asarray(w, np.float64) for w in layer.get_weights()]
            for layer in model.layers
            if layer.weights
        }
        self.x = x.astype(np.float64)
        self.memory: dict[tuple[str, int], np.ndarray] = {}

    def input(self, t: int) -> np.ndarray:
        return self.x[t] if 0 <= t < len(self.x) else np.zeros(self.x.shape[1])

    def at(self, name: str, t: int) -> np.ndarray:
        """Value of a tensor at frame t, computed once."""
        key = (name, t)
        if key not in self.memory:
            self.memory[key] = getattr(self, name)(t)
        return self.memory[key]

    @staticmethod
    def gate(y: np.ndarray) -> np.ndarray:
        half = len(y) // 2
        return sigmoid(y[:half]) * np.tanh(y[half:])

    def conv(self, name: str, source: str, t: int, taps: int, apart: int) -> np.ndarray:
        kernel, bias = self.weights[f"{name}_conv"]
        assert kernel.shape[0] == taps
        y = bias.copy()
        for k in range(taps):
            y += self.at(source, t - (taps - 1 - k) * apart) @ kernel[k]
        return y

    def separable(self, name: str, source: str, t: int) -> np.ndarray:
        depth, point, bias = self.weights[f"{name}_sep"]
        assert depth.shape[0] == 6 and depth.shape[2] == 1
        mixed = sum(self.at(source, t - (5 - k)) * depth[k, :, 0] for k in range(6))
        return mixed @ point[0] + bias

    def pair(self, name: str, source: str, t: int) -> np.ndarray:
        return np.concatenate([self.gate(self.conv(name, source, t, 3, 1)), self.gate(self.separable(name, source, t))])

    def b1(self, t: int) -> np.ndarray:
        return self.pair("b1", "input", t)

    def b2(self, t: int) -> np.ndarray:
        return self.pair("b2", "b1", t)

    def b3(self, t: int) -> np.ndarray:
        return self.pair("b3", "b2", t) + self.at("b2", t)

    def b4(self, t: int) -> np.ndarray:  # stride 3: what follows sees every third frame
        return self.gate(self.conv("b4", "b3", t, 3, 1)) + self.at("b3", t)

    def skip1(self, t: int) -> np.ndarray:
        return self.gate(self.conv("b5", "b4", t, 3, 3))

    def b5(self, t: int) -> np.ndarray:
        return self.at("skip1", t) + self.at("b4", t)

    def skip2(self, t: int) -> np.ndarray:
        return self.gate(self.conv("b6", "b5", t, 3, 6))

    def b6(self, t: int) -> np.ndarray:
        return self.at("skip2", t) + self.at("b5", t)

    def skip3(self, t: int) -> np.ndarray:  # B7 has no shortcut
        return self.gate(self.conv("b7", "b6", t, 3, 12))

    def skip4(self, t: int) -> np.ndarray:
        return self.gate(self.conv("b8", "skip3", t, 3, 24))

    def head(self, t: int) -> np.ndarray:
        skips = np.concatenate([self.at(f"skip{i}", t) for i in (1, 2, 3, 4)])
        kernel, bias = self.weights["hidden"]
        hidden = np.maximum(skips @ kernel + bias, 0)
        kernel, bias = self.weights["logits"]
        return hidden @ kernel + bias

    def clip_instants(self) -> list[int]:
        """The last frame and every 48 before it, until together they have seen the first frame."""
        times = [len(self.x) - 1]
        while times[0] - 107 > 0:
            times.insert(0, times[0] - 48)
        return times

    def probabilities(self) -> np.ndarray:
        mean = np.mean([self.at("head", t) for t in self.clip_instants()], axis=0)
        return np.exp(mean) / np.exp(mean).sum()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames", [1, 20, 48, 98, 107, 108, 109, 110, 155, 156, 157, 198, 204, 205])
def test_every_instant_is_the_naive_networks(name: str, frames: int) -> None:
    x = clip(frames, seed=frames)
    naive = Naive(network(name), x[0])
    times = naive.clip_instants()
    assert len(times) == instants(frames)
    got = logits(name, x)
    assert got.shape == (1, len(times), 3)
    np.testing.assert_allclose(got[0], [naive.at("head", t) for t in times], atol=1e-5)
    np.testing.assert_allclose(np.asarray(network(name)(x))[0], naive.probabilities(), atol=1e-5)


# --- counts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("swishnet-slim", 5483), ("swishnet-wide", 18267)])
def test_parameters(name: str, count: int) -> None:
    model = build(name)
    assert model.count_params() == count == ZOO[name].parameters
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == count
    assert build(name, dropout=0.2).count_params() == count
    assert not any("norm" in layer.name for layer in model.layers)


@pytest.mark.parametrize(
    ("frames", "length", "times"),
    [
        *[(1, 108, 1), (48, 108, 1), (98, 108, 1), (108, 108, 1), (109, 156, 2)],
        *[(156, 156, 2), (157, 204, 3), (198, 204, 3), (204, 204, 3)],
    ],
)
def test_padded_frames_and_instants(frames: int, length: int, times: int) -> None:
    assert (padded_frames(frames), instants(frames)) == (length, times)
    assert (length - RECEPTIVE_FIELD) // STRIDE + 1 == times


def test_three_modules_agree_on_the_numbers(bundles: dict[str, Path]) -> None:
    b = bundle.read(bundles["int8"])
    assert (b.receptive_field, b.stride) == (RECEPTIVE_FIELD, STRIDE) == (convert.RECEPTIVE_FIELD, convert.STRIDE)
    assert [b.padded_frames(n) for n in range(1, 1000)] == [padded_frames(n) for n in range(1, 1000)]
    assert np.prod(STRIDES) == STRIDE and tuple(np.cumprod([1, *STRIDES])[:-1]) == RATES
    taps = (6, 6, 6, 3, 3, 3, 3, 3)
    assert 1 + sum((k - 1) * r for k, r in zip(taps, RATES, strict=True)) == RECEPTIVE_FIELD


def test_unknown_names_and_options() -> None:
    with pytest.raises(ConfigError, match=r"'swishnet-huge' is unknown; the zoo has .*swishnet-slim, swishnet-wide"):
        build("swishnet-huge")
    with pytest.raises(ConfigError, match=r"swishnet-slim.*depth"):
        build("swishnet-slim", depth=3)


def test_other_inputs_and_classes() -> None:
    model = build("swishnet-slim", inputs=13, classes=5)
    assert model(np.zeros((2, 48, 13), np.float32)).shape == (2, 5)
    assert build_config(SwishNetConfig(width=3)).count_params() > 18267


@pytest.mark.parametrize("options", [{"width": 0}, {"dropout": 1.5}, {"classes": 0}, {"inputs": -1}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        build("swishnet-slim", **options)


@pytest.mark.parametrize("frames", [1, 48, 108, 109, 198])
def test_padding_layer(frames: int) -> None:
    import tensorflow as tf

    layer = PadToStride()
    x = clip(frames, count=2)
    wanted = np.concatenate([np.zeros((2, padded_frames(frames) - frames, 20), np.float32), x], axis=1)
    assert np.array_equal(layer(x), wanted)
    assert layer.compute_output_shape((2, frames, 20)) == wanted.shape
    assert layer.compute_output_shape((None, None, 20)) == (None, None, 20)
    unknown = tf.function(layer.call, input_signature=[tf.TensorSpec([None, None, 20], tf.float32)])
    assert np.array_equal(unknown(x), wanted), "the length is known only when the graph runs"


# --- time -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames", [48, 98, 108, 198])
def test_the_last_frame_is_seen(name: str, frames: int) -> None:
    x = clip(frames)
    changed = x.copy()
    changed[0, -1] += 1
    assert np.abs(logits(name, changed)[0, -1] - logits(name, x)[0, -1]).max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_of_a_clip_is_seen(name: str) -> None:
    for frames in (48, 98, 198):
        x = clip(frames)
        base = np.asarray(network(name)(x))
        changed = np.repeat(x, frames, axis=0)
        changed[np.arange(frames), np.arange(frames)] += 3
        assert (np.abs(np.asarray(network(name)(changed)) - base).max(axis=1) > 0).all(), frames


@pytest.mark.parametrize("name", NAMES)
def test_the_receptive_field_is_108_frames(name: str) -> None:
    same = np.repeat(clip(204), 204, axis=0)
    changed = same.copy()
    changed[np.arange(204), np.arange(204)] += 3
    # row by row: on some processors a row's last bits depend on its place in the batch
    moved = (logits(name, changed) != logits(name, same)).any(axis=2)
    for frame in range(204):
        # the three instants lie on frames 107, 155 and 203
        assert moved[frame].tolist() == [t - 107 <= frame <= t for t in (107, 155, 203)], f"frame {frame}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames", [1, 48, 98, 107, 120, 198])
def test_a_clip_equals_itself_behind_zeros(name: str, frames: int) -> None:
    x = clip(frames)
    for more in {1, (padded_frames(frames) - frames) // 2, padded_frames(frames) - frames}:
        if frames + more <= padded_frames(frames):
            behind = np.pad(x, ((0, 0), (more, 0), (0, 0)))
            np.testing.assert_allclose(network(name)(behind), network(name)(x), atol=1e-6)
    # and so does the last instant of a stream that starts with silence
    stream = np.pad(x, ((0, 0), (96, 0), (0, 0)))
    np.testing.assert_allclose(logits(name, stream)[0, -1], logits(name, x)[0, -1], atol=1e-5)


def test_instants_of_a_long_clip_are_those_of_its_parts() -> None:
    x = clip(204)
    long = logits("swishnet-slim", x)[0]
    for i, end in enumerate((108, 156, 204)):
        np.testing.assert_allclose(logits("swishnet-slim", x[:, end - 108 : end])[0, -1], long[i], atol=1e-5)


def test_a_batch_is_its_clips() -> None:
    x = clip(98, count=7)
    together = np.asarray(network("swishnet-wide")(x))
    single = np.concatenate([network("swishnet-wide")(one[None]) for one in x])
    np.testing.assert_allclose(together, single, atol=1e-6)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)


def test_dropout_acts_in_training_only() -> None:
    model = network("swishnet-slim", dropout=0.4)
    x = clip(98)
    np.testing.assert_allclose(model(x), network("swishnet-slim")(x), atol=1e-6)
    drawn = [np.asarray(model(x, training=True)) for _ in range(5)]
    assert np.ptp(drawn, axis=0).max() > 1e-4


# --- the same numbers in other forms ----------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_fused_weights_give_the_same_network(name: str) -> None:
    """The fused kernels, applied naively with dilations, against the Keras layers."""
    fused = fuse(network(name))
    assert [block.kernel.shape[0] for block in fused.blocks] == [6, 6, 6, 3, 3, 3, 3, 3]
    parts = (*fused.blocks, fused.hidden, fused.logits)
    assert fused.parameters == sum(part.kernel.size + part.bias.size for part in parts)
    x = clip(204)[0].astype(np.float64)

    def block(y: np.ndarray, number: int) -> np.ndarray:
        kernel, rate = fused.blocks[number].kernel, RATES[number]
        reach = (len(kernel) - 1) * rate
        z = sum(y[k * rate : len(y) - reach + k * rate] @ kernel[k] for k in range(len(kernel)))
        z = z + fused.blocks[number].bias
        half = z.shape[1] // 2
        return sigmoid(z[:, :half]) * np.tanh(z[:, half:])

    def add(y: np.ndarray, shortcut: np.ndarray) -> np.ndarray:
        return y + shortcut[-len(y) :]

    y = block(block(x, 0), 1)
    y = add(block(y, 2), y)
    y = add(block(y, 3), y)
    skips = [block(y, 4)]
    y = add(skips[0], y)
    skips.append(block(y, 5))
    y = add(skips[1], y)
    skips.append(block(y, 6))
    skips.append(block(skips[2], 7))
    head = np.concatenate([s[-len(skips[3]) :] for s in skips], axis=1)
    head = np.maximum(head @ fused.hidden.kernel[0] + fused.hidden.bias, 0)
    dense = head @ fused.logits.kernel[0] + fused.logits.bias
    assert dense.shape == (204 - 107, 3)
    np.testing.assert_allclose(dense[::48], logits(name, x[None].astype(np.float32))[0], atol=1e-5)


@pytest.fixture(scope="module")
def floats() -> dict[str, bytes]:
    """Float flatbuffers of both networks."""
    return {name: convert.convert(network(name), precision="float32") for name in NAMES}


def runner(flatbuffer: bytes, key: str) -> Any:
    """A signature in LiteRT without delegates: its plain kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=flatbuffer, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    found = interpreter.get_signature_runner(key)
    return lambda x: next(iter(found(features=x).values()))


def clip_of(flatbuffer: bytes, frames: int) -> Any:
    """The clip graph at a length."""
    from edge_runtime.interpreter import Session

    return Session(flatbuffer, frames=frames, kernels="plain").run


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames", [48, 98, 108, 156, 198])
def test_the_float_clip_is_keras(floats: dict[str, bytes], name: str, frames: int) -> None:
    x = clip(frames, count=4)
    run = clip_of(floats[name], padded_frames(frames))
    got = np.concatenate([run(one[None, None]) for one in padded(x, padded_frames(frames))])
    np.testing.assert_allclose(got, network(name)(x), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_float_dense_form_is_keras_at_every_phase(floats: dict[str, bytes], name: str) -> None:
    x = clip(convert.DENSE_BLOCK + 107)
    dense = runner(floats[name], "dense")(x[None])
    assert dense.shape == (1, 1, convert.DENSE_BLOCK, 3)
    # decision i is the logits of the clip that ends at frame i + 107, whatever its length
    phases = np.arange(0, convert.DENSE_BLOCK - 96, 5)  # 5 and 48 have no common divisor: all phases
    clips = np.stack([x[0, i : i + 204] for i in phases])
    got = logits(name, clips)
    for j in range(3):
        np.testing.assert_allclose(dense[0, 0, phases + 48 * j], got[:, j], atol=2e-5)
    shortest = np.stack([x[0, i : i + 108] for i in range(0, convert.DENSE_BLOCK, 7)])
    np.testing.assert_allclose(dense[0, 0, ::7], logits(name, shortest)[:, 0], atol=2e-5)


def preserved(flatbuffer: bytes, x: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Logits of the clip graph before the mean, with their quantisation, from LiteRT's plain kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=flatbuffer, experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )  # fmt: skip
    (entry,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(entry["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry["index"], x)
    interpreter.invoke()
    (mean,) = [o for o in interpreter._get_ops_details() if o["op_name"] == "MEAN"]
    index = int(mean["inputs"][0])
    detail = next(d for d in interpreter.get_tensor_details() if d["index"] == index)
    return interpreter.get_tensor(index), detail


def test_the_int8_dense_form_is_the_clip_bit_for_bit(bundles: dict[str, Path]) -> None:
    flatbuffer = parts_of(bundles["int8"].read_bytes())[0]
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (1, 1, convert.DENSE_BLOCK + 107, 20)).astype(np.int8)
    dense = runner(flatbuffer, "dense")(x)
    assert dense.dtype == np.int8 and np.ptp(dense.astype(int)) > 50
    for start in range(0, convert.DENSE_BLOCK, 11):
        got, _ = preserved(flatbuffer, x[:, :, start : start + 108])
        assert np.array_equal(got.reshape(1, 3), dense[0, 0, start : start + 1]), f"phase {start % 48}"
    got, detail = preserved(flatbuffer, x[:, :, 100:304])
    assert np.array_equal(got.reshape(3, 3), dense[0, 0, 100:197:48])
    form = bundle.read(bundles["int8"]).info["forms"]["dense"]["output"]
    assert detail["quantization"] == pytest.approx((form["scale"], form["zero_point"]))


def pooled(b: bundle.Bundle) -> Any:
    """Quantisation of the logits and of their mean."""
    graph = b.model.subgraphs[0]
    (mean,) = [o for o in graph.operators if o.name == "MEAN"]
    found = [graph.tensors[i].quantization for i in (mean.inputs[0], mean.outputs[0])]
    return [(q.scale[0], q.zero_point[0]) for q in found if q]


def test_the_int8_clip_is_the_softmax_of_the_dense_logits(bundles: dict[str, Path]) -> None:
    b = bundle.read(bundles["int8"])
    x = np.random.default_rng(1).integers(-128, 128, (1, 1, convert.DENSE_BLOCK + 107, 20)).astype(np.int8)
    single, mean = pooled(b)
    values = dequantise(runner(b.flatbuffer, "dense")(x), *single)[0, 0]
    run = clip_of(b.flatbuffer, 108)
    for start in range(0, convert.DENSE_BLOCK, 29):
        raw = run(x[:, :, start : start + 108])[0]
        mine = dequantise(quantise(values[start], *mean, np.int8), *mean)
        p = np.exp(mine) / np.exp(mine).sum()
        # one step of the mean at the steepest place of the softmax, and one of the output
        assert np.abs((raw.astype(float) + 128) / 256 - p).max() < mean[0] / 4 + 1 / 256


def test_the_mean_of_one_instant_fits_its_range(bundles: dict[str, Path]) -> None:
    (scale, zero), (mean_scale, mean_zero) = pooled(bundle.read(bundles["int8"]))
    assert mean_scale * (127 - mean_zero) > 0.97 * scale * (127 - zero)
    assert mean_scale * (-128 - mean_zero) < 0.97 * scale * (-128 - zero)


def test_int8_stays_close_to_float(bundles: dict[str, Path]) -> None:
    a, b = (bundle.read(bundles[p]) for p in ("float32", "int8"))
    for frames in (48, 98, 198):
        x = clip(frames, seed=9, count=20)
        p, q = predict(a, x), predict(b, x)
        assert p.shape == q.shape == (20, 3)
        assert np.abs(p - q).mean() < 0.03 and np.corrcoef(p.ravel(), q.ravel())[0, 1] > 0.95


def test_quantising_there_and_back(bundles: dict[str, Path]) -> None:
    form = bundle.read(bundles["int8"]).info["forms"]["clip"]["input"]
    scale, zero = form["scale"], form["zero_point"]
    q = np.arange(-128, 128).astype(np.int8)
    assert np.array_equal(quantise(dequantise(q, scale, zero), scale, zero, np.int8), q)
    x = np.array([-1e9, 1e9, 0.0], np.float32)
    assert quantise(x, scale, zero, np.int8).tolist() == [-128, 127, zero]
    assert np.array_equal(quantise(x, 0.0, 0, np.float32), x) and dequantise(x, 0.0, 0).dtype == np.float32


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_predicts_alike(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(name).save(path)
        again = keras.saving.load_model(path, safe_mode=True)
    for frames in (48, 98, 198):
        x = clip(frames, count=3)
        assert np.array_equal(again(x), network(name)(x))
    assert again.count_params() == ZOO[name].parameters
    assert convert.convert(again, precision="float32") == convert.convert(network(name), precision="float32")


@pytest.mark.slow
def test_a_saved_model_loads_in_a_fresh_process(tmp_path: Path) -> None:
    """It needs the module that defines the padding layer, and nothing unpickled."""
    from helpers import python

    path = tmp_path / "model.keras"
    network("swishnet-slim").save(path)
    np.save(tmp_path / "x.npy", clip(98))
    code = """
import sys
import keras, numpy as np
import edge_bench.train.models.swishnet
model = keras.saving.load_model(sys.argv[1], safe_mode=True)
print(np.asarray(model(np.load(sys.argv[2])))[0].tolist())
"""
    got = python(code, str(path), str(tmp_path / "x.npy")).strip().splitlines()[-1]
    np.testing.assert_allclose(eval(got, {}), network("swishnet-slim")(clip(98))[0], atol=1e-6)
