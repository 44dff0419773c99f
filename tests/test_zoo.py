"""The zoo: counts, shapes, a little training, files, conversion, and what is ours (front end, auralisation)."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import music, python

from edge_runtime import ConfigError, FrontEnd, FrontEndConfig
from edge_runtime.interpreter import Session

keras = pytest.importorskip("keras")

from edge_bench.train import models  # noqa: E402
from edge_bench.train.models import ZOO, allconv, auralise, genre, trainable_parameters  # noqa: E402

PUBLISHED = {
    "swishnet-slim": 5_483, "swishnet-wide": 18_267, "mobilenet": 217_235, "snn": 179_203, "poolnet": 2_271_330,
    "poolnet-conv": 8_777_986,
}  # fmt: skip

# small enough to train in a test; the shape of an input; name
SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "mobilenet": ({"inputs": 32}, (48, 32)),
    "snn": ({}, (60,)),
    "allconv": ({"fft_length": 256, "hop_length": 300, "sample_rate": 16000}, (19 * 300 + 256,)),
    "allconv-mel": ({}, (20, 40)),
    "musicnoise": ({"bins": 32, "frames": 64}, (32, 64, 1)),
    "poolnet": ({"rows": 32, "hidden": 16}, (32, 32, 1)),
    "poolnet-conv": ({"rows": 32, "hidden": 16}, (32, 32, 1)),
    "genre": ({"bins": 33, "frames": 48, "maps": 16, "dropout": 0.1}, (33, 48, 1)),
    "separable": ({"bands": 32, "frames": 64}, (32, 64, 3)),
    "separable-plain": ({"bands": 32, "frames": 64}, (32, 64, 3)),
}
# the others take longer to trace: they wait for the slow run
EACH = [name if name == "snn" else pytest.param(name, marks=pytest.mark.slow) for name in SMALL]


def network(name: str, **options: Any) -> Any:
    keras.utils.set_random_seed(4)
    return models.build(name, **{**SMALL.get(name, ({}, ()))[0], **options})


def examples(name: str, count: int = 32, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Noise with one fixed pattern a class."""
    rng = np.random.default_rng(0)
    shape = SMALL[name][1]
    y = np.arange(count) % classes
    patterns = rng.standard_normal((classes, *shape))
    return (patterns[y] + 0.3 * rng.standard_normal((count, *shape))).astype(np.float32), y


def to_tflite(model: Any, shape: tuple[int, ...]) -> bytes:
    """Return the float flatbuffer for one input of a fixed shape."""
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("clip", lambda x: model(x, training=False), [tf.TensorSpec((1, *shape), tf.float32)])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["clip"]).convert()


# --- the registry -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_parameters_and_layers(name: str) -> None:
    model = models.build(name)
    assert trainable_parameters(model) == ZOO[name].parameters == PUBLISHED.get(name, ZOO[name].parameters)
    logits, softmax = model.get_layer("pooled_logits"), model.layers[-1]
    assert softmax.name == "probabilities" and type(softmax) is keras.layers.Softmax
    assert softmax.input is logits.output, "the softmax sees these logits"
    assert model.output_shape == logits.output.shape == (None, int(ZOO[name].output.split()[0]))


