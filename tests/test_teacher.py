"""The teachers: weights read from a .tflite, MobileNet with batch normalisation unfolded, YAMNet and its table.

Tests that need the weights themselves look for them in the folder EDGE_BENCH_WEIGHTS and are skipped without it; a
stand-in made here goes through the same code.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLASSES, SOUNDS, speech

from edge_runtime import AudioError, BundleError, ConfigError, tflite
from edge_runtime.interpreter import Session

keras = pytest.importorskip("keras")

from edge_bench.train import models  # noqa: E402
from edge_bench.train.models import mobilenet, weights, yamnet  # noqa: E402

MOBILENET = "mobilenet_v1_0.25_128_quant.tflite"


def needs(name: str) -> Path:
    """The path of a weights file, or the test is skipped."""
    try:
        return weights.find_weights(name)
    except ConfigError as error:
        pytest.skip(f"{error}; set EDGE_BENCH_WEIGHTS to the folder that holds it")


def converted(model: Any, *, int8: bool = False) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if int8:
        rng = np.random.default_rng(0)
        shape = (1, *model.input_shape[1:])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([rng.standard_normal(shape).astype(np.float32)] for _ in range(8))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


def lively(model: Any, seed: int = 0) -> Any:
    """Give every normalisation statistics, gains and biases that are not 0 and 1."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = len(layer.get_weights()[0])
            layer.set_weights(
                [rng.uniform(0.5, 1.5, n), rng.normal(0, 0.3, n), rng.normal(0, 0.1, n), rng.uniform(0.5, 2, n)]
            )
    return model


def folded(model: Any) -> list[weights.FoldedLayer]:
    """Batch normalisation folded into the convolutions, as a converter does it."""
    found = []
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            kernel, *bias = layer.get_weights()
            if bias:
                found.append(weights.FoldedLayer(kernel, bias[0]))
                continue
            norm = model.get_layer(f"{layer.name}_bn")
            gain, offset, mean, variance = norm.get_weights()
            slope = gain / np.sqrt(variance + norm.epsilon)
            along = slope[:, None] if isinstance(layer, keras.layers.DepthwiseConv2D) else slope
            found.append(weights.FoldedLayer(kernel * along, offset - slope * mean))
    return found


# --- reading weights --------------------------------------------------------------------------


