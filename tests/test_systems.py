"""The other systems, from recordings to scores: inputs, training, files, protocols and views, on self-made sounds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import ConfigError, CorpusError, EdgeBenchError, FrontEndConfig
from edge_runtime.wav import read_wav, write_wav

keras = pytest.importorskip("keras")

from edge_bench.benchmarks.cli import main  # noqa: E402
from edge_bench.train import (  # noqa: E402
    baselines_io,
    corpus,
    experiment,
    features,
    inputs,
    models,
    music_snr,
    musicmap,
    rows,
    separate,
    systems,
    trials,
)
from edge_bench.train.evaluate import evaluate  # noqa: E402
from edge_bench.train.experiment import Experiment  # noqa: E402
from edge_bench.train.inputs import Cuts, Inputs  # noqa: E402
from edge_bench.train.models import allconv  # noqa: E402

# a search is another kind of file, see test_search.py
RECIPES = [path for path in sorted(experiment.RECIPES.glob("*.toml")) if not path.stem.startswith("search-")]
FIT = {"epochs": 2, "steps": 2, "batch": 4, "first_cycle": 2, "ema": 0.5}
SPEECH_MUSIC = {"classes": ("speech", "music"), "leave_out": ("noise",)}
MUSIC_NOISE = {"classes": ("music", "noise"), "leave_out": ("speech",)}
# small, but with the inputs of the real ones
SMALL: dict[str, dict[str, Any]] = {
    "allconv-mel": SPEECH_MUSIC,
    "allconv": {**SPEECH_MUSIC, "options": {"sample_rate": 16000, "fft_length": 256, "hop_length": 640}},
    "poolnet": {**SPEECH_MUSIC, "options": {"rows": 32, "hidden": 8}},
    "poolnet-conv": {**SPEECH_MUSIC, "options": {"rows": 32, "hidden": 8}},
    "musicnoise": {**MUSIC_NOISE, "options": {"maps": 4}, "fit": {**FIT, "optimizer": "sgd"}},
    "genre": {"options": {"maps": 2, "frames": 40, "hidden": 4}},
    "separable": {"options": {"frames": 40, "filters": [2, 4]}},
    "separable-plain": {"options": {"frames": 40, "filters": [2, 4], "depth": 1}},
    "gmm": {"options": {"components": 4, "iterations": 5}, "fit": {"per_class": 200}},
    "random-forest": {"options": {"trees": 3}, "fit": {"per_class": 200}},
    "svm-rbf": {"options": {"features": 20}, "fit": {"per_class": 200}},
    "svm-linear": {"fit": {"per_class": 200}},
    "snn": {"options": {"epochs": 2}, "fit": {"per_class": 200}},
}
# these take longest to trace; the fast run has what all of them share
SLOW = (
    "allconv", "allconv-mel", "poolnet-conv", "musicnoise", "separable", "separable-plain", "svm-linear", "genre",
    "snn", "poolnet",
)  # fmt: skip
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SMALL]


def recipe(name: str, **changes: Any) -> Experiment:
    values = {"model": name, "fit": FIT, "copies": 0, **SMALL[name], **changes}
    return Experiment(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def trained(name: str, root: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    return systems.run(recipe(name, **changes), root, folder, say=lambda text: None)


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One cache and one worker for the whole module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(os, "cpu_count", lambda: 1)
        yield


@pytest.fixture(scope="module")
def musicnoise(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory, shared_cache: None) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "musicnoise"
    trained("musicnoise", corpus_root, folder)
    return folder


# --- recipes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_names_a_model_with_its_options(path: Path) -> None:
    found = experiment.load(path)
    if found.model in systems.BASELINES:
        baselines_io.make(found.model, len(found.classes), found.options)
        experiment.build(systems.BaselineFit, dict(found.fit), "[fit]")
    elif systems.is_system(found.model):
        assert set(found.classes) | set(found.leave_out) == set(helpers.CLASSES)
        assert systems.inputs_of(found, training=True).features > 1
    else:
        models.configure(found.model, **found.options)


# --- inputs -----------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(1, 500), st.floats(1, 700), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_cuts_lie_inside_and_are_even(count: int, length: int, step: float, most: int) -> None:
    cuts = inputs.cut(np.arange(count, dtype=np.float32), length, step, most)
    assert len(cuts) >= 1 and all(len(one) == length for one in cuts)
    if count < length:
        assert len(cuts) == 1 and cuts[0].tolist() == [i % count for i in range(length)]
    else:
        starts = [one[0] for one in cuts]
        assert starts[0] == 0 and starts == sorted(starts) and len(cuts) <= (most or 1e9)
        assert all((np.diff(one) == 1).all() for one in cuts)
        if not most:
            assert count - length - starts[-1] < step + 1


@pytest.mark.parametrize(
    ("name", "shape", "window_s", "count"),
    [
        ("allconv", (16900,), 0.383, 5), ("allconv-mel", (10, 40), 0.424, 4), ("poolnet", (128, 32, 1), 0.372, 5),
        ("musicnoise", (64, 256, 1), 0.752, 8), ("genre", (257, 173, 1), 3.994, 1),
        ("separable", (128, 458, 3), 10.612, 1),
    ],
)  # fmt: skip
def test_examples_have_the_network_s_shape(name: str, shape: tuple[int, ...], window_s: float, count: int) -> None:
    family = models.ZOO[name].family
    found = Inputs(family, models.configure(name), Cuts(hop_s=0.4))
    assert found.what.shape == shape and found.window_s == pytest.approx(window_s, abs=1e-3)
    made = found.open()(helpers.music(2.0, 1))
    assert made.shape == (count, found.features) and np.isfinite(made).all()
    assert found.open()(np.zeros(0, np.float32)).shape == (0, found.features)
    assert np.isfinite(found.open()(np.zeros(500, np.float32))).all(), "silence and very short"


def test_79_slices_of_30_seconds() -> None:
    assert Inputs("poolnet", models.configure("poolnet"), Cuts(0.379, 79)).open()(helpers.noise(30.0)).shape[0] == 79


def test_level_does_not_count() -> None:
    x = helpers.music(1.5, 2)
    for name in ("poolnet", "musicnoise", "genre"):
        rows_of = Inputs(models.ZOO[name].family, models.configure(name)).open()
        np.testing.assert_allclose(rows_of(x), rows_of(x * np.float32(0.1)), atol=2e-3)


@pytest.mark.parametrize(("hop", "most"), [(-1.0, 0), (0.0, -1), (1e9, 0)])
def test_cuts_that_make_no_sense(hop: float, most: int) -> None:
    with pytest.raises(ConfigError, match="examples: hop_s is"):
        Cuts(hop, most)


def test_inputs_that_nobody_knows() -> None:
    with pytest.raises(ConfigError, match="nothing is known of 'midi'"):
        Inputs("midi", None)
    with pytest.raises(ConfigError, match="depth is 2"):
        _ = Inputs("separable", models.configure("separable", depth=2)).what


def test_sources_sum_to_the_mixture_and_drums_are_percussive() -> None:
    how: dict[str, Any] = {"sample_rate": 22050, "fft_length": 1024, "hop_length": 512, "bands": 64}
    t = np.arange(22050) / 22050
    helpers.librosa()
    tone = (0.1 * np.sin(2 * np.pi * 100 * t) + 0.1 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
    clicks = np.zeros(22050, np.float32)
    clicks[::4410] = 1
    mixture = separate.mel_of_sources(tone + clicks, **how, separated=False)
    sources = separate.mel_of_sources(tone + clicks, **how)
    np.testing.assert_allclose(sources.sum(axis=2), mixture[..., 0], rtol=1e-3, atol=1e-6)
    of_tone = separate.mel_of_sources(tone, **how).sum(axis=(0, 1))
    of_clicks = separate.mel_of_sources(clicks, **how).sum(axis=(0, 1))
    assert of_tone[0] > 0.3 * of_tone.sum() and of_tone[2] > 0.3 * of_tone.sum(), "100 Hz is bass, 1 kHz is other"
    assert of_clicks[1] > 0.9 * of_clicks.sum()


def test_clips_average_what_lies_inside() -> None:
    pool = helpers.pool_of([("speech", np.zeros((14, 1))), ("music", np.zeros((2, 1)))])
    p = np.arange(16, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
    # two rows at one instant, every 0.25 s, 0.5 s long: seven instants, and one
    clips, found = rows.clips_of(pool, p, ("speech", "music"), 1.0, each=2, window_s=0.5, step_s=0.25)
    assert found[:, 0].tolist() == [2.5, 6.5, 10.5, 14.5][:2] + found[2:, 0].tolist()
    assert clips.labels.tolist() == [0, 0, 0, 1] and found[-1, 0] == 14.5 and found[2, 0] == 10.5
    assert systems.clip_lengths((0.5, 1, 2), 10.611) == [10.61]


def test_empty_bands_are_not_blown_up() -> None:
    found = Inputs("allconv", models.configure("allconv"), Cuts(hop_s=0.4))
    x = np.concatenate([found.open()(helpers.speech(2.0, seed)) for seed in range(3)])  # 16 kHz, so empty above 8
    model = models.build("allconv")
    allconv.adapt(model, [x])
    decibels, normal = (keras.Model(model.input, model.get_layer(n).output) for n in ("decibels", "normalise"))
    assert np.asarray(decibels(x)).std(axis=(0, 1))[-1] < 0.1, "the highest band is empty"
    other = Inputs("allconv", models.configure("allconv")).open()(helpers.noise(2.0))
    other += np.random.default_rng(0).normal(0, 0.1, other.shape).astype(np.float32)  # full band
    moved = np.asarray(decibels(other)) - np.asarray(decibels(x)).mean(axis=(0, 1))
    assert np.abs(np.asarray(normal(other))).max() <= np.abs(moved).max() / allconv.LEAST_DEVIATION + 0.01


# --- from recordings to scores ----------------------------------------------------------------


@pytest.mark.parametrize("name", EACH)
def test_training_saving_loading_scoring(
    name: str, corpus_root: Path, tmp_path: Path, shared_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    metrics = trained(name, corpus_root, folder)
    classes = recipe(name).classes
    assert metrics["model"] == name and metrics["parameters"] > 0 and 0 <= metrics["best"]["score"] <= 1
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert not list(folder.glob("part-*"))

    first, again = systems.find(folder), systems.find(folder)
    assert first is not None and again is not None and first.classes == classes
    data = corpus.load(corpus_root, classes=classes, leave_out=first.leave_out)
    pool = features.features(data, "validation", first.inputs)
    answers = first.predict(pool.data)
    assert answers.shape == (len(pool.data), len(classes))
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(again.predict(pool.data), answers, atol=1e-6)

    # the same figures by the same command as SwishNet
    result = evaluate(str(folder), corpus_root, "validation")
    assert result["schema"] == "edge-bench/evaluate/1" and result["classes"] == list(classes)
    wanted = {k.removesuffix("s"): r["confusion"] for k, r in metrics["validation"].items()}
    assert {k: r["confusion"] for k, r in result["clips_by_length"].items()} == wanted
    assert min(float(k) for k in wanted) >= first.inputs.window_s - 0.01
    if name in systems.BASELINES:
        assert np.isin(answers, (0, 1)).all(), "frames vote"


@pytest.mark.slow
def test_the_all_conv_net_in_int8(corpus_root: Path, tmp_path: Path, shared_cache: None) -> None:
    """Its normalisation moves into the front end of the bundle, and the bundle says what the training says."""
    from edge_bench.quantize.prove import Request, quantize
    from edge_runtime.bundle import read

    folder = tmp_path / "allconv-mel"
    trained("allconv-mel", corpus_root, folder)
    network = models.load(folder / "model.keras")
    rest, mean, scale = allconv.behind_normalisation(network)
    x = np.random.default_rng(0).normal(-40, 20, (2, 20, 40)).astype(np.float32)
    np.testing.assert_allclose(rest((x - mean) * scale), network(x), atol=1e-5)
    result = quantize(folder, corpus_root, request=Request(max_drop=100, interpreters=False))
    assert result["written"] and result["agreement"] > 0.9
    made = read(folder / "allconv-mel-int8.tflite")
    assert made.classes == ("speech", "music") and made.front_end.hop_s == 0.04
    np.testing.assert_allclose(made.front_end.mean, mean, rtol=1e-6)
    trained("allconv", corpus_root, tmp_path / "allconv")
    with pytest.raises(ConfigError, match="takes samples, a bundle feeds frames; train allconv-mel"):
        quantize(tmp_path / "allconv", corpus_root)
    trained("poolnet", corpus_root, tmp_path / "poolnet")
    with pytest.raises(ConfigError, match="poolnet looks at examples of its own"):
        quantize(tmp_path / "poolnet", corpus_root)


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on(corpus_root: Path, tmp_path: Path, shared_cache: None) -> None:
    trained("allconv-mel", corpus_root, tmp_path / "whole", fit={**FIT, "epochs": 3})
    interrupted: list[str] = []

    def stop(text: str) -> None:
        interrupted.append(text)
        if text.startswith("epoch 2/3"):
            raise KeyboardInterrupt

    how = recipe("allconv-mel", fit={**FIT, "epochs": 3})
    with pytest.raises(KeyboardInterrupt):
        systems.run(how, corpus_root, tmp_path / "cut", say=stop)
    assert not (tmp_path / "cut" / "experiment.json").exists()
    systems.run(how, corpus_root, tmp_path / "cut", say=interrupted.append)
    assert "continuing after epoch 2" in interrupted
    losses = {}
    for name in ("whole", "cut"):
        history = json.loads((tmp_path / name / "history.json").read_text())
        losses[name] = [round(row["loss"], 5) for row in history]
    assert losses["whole"] == losses["cut"]
    with pytest.raises(ConfigError, match="another configuration"):
        trained("allconv-mel", corpus_root, tmp_path / "cut", fit={**FIT, "epochs": 4})


# --- mistakes ---------------------------------------------------------------------------------


def test_wrong_labels_and_empty_classes(corpus_root: Path, tmp_path: Path, shared_cache: None) -> None:
    with pytest.raises(CorpusError, match="class 'noise' is not one of speech, music"):
        trained("allconv-mel", corpus_root, tmp_path / "a", leave_out=())
    with pytest.raises(CorpusError, match="has no recording of voices"):
        trained("gmm", corpus_root, tmp_path / "b", classes=("speech", "music", "voices"), leave_out=("noise",))
    with pytest.raises(ConfigError, match="cannot be distilled"):
        trained("gmm", corpus_root, tmp_path / "c", teachers=("yamnet",))
    with pytest.raises(ConfigError, match="gmm: unknown option 'trees'; known are components, iterations"):
        trained("gmm", corpus_root, tmp_path / "d", options={"trees": 3})
    with pytest.raises(ConfigError, match="unknown key 'epochs'"):
        trained("gmm", corpus_root, tmp_path / "e", fit={"epochs": 3})
    assert not any(tmp_path.iterdir()), "nothing half-written"


def test_a_corrupt_recording(tmp_path: Path, cache: Path) -> None:
    helpers.table_corpus(tmp_path / "corpus", 0.6)
    (tmp_path / "corpus/music/train1.wav").write_bytes(b"RIFF and nothing else")
    with pytest.raises(CorpusError, match=r"music/train1\.wav"):
        trained("gmm", tmp_path / "corpus", tmp_path / "out")


@pytest.mark.parametrize("name", ["gmm", "random-forest"])
def test_a_damaged_or_foreign_file(name: str, corpus_root: Path, tmp_path: Path, shared_cache: None) -> None:
    trained(name, corpus_root, tmp_path)
    whole = (tmp_path / "model.skops").read_bytes()
    for damaged in (whole[:100], b"", whole[: len(whole) // 2]):
        (tmp_path / "model.skops").write_bytes(damaged)
        with pytest.raises(ConfigError, match=f"cannot be read as a trained {name}"):
            systems.find(tmp_path)
    (tmp_path / "model.skops").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        systems.find(tmp_path)


def test_a_tree_that_points_outside_itself(corpus_root: Path, tmp_path: Path, shared_cache: None) -> None:
    trained("random-forest", corpus_root, tmp_path)
    classifier = baselines_io.load(tmp_path, "random-forest", 3)
    classifier.estimator.estimators_[1].tree_.children_left[0] = 10**6
    baselines_io.save(tmp_path, classifier)
    with pytest.raises(ConfigError, match="a tree points outside itself"):
        systems.find(tmp_path)


def test_the_wrong_folder(musicnoise: Path, tmp_path: Path) -> None:
    assert systems.find("swishnet-slim-int8") is None
    with pytest.raises(ConfigError, match="holds a musicnoise; needed is the folder of a trained genre network"):
        systems.open_system(musicnoise, "genre")
    with pytest.raises(ConfigError, match="holds no such training"):
        systems.open_system(tmp_path, "genre")


# --- trials -----------------------------------------------------------------------------------


@given(st.lists(st.integers(2, 9), min_size=2, max_size=4), st.integers(0, 99), st.floats(0.1, 0.9))
@settings(max_examples=60, deadline=None)
def test_splits_keep_groups_whole(sizes: list[int], seed: int, share: float) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    groups = [f"g{label}-{i % max(2, len(labels) // 3)}" for i, label in enumerate(labels)]
    try:
        train, test = trials.split(labels, groups, seed, trials.TrialsConfig(share=share))
    except CorpusError as error:
        assert "one group only" in str(error)
        return
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert not {groups[i] for i in train} & {groups[i] for i in test}
    assert set(labels[train]) == set(labels[test]) == set(range(len(sizes)))


@pytest.mark.slow
def test_trials_go_on_and_compare(corpus_root: Path, tmp_path: Path, shared_cache: None) -> None:
    how = {"a": recipe("allconv-mel"), "b": recipe("allconv-mel", fit={**FIT, "learning_rate": 1e-2})}
    said: list[str] = []
    small = trials.TrialsConfig(trials=1, epochs=2)
    trials.run(how, corpus_root, tmp_path, small, say=said.append)
    result = trials.run(how, corpus_root, tmp_path, trials.TrialsConfig(trials=2, epochs=2), say=said.append)
    assert len(said) == 4, "the first trial is not done again"
    assert result["schema"] == "edge-bench/trials/1" and set(result["recipes"]) == {"a", "b"}
    for found in result["recipes"].values():
        assert len(found["f1_values"]) == 2 and found["f1"] == pytest.approx(np.mean(found["f1_values"]))
        matrix = np.array(found["confusion"])
        assert sum(found["errors"].values()) == matrix.sum() - np.trace(matrix)
    (tmp_path / "trials.jsonl").write_text((tmp_path / "trials.jsonl").read_text()[:-9])  # killed while writing
    assert trials.run(how, corpus_root, tmp_path, small, say=said.append)["recipes"]["a"]["f1_values"]
    trials.draw(result, tmp_path / "d.png")
    assert (tmp_path / "d.png").stat().st_size > 1000
    with pytest.raises(ConfigError, match="another configuration"):
        trials.run(how, corpus_root, tmp_path, trials.TrialsConfig(trials=2, epochs=1))
    with pytest.raises(ConfigError, match="differ in their classes"):
        trials.run({**how, "c": recipe("musicnoise")}, corpus_root, tmp_path, small)
    with pytest.raises(ConfigError, match="not for gmm"):
        trials.run({"c": recipe("gmm")}, corpus_root, tmp_path, small)
    with pytest.raises(ConfigError, match="0 trials"):
        trials.TrialsConfig(trials=0)


# --- music in noise ---------------------------------------------------------------------------


def test_nine_windows_by_sixteen_over_a_unit() -> None:
    low, first = range(0, 257 - 64 + 1, musicmap.STEP_BINS), range(0, 1024 - 256 + 1, musicmap.STEP_FRAMES)
    p = np.random.default_rng(0).random((len(low), len(first)))
    units, count = musicmap.average_windows(p, low, first, bins=64, frames=256, shape=(16, 64))
    assert count[8, 32] == 9 * 16 == count.max()
    over = [(i, j) for i, f in enumerate(low) for j, t in enumerate(first)
            if f < 9 * 16 and f + 64 > 8 * 16 and t < 33 * 16 and t + 256 > 32 * 16]  # fmt: skip
    assert units[8, 32] == pytest.approx(np.mean([p[i, j] for i, j in over]), abs=1e-6)


def test_the_map_finds_music_beside_noise() -> None:
    config = models.configure("musicnoise")
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(2 * 44100)).astype(np.float32)
    t = np.arange(44100) / 44100
    samples[44100:] = (0.3 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)

    def predict(windows: np.ndarray) -> np.ndarray:
        """A tone stands out of its window, noise does not."""
        music = (windows.max(axis=1) > 2.5).astype(np.float32)
        return np.stack([music, 1 - music], axis=1)

    found = musicmap.music_map(predict, config, samples, bandwidth=22050)
    middle = found.units.shape[1] // 2
    assert found.units.shape[0] == 16 and np.nanmean(found.units[2, :middle - 8]) < 0.5 < found.units[2, -4:].min()
    music = found.music()
    assert np.abs(music[: 44100 // 2]).max() < 0.02 < 0.25 < np.abs(music[-44100 // 2 : -2000]).max()
    whole = musicmap.MusicMap(found.spectrum, np.ones_like(found.units)).music()[: len(samples)]
    lost = np.sqrt(np.mean((whole - samples) ** 2)) / np.sqrt(np.mean(samples**2))
    assert lost < 0.1, "only the highest bin is in no unit"
    narrow = musicmap.music_map(predict, config, samples)
    assert narrow.units.shape[0] == 6 and not narrow.mask()[96:].any(), "nothing above 8 kHz"
    with pytest.raises(EdgeBenchError, match=r"0\.50 s are shorter than a window"):
        musicmap.music_map(predict, config, samples[:22050])


def test_mixing_at_a_ratio() -> None:
    music, noise = helpers.music(1.0), helpers.noise(1.0)
    both = music_snr.mix(music, noise, 0.0)
    assert np.sqrt(np.mean(both**2)) == pytest.approx(np.sqrt(np.mean(music**2)), rel=1e-3)
    np.testing.assert_allclose(music_snr.mix(music, noise, 120.0), music, atol=1e-4)


@pytest.mark.slow
def test_noise_alone_is_not_told_from_itself(musicnoise: Path, corpus_root: Path) -> None:
    system = systems.find(musicnoise)
    assert system is not None
    results = music_snr.curves(system, corpus_root, "validation", ratios=(-100.0,))["results"]
    assert results[1]["auc"] == pytest.approx(0.5, abs=0.02)


# --- commands ---------------------------------------------------------------------------------


def run(*arguments: str) -> int:
    try:
        main(list(arguments))
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def test_train_and_evaluate_commands(
    corpus_root: Path, tmp_path: Path, shared_cache: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my.toml").write_text('model = "svm-linear"\ncopies = 0\n[fit]\nper_class = 200\n')
    where = ("--corpus", str(corpus_root))
    assert run("train", str(tmp_path / "my.toml"), *where, "--out", str(tmp_path / "run")) == 0
    plot, out = tmp_path / "c.png", tmp_path / "e.json"
    assert run("evaluate", str(tmp_path / "run"), *where, "--plot", str(plot), "--json", str(out)) == 0
    assert "svm-linear on validation" in capsys.readouterr().out and plot.stat().st_size > 1000
    assert list(json.loads(out.read_text())["clips_by_length"]) == ["0.5", "1", "2"]


@pytest.mark.slow
def test_music_commands(
    musicnoise: Path, corpus_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song = corpus_root / "music/train0.wav"
    assert run("musicmap", str(song), "--model", str(musicnoise), "--out", str(tmp_path), "--json", "-") == 0
    entry = json.loads(capsys.readouterr().out)["files"][0]
    samples, rate = read_wav(entry["wav"])
    assert rate == 44100 and len(samples) == 2.5 * 44100 and Path(entry["picture"]).stat().st_size > 5000
    assert run("musicmap", str(tmp_path / "gone.wav"), "--model", str(musicnoise)) == 2
    assert run("musicmap", str(song), "--model", str(musicnoise), "--bandwidth", "0") == 2
    write_wav(tmp_path / "short.wav", helpers.music(0.4), 16000)
    assert run("musicmap", str(tmp_path / "short.wav"), "--model", str(musicnoise)) == 2
    assert "short.wav: 0.40 s are shorter" in capsys.readouterr().err

    plot, out = tmp_path / "roc.png", tmp_path / "snr.json"
    where = ("--corpus", str(corpus_root), "--plot", str(plot), "--json", str(out))
    assert run("music-snr", str(musicnoise), "--snr", "10,-10", *where) == 0
    results = json.loads(out.read_text())["results"]
    assert [r["snr_db"] for r in results] == [None, 10, -10] and all(0 <= r["auc"] <= 1 for r in results)
    assert plot.stat().st_size > 5000
    assert run("music-snr", str(musicnoise), "--snr", "loud") == 2
    assert run("music-snr", str(tmp_path)) == 2


@pytest.mark.slow
def test_views(corpus_root: Path, tmp_path: Path, shared_cache: None, capsys: pytest.CaptureFixture[str]) -> None:
    trained("allconv-mel", corpus_root, tmp_path / "allconv")
    picture, out = tmp_path / "f.png", tmp_path / "f.json"
    where = ("--corpus", str(corpus_root))
    assert run("features-view", str(tmp_path / "allconv"), *where, "-o", str(picture), "--json", str(out)) == 0
    means = json.loads(out.read_text())["means"]
    assert set(means) == {"speech", "music"} and len(means["music"]) == 16 and picture.stat().st_size > 5000

    trained("genre", corpus_root, tmp_path / "genre")
    song = str(corpus_root / "music/train0.wav")
    heard = ("--model", str(tmp_path / "genre"), "--out", str(tmp_path / "heard"), "--json", str(out))
    assert run("auralise", song, "--layer", "1", "--features", "0,1", *heard) == 0
    found = json.loads(out.read_text())
    assert [entry["feature"] for entry in found["features"]] == [0, 1]
    assert read_wav(found["features"][0]["wav"])[1] == 11025 and Path(found["picture"]).stat().st_size > 5000
    assert run("auralise", song, *heard) == 0
    for wrong in (("--layer", "6"), ("--features", "9"), ("--features", "x"), ("--start", "99")):
        assert run("auralise", song, *wrong, *heard) == 2
    capsys.readouterr()


@pytest.mark.slow
def test_trials_command(corpus_root: Path, tmp_path: Path, shared_cache: None) -> None:
    (tmp_path / "small.toml").write_text(
        'model = "poolnet"\nclasses = ["speech", "music"]\nleave_out = ["noise"]\n'
        "[options]\nrows = 32\nhidden = 8\n[fit]\nbatch = 8\n"
    )
    common = ("--corpus", str(corpus_root), "--out", str(tmp_path / "out"), "--trials", "1", "--epochs", "1")
    assert run("trials", str(tmp_path / "small.toml"), *common) == 0
    assert {p.name for p in (tmp_path / "out").glob("*.*")} >= {"trials.json", "distribution.png", "confusion.png"}
    assert run("trials", "gmm", *common) == 2
    assert run("trials", "nothing", *common) == 2


def test_front_end_of_the_frames_is_the_recipe_s() -> None:
    plain = FrontEndConfig()
    found = systems.inputs_of(recipe("gmm", front_end=plain))
    frames = found.open()(helpers.speech(1.0))
    assert frames.shape == (98, 60) and found.step_s == pytest.approx(0.01)