@pytest.mark.parametrize("name", ZOO)
def test_configurations(name: str) -> None:
    config = models.configure(name, classes=4)
    assert dataclasses.is_dataclass(config) and config.classes == 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.classes = 5
    assert network(name, classes=4).output_shape[-1] == 4
    with pytest.raises(ConfigError, match=f"model {name}: unknown key 'colour'; known are .*classes"):
        models.build(name, colour="red")
    with pytest.raises(ConfigError, match=f"model {name}: classes is 'three'"):
        models.build(name, classes="three")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilenet", {"classes": 0}, "classes is 0"),
        ("mobilenet", {"alpha": 0.3}, "alpha is 0.3"),
        ("mobilenet", {"weights": "resnet"}, "weights is 'resnet', must be random, imagenet or"),
        ("mobilenet", {"weights": "gone.tflite"}, "gone.tflite: no such file"),
        ("snn", {"widths": (64, 0)}, r"widths\[1\] is 0"),
        ("snn", {"dropout": 1.0}, "dropout is 1.0"),
        ("allconv", {"input": "midi"}, "input is 'midi', must be one of audio, mel"),
        ("allconv", {"inputs": 64}, "inputs is 64, of which pooling leaves 2"),
        ("allconv", {"frames": 17}, "frames is 17, of which pooling leaves 2"),
        ("allconv", {"power_floor": 0.0}, "power_floor is 0.0"),
        ("allconv", {"hop_length": 0}, "hop_length is 0"),
        ("poolnet", {"kind": "max"}, "kind is 'max'"),
        ("poolnet", {"activation": "gelu"}, "activation is 'gelu', must be one of relu, tanh"),
        ("poolnet", {"strides": 0}, "strides is 0"),
        ("musicnoise", {"layers": 7}, "7 layers of pooling leave nothing of 64 x 256"),
        ("genre", {"frames": 31}, "5 layers of pooling leave nothing of 257 x 31"),
        ("separable", {"bands": 15}, "leaves nothing of 15 x 458"),
        ("separable", {"filters": (16, -1)}, r"filters\[1\] is -1"),
        ("separable", {"kind": "grouped"}, "kind is 'grouped'"),
    ],
)
def test_options_that_make_no_sense(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        models.build(name, **options)


def test_listing_needs_no_keras() -> None:
    code = "import sys\nfrom edge_bench.train.models import ZOO\nassert len(ZOO) > 5 and 'keras' not in sys.modules"
    python(code)


# --- training, files, conversion --------------------------------------------------------------


@pytest.mark.parametrize("name", EACH)
def test_training_saving_and_loading(name: str, tmp_path: Path) -> None:
    model = network(name, classes=2)
    x, y = examples(name)
    trainee = keras.Model(model.input, model.get_layer("pooled_logits").output)
    trainee.compile(
        keras.optimizers.Adam(2e-3), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )  # fmt: skip
    losses = trainee.fit(x, y, batch_size=8, epochs=4, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]

    probabilities = np.asarray(model(x))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    again = models.load(tmp_path / "model.keras")
    np.testing.assert_allclose(np.asarray(again(x)), probabilities, atol=1e-6)
    assert trainable_parameters(again) == trainable_parameters(model)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"nothing")
    for path in (tmp_path / "model.keras", tmp_path / "none.keras"):
        with pytest.raises(ConfigError, match=r"cannot be read as a \.keras model"):
            models.load(path)


@pytest.mark.slow
def test_a_saved_model_loads_in_a_fresh_process(tmp_path: Path) -> None:
    model = network("allconv")
    model.save(tmp_path / "model.keras")
    x = examples("allconv", 2)[0]
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.asarray(model(x)))
    code = """
import sys, numpy as np
from edge_bench.train import models
folder = sys.argv[1]
y = np.asarray(models.load(folder + "/model.keras")(np.load(folder + "/x.npy")))
assert np.abs(y - np.load(folder + "/y.npy")).max() < 1e-6
"""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    python(code, str(tmp_path))


@pytest.mark.parametrize("name", EACH)
def test_conversion(name: str) -> None:
    model = network(name)
    x = examples(name, 3)[0]
    if name.startswith("allconv"):
        allconv.adapt(model, [x])
    session = Session(to_tflite(model, SMALL[name][1]))
    got = np.concatenate([session.run(clip[None]) for clip in x])
    np.testing.assert_allclose(got, np.asarray(model(x)), atol=1e-4)


# --- the all-convolutional network ------------------------------------------------------------


def test_front_end_in_the_graph_equals_ours(tmp_path: Path) -> None:
    config = FrontEndConfig(
        kind="log_mel", sample_rate=44100, frame_length=1024, fft_length=1024, hop_length=882, mel_bands=40, fmin=0.0,
        fmax=22050.0,
    )  # fmt: skip
    x = music(1.0, 3)
    x += (1e-4 * np.random.default_rng(0).standard_normal(len(x))).astype(np.float32)
    model = network("allconv", sample_rate=44100, fft_length=1024, hop_length=882)
    view = keras.Model(model.input, model.get_layer("decibels").output)
    wanted = FrontEnd(config)(x)
    np.testing.assert_allclose(np.asarray(view(x[None]))[0], wanted, atol=0.02)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(np.asarray(models.load(tmp_path / "model.keras")(x[None])), np.asarray(model(x[None])))
    assert allconv.MelSpectrogram(44100, 1024, 1764, 40).compute_output_shape((2, 16900)) == (2, 10, 40)