def small_network() -> Any:
    keras.utils.set_random_seed(2)
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3, strides=2, padding="same", activation="relu6", bias_initializer="normal")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6", bias_initializer="normal")(x)
    x = keras.layers.Conv2D(7, 1, bias_initializer="normal")(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("int8", [False, True])
def test_read_weights(int8: bool, tmp_path: Path) -> None:
    model = small_network()
    (tmp_path / "small.tflite").write_bytes(converted(model, int8=int8))
    found = weights.read_weights(tmp_path / "small.tflite")
    wanted = folded(model)
    assert [layer.kernel.shape for layer in found] == [(3, 3, 3, 5), (3, 3, 5, 1), (1, 1, 5, 7)]
    for got, true in zip(found, wanted, strict=True):
        step = np.abs(true.kernel).max() / 127 if int8 else 1e-7
        np.testing.assert_allclose(got.kernel, true.kernel, atol=0.51 * step if int8 else step)
        np.testing.assert_allclose(got.bias, true.bias, atol=1e-3 if int8 else 1e-7)


def test_dequantising() -> None:
    q = np.array([[0, 128, 255], [1, 2, 3]], np.uint8)
    one = tflite.Tensor(0, "w", q.shape, "uint8", tflite.Quantization((0.5,), (128,), 0), 1, memoryview(q.tobytes()))
    np.testing.assert_array_equal(weights._dequantised(one, "x"), (q.astype(float) - 128) / 2)
    each = tflite.Quantization((0.5, 2.0), (128, 0), 0)
    several = tflite.Tensor(0, "w", q.shape, "uint8", each, 1, memoryview(q.tobytes()))
    np.testing.assert_array_equal(weights._dequantised(several, "x"), [[-64, 0, 63.5], [2, 4, 6]])
    bias = np.array([-70000, 5], np.int32)
    one = tflite.Tensor(3, "b", (2,), "int32", tflite.Quantization((1e-4,), (0,), 0), 1, memoryview(bias.tobytes()))
    np.testing.assert_allclose(weights._dequantised(one, "x"), [-7, 5e-4], rtol=1e-6)
    values = memoryview(q.tobytes())
    for dtype, quantization, data in (("uint8", None, values), ("int64", None, values), ("uint8", each, None)):
        bad = tflite.Tensor(7, "w", q.shape, dtype, quantization, 1, data)
        with pytest.raises(BundleError, match="x: tensor 7"):
            weights._dequantised(bad, "x")


def test_finding_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tflite").write_bytes(b"")
    monkeypatch.delenv("EDGE_BENCH_WEIGHTS", raising=False)
    assert weights.find_weights(tmp_path / "a.tflite") == tmp_path / "a.tflite"
    with pytest.raises(ConfigError, match="weights a: no such file and EDGE_BENCH_WEIGHTS, a folder, is not set"):
        weights.find_weights("a")
    monkeypatch.setenv("EDGE_BENCH_WEIGHTS", str(tmp_path))
    assert weights.find_weights("a.tflite") == tmp_path / "a.tflite"
    with pytest.raises(ConfigError, match="weights b: no such file nor in EDGE_BENCH_WEIGHTS"):
        weights.find_weights("b")
    with pytest.raises(BundleError, match=r"is not a \.tflite"):
        weights.read_weights(tmp_path / "a.tflite")


# --- MobileNet --------------------------------------------------------------------------------


def test_folded_weights_give_the_same_network() -> None:
    options: dict[str, Any] = {"input_shape": (32, 32, 3), "alpha": 0.25, "weights": None, "classes": 5}
    keras.utils.set_random_seed(1)
    true = lively(keras.applications.MobileNet(**options))
    x = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    copy = keras.applications.MobileNet(**options)
    layers = folded(true)
    mobilenet.copy_folded(layers, copy)
    np.testing.assert_allclose(np.asarray(copy(x)), np.asarray(true(x)), atol=1e-5)
    with pytest.raises(BundleError, match="27 convolutions do not fill the 28"):
        mobilenet.copy_folded(layers[:-1], copy)
    with pytest.raises(BundleError, match=r"conv1 has shape \(3, 3, 3, 8\), the file \(3, 3, 8, 1\)"):
        mobilenet.copy_folded(layers[1:] + layers[:1], copy)


@pytest.mark.slow
def test_settling_changes_nothing_but_how_training_starts(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    model = models.build("mobilenet", inputs=32)
    mobilenet.copy_folded(folded(lively(keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, weights=None, include_top=False
    ))), model)  # fmt: skip
    x = np.random.default_rng(0).standard_normal((64, 48, 32)).astype(np.float32)
    view = keras.Model(model.input, model.get_layer("conv_pw_13_relu").output)

    def outputs() -> tuple[np.ndarray, np.ndarray]:
        """In inference and in training, which moves the statistics: they are put back."""
        kept = model.get_weights()
        both = np.asarray(view(x)), np.asarray(view(x, training=True))
        model.set_weights(kept)
        return both

    before, apart = outputs()
    mobilenet.settle(model, x)
    after, training = outputs()
    np.testing.assert_allclose(after, before, atol=2e-4)
    np.testing.assert_allclose(training, after, atol=2e-3)
    assert np.abs(apart - before).max() > 0.1, "unsettled, training begins with another network"
    mean = model.get_layer("conv1_bn").get_weights()[2]
    assert np.abs(mean).max() > 0, "the statistics are those of the data"

    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(
        np.asarray(models.load(tmp_path / "model.keras")(x)), np.asarray(model(x)), atol=1e-6
    )


def test_three_equal_channels_and_any_length() -> None:
    model = models.build("mobilenet")
    rng = np.random.default_rng(0)
    for frames in (48, 98, 108, 198):
        assert model(rng.standard_normal((2, frames, 64)).astype(np.float32)).shape == (2, 3)
    x = rng.standard_normal((1, 50, 64)).astype(np.float32)
    image = np.asarray(keras.Model(model.input, model.get_layer("channels").output)(x))
    assert image.shape == (1, 64, 50, 3)
    for channel in range(3):
        np.testing.assert_array_equal(image[0, :, :, channel], x[0].T / 2)


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    real = keras.applications.MobileNet

    def offline(*positional: Any, weights: str | None = None, **options: Any) -> Any:
        if weights:
            raise OSError("URL fetch failure: no route to host\nand more")
        return real(*positional, weights=weights, **options)

    monkeypatch.setattr(keras.applications, "MobileNet", offline)
    with pytest.raises(ConfigError, match=r"cannot be fetched \(URL fetch failure: no route to host\); give a quanti"):
        models.build("mobilenet", weights="imagenet")


def images(count: int, size: int = 128, seed: int = 0) -> np.ndarray:
    """Pictures of a kind: coloured noise at three scales, discs and a grating, uint8."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    found = []
    for _ in range(count):
        image = np.zeros((size, size, 3))
        for sigma in (2, 6, 18):
            field = gaussian_filter(rng.standard_normal((size, size, 3)), (sigma, sigma, 0))
            image += field * sigma * rng.uniform(0, 1, 3)
        for _ in range(rng.integers(1, 5)):
            (cy, cx), radius = rng.uniform(0.1, 0.9, 2), rng.uniform(0.05, 0.4)
            disc = (y - cy) ** 2 + ((x - cx) * rng.uniform(0.5, 2)) ** 2 < radius**2
            image[disc] += rng.normal(0, 1, 3)
        waves = rng.uniform(0, 20, 2)
        image += np.sin(2 * np.pi * (waves[0] * x + waves[1] * y))[..., None] * rng.uniform(0, 0.7)
        low, high = np.quantile(image, [0.02, 0.98])
        found.append(np.clip((image - low) / (high - low) * 255, 0, 255).round().astype(np.uint8))
    return np.stack(found)


@pytest.mark.slow
def test_the_imagenet_network_agrees_with_the_file() -> None:
    path = needs(MOBILENET)
    x = images(200)
    session = Session(path.read_bytes())
    wanted = np.concatenate([session.run(image[None]) for image in x]).astype(np.float64)
    # the file's input is scale 1/128, zero point 128
    got = np.asarray(mobilenet.imagenet_classifier(path)(x.astype(np.float32) / 128 - 1), np.float64)
    norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(got, axis=1)
    cosine = (wanted * got).sum(axis=1) / norms
    agreement = (wanted.argmax(axis=1) == got.argmax(axis=1)).mean()
    print(f"cosine {cosine.mean():.4f}, median {np.median(cosine):.4f}, least {cosine.min():.4f}; top-1 {agreement}")
    assert cosine.mean() >= 0.99 and agreement >= 0.90


def test_the_teacher_starts_from_the_file() -> None:
    path = needs(MOBILENET)
    model = models.build("mobilenet", weights=str(path))
    assert models.trainable_parameters(model) == 217_235
    first = weights.read_weights(path)[0]
    np.testing.assert_array_equal(model.get_layer("conv1").get_weights()[0], first.kernel)
    np.testing.assert_array_equal(model.get_layer("conv1_bn").get_weights()[1], first.bias)


# --- YAMNet -----------------------------------------------------------------------------------


def test_filters_are_tensorflows() -> None:
    import tensorflow as tf

    wanted = tf.signal.linear_to_mel_weight_matrix(64, 257, 16000, 125.0, 7500.0).numpy()
    np.testing.assert_allclose(yamnet.mel_filters(), wanted, atol=1e-4)


def test_spectra_are_log_magnitudes() -> None:
    x = speech(0.5, 1)
    frames = np.stack([x[i : i + 400] for i in range(0, len(x) - 399, 160)]).astype(np.float64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    wanted = np.log(np.abs(np.fft.rfft(frames * window, 512)) @ yamnet.mel_filters() + 0.001)
    np.testing.assert_allclose(yamnet.spectra(x), wanted, atol=1e-3)


def test_the_table() -> None:
    table = yamnet.class_table()
    assert len(table) == 521 and {own for _, own in table} == {"speech", "music", "noise", None}
    names = dict(table)
    assert len(names) == 521
    assert [table[i][0] for i in (0, 24, 67, 132, 277, 494, 520)] == [
        "Speech", "Singing", "Animal", "Music", "Wind", "Silence", "Field recording"
    ]  # fmt: skip
    for name, own in {
        "Conversation": "speech", "Shout": "speech", "Choir": "music", "Piano": "music", "Beatboxing": "music",
        "Scary music": "music", "Dog": "noise", "Rain": "noise", "Vacuum cleaner": "noise", "Cough": "noise",
        "Ringtone": "noise", "White noise": "noise", "Church bell": None, "Silence": None, "Radio": None,
        "Hubbub, speech noise, speech babble": None,
    }.items():  # fmt: skip
        assert names[name] == own, name
    speech_, music_ = yamnet.members(("speech", "music"))
    assert not set(speech_) & set(music_) and 132 in music_
    with pytest.raises(ConfigError, match="class 'silence' is not in the table"):
        yamnet.members(("silence",))


def test_shares_of_three_classes() -> None:
    scores = np.zeros((2, 521), np.float32)
    scores[0, 0], scores[1, 0], scores[:, 132], scores[:, 133] = 0.8, 0.4, 0.2, 0.2
    np.testing.assert_allclose(yamnet.to_classes(scores), [0.75, 0.25, 0], atol=1e-4)
    np.testing.assert_allclose(yamnet.to_classes(scores, ("music", "speech")), [0.25, 0.75], atol=1e-4)
    assert np.isfinite(yamnet.to_classes(scores * 0)).all()


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of YAMNet's shape: the mean of a band is the score of a class."""
    inputs = keras.Input((96, 64), batch_size=1)
    x = keras.layers.GlobalAveragePooling1D()(inputs)
    x = keras.layers.Dense(521, kernel_initializer=keras.initializers.Identity(), use_bias=False)(x)
    path = tmp_path_factory.mktemp("yamnet") / yamnet.FILE
    path.write_bytes(converted(keras.Model(inputs, x)))
    return path


def test_patches(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_BENCH_WEIGHTS", str(stand_in.parent))
    assert yamnet.weights() == stand_in
    x = speech(3.0, 1)
    frames = yamnet.spectra(x)
    scores = yamnet.Yamnet().scores(x)
    wanted = [frames[start : start + 96].mean(axis=0) for start in range(0, 298 - 95, 48)]
    assert scores.shape == (5, 521)
    np.testing.assert_allclose(scores[:, :64], wanted, atol=1e-4)
    half = yamnet.Yamnet(hop_s=0.24).scores(x)
    assert half.shape == (9, 521)
    np.testing.assert_array_equal(half[::2], scores)
    short = yamnet.Yamnet().scores(x[:4000])
    np.testing.assert_array_equal(short, yamnet.Yamnet().scores(np.resize(x[:4000], 15600)))
    assert short.shape == (1, 521), "a clip shorter than a patch is repeated"
    assert yamnet.Yamnet().probabilities(x).shape == (3,)


def test_what_yamnet_does_not_take(stand_in: Path, tmp_path: Path) -> None:
    network = yamnet.Yamnet(stand_in)
    with pytest.raises(ConfigError, match="there are no samples"):
        network.scores(np.zeros(0, np.float32))
    with pytest.raises(AudioError, match="one channel"):
        network.scores(np.zeros((2, 16000), np.float32))
    for hop in (0.0, 0.005, 0.123):
        with pytest.raises(ConfigError, match=r"hop_s is .*, must be a multiple of 0\.01 s"):
            yamnet.Yamnet(stand_in, hop_s=hop)
    (tmp_path / "other.tflite").write_bytes(converted(small_network()))
    with pytest.raises(ConfigError, match="this is not YAMNet"):
        yamnet.Yamnet(tmp_path / "other.tflite")


def test_spectra_of_the_test_vector() -> None:
    path = needs(yamnet.FILE)
    samples = np.frombuffer((path.parent / "yamnet_test_audio.bin").read_bytes(), "<i2").astype(np.int16)
    wanted = np.frombuffer((path.parent / "yamnet_test_spectra.bin").read_bytes(), "<f4").reshape(96, 64)
    difference = wanted - yamnet.spectra(samples)
    assert abs(difference.mean() - 1.41) < 0.01 and difference.std() < 0.02, "another scale, otherwise the same"
    scores = yamnet.Yamnet().scores(samples)
    assert yamnet.class_table()[int(scores[0].argmax())] == ("Speech", "speech")


def test_yamnet_tells_the_stand_in_sounds_apart() -> None:
    network = yamnet.Yamnet(needs(yamnet.FILE))
    right = [
        CLASSES[int(network.probabilities(SOUNDS[label](2.0, seed), CLASSES).argmax())] == label
        for label in ("music", "noise") for seed in range(4)
    ]  # fmt: skip
    assert np.mean(right) >= 0.75, "a pulse train is no speech to it, so only these two"


@pytest.mark.slow
def test_yamnet_on_the_validation_split() -> None:
    """Macro F1 of 2 s clips, by half overlapping; printed with -s."""
    path = needs(yamnet.FILE)
    root = os.environ.get("EDGE_BENCH_CORPUS")
    if not root:
        pytest.skip("set EDGE_BENCH_CORPUS to the corpus folder")
    from edge_bench.train import corpus
    from edge_runtime import audio
    from edge_runtime.metrics import evaluate

    network, truth, predicted = yamnet.Yamnet(path), [], []
    for recording in corpus.load(root).split("validation"):
        x = audio.load(str(recording.path))
        x = np.resize(x, max(len(x), 32000))
        for start in range(0, len(x) - 32000 + 1, 16000):
            truth.append(CLASSES.index(recording.label))
            predicted.append(int(network.probabilities(x[start : start + 32000], CLASSES).argmax()))
    result = evaluate(truth, predicted, CLASSES)
    print(f"macro F1 {result.macro_f1:.4f} of {result.clips} clips, recall {result.recall}\n{result.confusion}")
    assert result.macro_f1 > 0.95
