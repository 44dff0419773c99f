"""What a student learns from: a faster twin for training, trained networks as teachers, the mean of several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edge_bench.train import corpus, experiment, models, reference, teachers
from edge_bench.train.batches import ClipBatches
from edge_bench.train.clips import clip_frames
from edge_bench.train.features import Pool
from edge_bench.train.fit_config import Masking
from edge_runtime import ConfigError, FrontEnd, FrontEndConfig

CLASSES = ("speech", "music", "noise")


@pytest.mark.parametrize(
    ("name", "dropout"), [("swishnet-slim", 0.2), pytest.param("swishnet-wide", 0.0, marks=pytest.mark.slow)]
)
def test_the_trained_twin_is_the_network(name: str, dropout: float) -> None:
    model = models.build(name, dropout=dropout)
    twin = models.trainee(model)
    x = np.random.default_rng(0).standard_normal((4, 150, 20)).astype(np.float32)
    wanted = keras.Model(model.input, model.get_layer("pooled_logits").output)(x)
    np.testing.assert_allclose(twin(x), wanted, atol=1e-6)
    assert twin.count_params() == model.count_params()
    twin.compile("sgd", "mse")
    twin.train_on_batch(x, np.ones((4, 3), np.float32))
    np.testing.assert_allclose(
        twin(x), keras.Model(model.input, model.get_layer("pooled_logits").output)(x), atol=1e-6,
        err_msg="training the twin trains the network",
    )  # fmt: skip


def test_the_twins_gradients_are_the_networks() -> None:
    import tensorflow as tf

    model = models.build("swishnet-slim")
    plain = keras.Model(model.input, model.get_layer("pooled_logits").output)
    twin = models.trainee(model)
    x = np.random.default_rng(1).standard_normal((3, 108, 20)).astype(np.float32)
    grads = []
    for network in (plain, twin):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network(x) ** 2)
        grads.append(tape.gradient(loss, [v.value for v in model.trainable_variables]))
    for a, b in zip(*grads, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def pool_of(rows: np.ndarray) -> Pool:
    recording = corpus.Recording(Path("a.wav"), "speech", "train", "a")
    others = [replace(recording, label=name, group=name) for name in CLASSES[1:]]
    three = np.arange(3)
    return Pool(
        np.concatenate([rows] * 3), three * len(rows), np.full(3, len(rows)), three, np.zeros(3, np.int64),
        (recording, *others),
    )  # fmt: skip


def drawn(kind: str, masking: Masking, **options: Any) -> tuple[np.ndarray, FrontEndConfig]:
    config = FrontEndConfig(kind=kind)
    config = config.normalised((1.0,) * config.features, (2.0,) * config.features)
    batches = ClipBatches(
        pool_of(np.ones((300, config.features), np.float32)), config, CLASSES, clip_s=(1.0,), batch=64, steps=1,
        masking=masking, **options,
    )  # fmt: skip
    return batches[0][0], config


def test_level_and_tone_are_the_same_change_on_cepstra_and_bands() -> None:
    masking = Masking(spans=0, level_db=6.0, tone_db=2.0)
    (cepstra, config), (bands, _) = drawn("mfcc", masking, pads=False), drawn("log_mel", masking, pads=False)
    from scipy.fft import dct

    found = dct(bands.astype(np.float64), norm="ortho", axis=2)[:, :, : config.coefficients]
    np.testing.assert_allclose(found, cepstra, atol=1e-4)
    level = bands.mean(axis=2) / 2  # of the scale; the tone's cosines have no mean
    assert np.abs(level).max() <= 6.0 + 1e-4 and np.abs(level).max() > 5.0
    assert np.ptp(bands, axis=1).max() == 0, "one change for the whole clip"


def test_without_padding_every_clip_has_its_own_length() -> None:
    config = FrontEndConfig()
    config = config.normalised((0.0,) * 20, (1.0,) * 20)
    rows = np.ones((300, 20), np.float32)
    for pads, lengths in ((True, [204, 108, 108]), (False, [198, 98, 48])):
        batches = ClipBatches(pool_of(rows), config, CLASSES, batch=8, steps=3, pads=pads)
        assert [batches[i][0].shape[1] for i in range(3)] == lengths
    assert [clip_frames(config, s) for s in (2.0, 1.0, 0.5)] == [198, 98, 48]


def train(folder: Path, root: Path, **values: Any) -> Path:
    fit = {"epochs": 1, "steps": 2, "batch": 4, "clip_s": (1.0, 0.5)}
    experiment.run(experiment.Experiment(copies=1, validation_copies=1, fit=fit, **values), root, folder,
                   say=lambda text: None)  # fmt: skip
    return folder


@pytest.mark.slow
def test_a_trained_network_teaches(tmp_path: Path, corpus_root: Path, cache: Path) -> None:
    folder = train(tmp_path / "teacher", corpus_root)
    teacher = teachers.find(str(folder), ("noise", "speech", "music"))
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(24000)).astype(np.float32)
    rows = teacher.open()(samples)
    config = experiment.read_folder(folder)[0].front_end
    frames = FrontEnd(config)(samples)
    model = models.load(folder / "model.keras")
    clips = np.stack([frames[i : i + 96] for i in range(0, len(frames) - 95, 48)])
    wanted = keras.Model(model.input, model.get_layer("pooled_logits").output)(clips)
    np.testing.assert_allclose(rows, np.asarray(wanted)[:, [2, 0, 1]], atol=1e-4)
    assert teacher.open()(samples[:100]).shape == (0, 3) and teacher.open()(samples[:2000]).shape == (1, 3)
    student = train(tmp_path / "student", corpus_root, teachers=(str(folder),))
    assert experiment.read_folder(student)[0].teachers == (str(folder),)


def test_the_mean_of_teachers_is_of_their_log_probabilities() -> None:
    a = teachers.log_softmax(np.array([[1.0, 2.0, 3.0], [1000.0, 0.0, 0.0]], np.float32))
    np.testing.assert_allclose(np.exp(a).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(a[0, 1] - a[0, 0], 1, atol=1e-6)


@pytest.mark.slow
def test_teachers_that_are_none(tmp_path: Path, corpus_root: Path, cache: Path) -> None:
    with pytest.raises(ConfigError, match="is neither yamnet nor the folder of a training"):
        teachers.find(str(tmp_path), CLASSES)
    folder = train(tmp_path / "teacher", corpus_root)
    with pytest.raises(ConfigError, match="knows speech, music, noise and not song"):
        teachers.find(str(folder), ("speech", "song"))


@pytest.mark.slow
def test_mobilenet_learns_from_its_first_weights_on(tmp_path: Path, corpus_root: Path, cache: Path) -> None:
    front_end = FrontEndConfig(kind="log_mel", mel_bands=64)
    folder = train(tmp_path / "mobilenet", corpus_root, model="mobilenet", front_end=front_end)
    model = models.load(folder / "model.keras")
    assert models.trainable_parameters(model) == 217_235
    config = experiment.read_folder(folder)[0].front_end
    assert config.features == 64 and len(config.mean) == 64
    x = np.zeros((2, 98, 64), np.float32)
    np.testing.assert_allclose(np.asarray(model(x)).sum(axis=1), 1, atol=1e-5)


def test_the_reference_hears_what_there_is_of_a_clip() -> None:
    spectra = reference.Spectra().open()
    assert spectra(np.zeros(100, np.float32)).shape == (0, 64)
    loud = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    quiet = spectra(loud * np.float32(0.001))
    np.testing.assert_allclose(quiet, spectra(loud), atol=1e-3, err_msg="recordings are brought to one level")
    assert quiet.shape == (98, 64)