def test_the_default_window_is_ten_frames() -> None:
    config = allconv.AllConvConfig()
    assert (config.samples(), config.samples(3)) == (9 * 1764 + 1024, 29 * 1764 + 1024)
    model = models.build("allconv")
    shapes = [model.get_layer(f"pool{i}").output.shape[1:3] for i in range(1, 9)]
    assert shapes == [(8, 10), (8, 5), (4, 5), (4, 3), (2, 3), (2, 2), (1, 2), (1, 1)]
    assert model(np.zeros((1, config.samples()), np.float32)).shape == (1, 2)
    with pytest.raises(ConfigError, match="9 frames are fewer than the 10 of a window"):
        model(np.zeros((1, config.samples() - 1), np.float32))


def test_windows_are_averaged_from_the_end() -> None:
    import tensorflow as tf

    model = network("allconv-mel")
    logits = keras.Model(model.input, model.get_layer("pooled_logits").output)
    x = np.random.default_rng(1).standard_normal((3, 34, 40)).astype(np.float32)
    alone = np.stack([np.asarray(logits(x[:, start : start + 10])) for start in (4, 14, 24)])
    np.testing.assert_allclose(np.asarray(logits(x)), alone.mean(axis=0), atol=1e-5)
    np.testing.assert_array_equal(np.asarray(logits(x)), np.asarray(logits(x[:, 4:])))
    any_length = tf.function(logits, input_signature=[tf.TensorSpec((None, None, 40), tf.float32)])
    np.testing.assert_allclose(np.asarray(any_length(x)), np.asarray(logits(x)), atol=1e-5)


def test_features_of_the_tenth_layer() -> None:
    model = network("allconv-mel")
    x = np.random.default_rng(1).standard_normal((3, 20, 40)).astype(np.float32)
    features = np.asarray(allconv.features_view(model)(x))
    assert features.shape == (6, 16) and features.min() >= 0, "two windows a clip, behind a ReLU"
    dense = [np.asarray(model.get_layer(name).get_weights()[0])[0, 0] for name in ("hidden", "scores")]
    biases = [model.get_layer(name).get_weights()[1] for name in ("hidden", "scores")]
    hidden = 1 / (1 + np.exp(-(features @ dense[0] + biases[0])))
    logits = (hidden @ dense[1] + biases[1]).reshape(3, 2, 2).mean(axis=1)
    view = keras.Model(model.input, model.get_layer("pooled_logits").output)
    np.testing.assert_allclose(np.asarray(view(x)), logits, atol=1e-5)


def test_normalisation_is_learnt_per_frequency(tmp_path: Path) -> None:
    model = network("allconv-mel")
    rng = np.random.default_rng(2)
    size = rng.uniform(1.2 * allconv.LEAST_DEVIATION, 20, 40)
    x = (rng.standard_normal((50, 10, 40)) * size + rng.uniform(-60, 0, 40)).astype(np.float32)
    allconv.adapt(model, [x[:30], x[30:]])
    view = keras.Model(model.input, model.get_layer("normalise").output)
    z = np.asarray(view(x)).reshape(-1, 40)
    np.testing.assert_allclose([z.mean(axis=0), z.std(axis=0)], [np.zeros(40), np.ones(40)], atol=1e-3)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(np.asarray(models.load(tmp_path / "model.keras")(x)), np.asarray(model(x)), atol=1e-6)
    with pytest.raises(ConfigError, match="nothing to adapt"):
        allconv.adapt(model, [])


# --- others -----------------------------------------------------------------------------------


def test_poolnet_maps_are_those_of_the_slides() -> None:
    maps = [(128, 32, 32), (64, 16, 64), (32, 8, 128), (16, 4, 256)]
    for name in ("poolnet", "poolnet-conv"):
        model = models.build(name)
        assert [model.get_layer(f"conv{i}").output.shape[1:] for i in range(1, 5)] == maps
    assert models.build("poolnet").get_layer("pool4").output.shape[1:] == (8, 2, 256)
    wide = models.build("poolnet-conv", activation="tanh", kernel=5, strides=3)
    assert wide.get_layer("conv4").output.shape[1:] == (5, 2, 256)
    assert wide.get_layer("hidden").activation is keras.activations.tanh


def test_snn_normalises_itself() -> None:
    model = models.build("snn", dropout=0.0)
    x = np.random.default_rng(0).standard_normal((2000, 60)).astype(np.float32)
    for i in (1, 2, 3):
        values = np.asarray(keras.Model(model.input, model.get_layer(f"hidden{i}").output)(x))
        assert abs(values.mean()) < 0.15 and abs(values.std() - 1) < 0.15


def test_stft_and_its_inverse() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(4 * genre.SAMPLE_RATE).astype(np.float32)
    spectrum = genre.stft(x)
    assert spectrum.shape == (257, 173) == tuple(models.build("genre").input_shape[1:3])
    back = genre.istft(spectrum)
    assert len(back) == 172 * 256
    np.testing.assert_allclose(back, x[: len(back)], atol=1e-5)
    np.testing.assert_allclose(genre.expand(genre.compress(np.abs(spectrum))), np.abs(spectrum), rtol=1e-3, atol=1e-6)
    with pytest.raises(ConfigError, match="511 samples are fewer than the 512"):
        genre.stft(x[:511])


def test_one_step_back_by_hand() -> None:
    """Layer 2 of a small network: unpool by the switches, transposed convolution, ReLU, as loops would do it."""
    model = network("genre", maps=3, layers=2, bins=9, frames=8)
    x = np.random.default_rng(0).random((9, 8)).astype(np.float32)

    def outputs(name: str) -> np.ndarray:
        return np.asarray(keras.Model(model.input, model.get_layer(name).output)(x[None, :, :, None]))[0]

    def transposed(y: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        out = np.zeros((y.shape[0] + 2, y.shape[1] + 2, kernel.shape[2]))
        for i, j in np.ndindex(y.shape[:2]):
            out[i : i + 3, j : j + 3] += kernel @ y[i, j]
        return out[1:-1, 1:-1]

    kernels = [model.get_layer(f"conv{i}").get_weights()[0] for i in (1, 2)]
    first, second = outputs("conv1"), outputs("conv2")
    back = np.maximum(transposed(second * np.eye(3)[1], kernels[1]), 0)
    unpooled = np.zeros_like(first)
    for i, j, c in np.ndindex(back.shape):
        window = first[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        at = np.unravel_index(window.argmax(), window.shape)
        unpooled[2 * i + at[0], 2 * j + at[1], c] = back[i, j, c]
    wanted = np.maximum(transposed(unpooled, kernels[0])[:, :, 0], 0)
    got = auralise.deconvolve(model, x, layer=2, feature=1)
    assert got.shape == x.shape and wanted.max() > 0
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_a_feature_becomes_sound() -> None:
    x = np.resize(music(2.0, 1), 4 * genre.SAMPLE_RATE)
    model = network("genre", bins=257, frames=173, maps=4)
    sounds = [auralise.auralise(model, x, layer=layer, feature=f) for layer in (1, 3, 5) for f in range(4)]
    assert all(len(x) - 256 < len(s) <= len(x) and np.isfinite(s).all() for s in sounds)
    assert max(np.abs(s).max() for s in sounds) > 1e-3
    weights = model.get_layer("conv1").get_weights()
    model.get_layer("conv1").set_weights([weights[0] * 0, weights[1] - 1])
    assert not auralise.auralise(model, x, layer=1, feature=0).any(), "a feature that never answers is silent"


@pytest.mark.parametrize(
    ("layer", "feature", "samples", "message"),
    [
        (0, 0, 44100, "layer is 0, the network has 2 convolutions"),
        (3, 0, 44100, "layer is 3"),
        (2, 3, 44100, "feature is 3, layer 2 has 3 maps"),
        (1, 0, 22050, "spectrogram is .257, 87., the network takes .257, 173."),
    ],
)
def test_auralising_what_is_not_there(layer: int, feature: int, samples: int, message: str) -> None:
    model = network("genre", bins=257, frames=173, maps=3, layers=2)
    with pytest.raises(ConfigError, match=message):
        auralise.auralise(model, np.ones(samples, np.float32), layer=layer, feature=feature)
