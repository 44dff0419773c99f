"""Going on from a bundle, a folder or a .keras file: the same network, its front end, its part of the head."""

from __future__ import annotations

import doctest
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLASSES, RATE, SOUNDS, with_info, write_table

from edge_runtime import ConfigError, CorpusError, EdgeBenchError, FrontEndConfig
from edge_runtime.bundle import parse, read
from edge_runtime.classify import predict as predict_bundle
from edge_runtime.wav import write_wav

keras = pytest.importorskip("keras")

from edge_bench.quantize.fuse import fuse  # noqa: E402
from edge_bench.train import corpus, experiment, finetune, models, recover  # noqa: E402
from edge_bench.train.experiment import Experiment, read_folder, run, with_rate  # noqa: E402
from edge_bench.train.finetune import corpus_classes, open_start  # noqa: E402
from edge_bench.train.fit_config import FitConfig  # noqa: E402

FIT = {
    "epochs": 2, "steps": 6, "batch": 16, "learning_rate": 1e-2, "final_rate": 1e-3, "first_cycle": 2, "ema": 0.5,
    "clip_s": (1.0,), "masking": {"spans": 0},
}  # fmt: skip
TINY = Experiment(copies=0, validation_copies=0, fit=FIT)
TUNED = replace(TINY, classes=("music", "noise", "speech"), freeze=("b1", "b2"))


def silent(_: str) -> None:
    pass


def small_corpus(root: Path, names: dict[str, str], **counts: int) -> Path:
    """Write a folder whose classes have other names, and for each the kind of sound: two recordings, 1.2 s each."""
    rows = []
    for name, kind in names.items():
        (root / name).mkdir(parents=True)
        for i, split in enumerate(["train"] * counts.get("train", 2) + ["validation", "test"]):
            file = f"{name}/{i}.wav"
            write_wav(root / file, SOUNDS[kind](1.2, i + 50), RATE)
            rows.append({"file": file, "class": name, "split": split, "group": f"{name}{i}"})
    write_table(root, rows)
    return root


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def train(corpus_root: Path, caches: Path) -> Callable[..., Any]:
    def call(start: Any, folder: Path, experiment: Experiment = TINY, **options: Any) -> Any:
        where = {"corpus_root": corpus_root, "cache": caches, "say": silent, **options}
        return run(experiment, folder=folder, start=start, **where)

    return call


@pytest.fixture(scope="module")
def tuned(bundles: dict[str, Path], train: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A fine-tuning of the int8 bundle, its classes in another order, killed once, and what it said."""

    def stop(text: str) -> None:
        if text.startswith("epoch 1"):
            raise KeyboardInterrupt

    folder, said = tmp_path_factory.mktemp("runs") / "tuned", list[str]()
    start = open_start(str(bundles["int8"]))
    with pytest.raises(KeyboardInterrupt):
        train(start, folder, TUNED, say=stop)
    train(start, folder, TUNED, say=said.append)
    return folder, said


def clips(count: int = 60, frames: int = 98, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, frames, 20)).astype(np.float32)


def weights(model: Any) -> dict[str, list[Any]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


# --- recovering -------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [48, 98, 198])
def test_a_float32_bundle_gives_the_network_back(bundles: dict[str, Path], slim: Any, frames: int) -> None:
    start = open_start(str(bundles["float32"]))
    assert start.name == "swishnet-slim" and start.origin["kind"] == "float32 bundle"
    assert models.trainable_parameters(start.model) == 5483
    x = clips(frames=frames)
    np.testing.assert_allclose(np.asarray(start.model(x)), np.asarray(slim(x)), atol=1e-5)
    for ours, theirs in zip(fuse(start.model).blocks, fuse(slim).blocks, strict=True):
        np.testing.assert_allclose(ours.kernel, theirs.kernel, atol=1e-6)


def test_an_int8_bundle_gives_nearly_the_network_back(bundles: dict[str, Path], slim: Any) -> None:
    """Nearly as near as the network itself is to its bundle: rounding activations alone costs random weights 3 %."""
    start = open_start(str(bundles["int8"]))
    x = clips(3000)
    found, own = (s._difference(x, start.reference) for s in (start, replace(start, model=slim)))
    assert found["clips"] == 3000 and found["agreement"] > 0.97 and found["mean"] < 0.01 < 0.1 > found["largest"]
    assert abs(found["agreement"] - own["agreement"]) < 0.01 and found["mean"] < 1.1 * own["mean"]
    assert found["largest"] > 0  # it is not the bundle itself that is compared


@pytest.mark.slow
def test_wide_and_other_widths(tmp_path: Path, front_end: FrontEndConfig) -> None:
    from edge_bench.quantize import convert

    for width, name, options in ((2, "swishnet-wide", {}), (3, "swishnet-slim", {"width": 3})):
        model = models.build("swishnet-slim", width=width, classes=2)
        path = tmp_path / f"{width}.tflite"
        convert.export(
            path, model, name="w", family="swishnet", precision="float32", front_end=front_end, classes=("a", "b"),
            training={},
        )  # fmt: skip
        start = open_start(str(path))
        assert (start.name, start.options, start.classes) == (name, options, ("a", "b"))
        x = clips(8)
        np.testing.assert_allclose(np.asarray(start.network(("a", "b"), **start.options)(x)), model(x), atol=1e-5)


def test_a_product_comes_apart_and_anything_else_says_what_is_lost() -> None:
    rng = np.random.default_rng(3)
    product = rng.standard_normal((6, 20, 1)) * rng.standard_normal((20, 8))
    depth, point, lost = recover.separate(product)
    assert depth.shape == (6, 20) and point.shape == (20, 8) and lost < 1e-12
    np.testing.assert_allclose(depth[:, :, None] * point, product, atol=1e-12)
    any_kernel = rng.standard_normal((6, 20, 8))
    depth, point, lost = recover.separate(any_kernel)
    assert lost == pytest.approx(
        np.linalg.norm(depth[:, :, None] * point - any_kernel) / np.linalg.norm(any_kernel)
    )
    assert recover.separate(np.zeros((6, 2, 2)))[2] == 0


def test_a_kernel_that_is_no_product_is_refused(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = read(bundles["float32"])
    layers = recover.convolutions(bundle)
    rng = np.random.default_rng(0)
    at = next(i for i, layer in enumerate(layers) if len(layer.kernel) == 6 and not layer.is_depthwise)
    for kernel in (rng.standard_normal(layers[at].kernel.shape), layers[at].kernel[::-1]):
        changed = [*layers[:at], replace(layers[at], kernel=kernel), *layers[at + 1 :]]
        monkeypatch.setattr(recover, "convolutions", lambda _, changed=changed: changed)
        with pytest.raises(ConfigError, match="holds no SwishNet"):
            recover.swishnet(bundle)
    monkeypatch.setattr(recover, "convolutions", lambda _: layers[:-1])
    with pytest.raises(ConfigError, match="holds no SwishNet"):
        recover.swishnet(bundle)


# --- heads and frozen layers ------------------------------------------------------------------


def test_known_classes_keep_their_part_of_the_head(bundles: dict[str, Path]) -> None:
    start = open_start(str(bundles["float32"]))
    x = clips(20)
    both = np.asarray(start.model(x), np.float64)
    fewer = np.asarray(start.network(("noise", "speech"))(x))
    expected = both[:, [2, 0]] / both[:, [2, 0]].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fewer, expected, atol=1e-5)


def test_other_classes_get_a_new_head(bundles: dict[str, Path]) -> None:
    start = open_start(str(bundles["float32"]))
    keras.utils.set_random_seed(1)
    model = start.network(("speech", "music", "siren", "dog"))
    old, new = weights(start.model), weights(model)
    assert new["logits"][0].shape == (16, 4) and not new["logits"][1].any()
    for name in old.keys() - {"logits"}:
        for a, b in zip(old[name], new[name], strict=True):
            assert np.array_equal(a, b)


def test_frozen_layers(bundles: dict[str, Path]) -> None:
    start = open_start(str(bundles["float32"]))
    model = start.network(CLASSES, ("b",))
    assert {layer.name for layer in model.layers if layer.trainable_weights} == {"hidden", "logits"}
    for freeze, message in ((("q",), "no layer's name begins with 'q'; there are b1_conv"), (("",), "begins with ''")):
        with pytest.raises(ConfigError, match=message):
            start.network(CLASSES, freeze)
    with pytest.raises(ConfigError, match="nothing to train"):
        start.network(CLASSES, ("b", "hidden", "logits"))
    with pytest.raises(ConfigError, match="do not fit"):
        start.network(CLASSES, width=2)


# --- training ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_and_keeps_what_it_should(tuned: Any, bundles: dict[str, Path], front_end: FrontEndConfig) -> None:
    folder, said = tuned
    history = json.loads((folder / "history.json").read_text())
    assert len(history) == 2 and history[-1]["loss"] < history[0]["loss"]
    found, description = read_folder(folder)
    assert found.front_end == front_end, "the bundle's, normalisation included"
    assert found.classes == ("music", "noise", "speech") and found.model == "swishnet-slim"
    origin = description["start"]
    assert origin["sha256"] == read(bundles["int8"]).sha256 and origin["recovered"]["agreement"] > 0.9
    assert any("get the same class" in text for text in said)
    before, after = weights(open_start(str(bundles["int8"])).model), weights(models.load(folder / "model.keras"))
    moved = {name for name in before if not np.array_equal(before[name][0], after[name][0])}
    assert moved == before.keys() - {"b1_conv", "b1_sep", "b2_conv", "b2_sep"}
    assert models.trainable_parameters(models.load(folder / "model.keras")) == 5483, "nothing stays frozen in the file"


@pytest.mark.slow
def test_saved_reloaded_and_converted_it_says_the_same(tuned: Any, tmp_path: Path) -> None:
    from edge_bench.quantize import convert

    folder, _ = tuned
    start = open_start(str(folder))
    assert start.origin["kind"] == "keras" and start.classes == ("music", "noise", "speech")
    again = open_start(str(folder / "model.keras"))
    x = clips(30)
    np.testing.assert_array_equal(np.asarray(start.model(x)), np.asarray(again.model(x)))
    np.testing.assert_array_equal(np.asarray(start.network(start.classes)(x)), np.asarray(start.model(x)))
    built = convert.export(
        tmp_path / "t.tflite", start.model, name="t", family="swishnet-slim", precision="float32",
        front_end=start.front_end, classes=start.classes, training={},
    )  # fmt: skip
    np.testing.assert_allclose(predict_bundle(built, x), np.asarray(start.model(x)), atol=1e-5)


@pytest.mark.slow
def test_it_goes_on_only_from_the_same_weights(bundles: dict[str, Path], train: Any, tuned: Any) -> None:
    folder, said = tuned
    assert "continuing after epoch 1" in said
    before = (folder / "model.keras").read_bytes()
    start = open_start(str(bundles["int8"]))
    for other, how in (
        (open_start(str(bundles["float32"])), TUNED), (start, replace(TUNED, freeze=("b1",))),
        (None, replace(TUNED, freeze=(), front_end=start.front_end)),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="another configuration"):
            train(other, folder, how)
    assert (folder / "model.keras").read_bytes() == before


def test_freezing_without_a_start(train: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--from"):
        train(None, tmp_path / "out", replace(TINY, freeze=("b1",)))
    assert not (tmp_path / "out").exists()


# --- what a user gives ------------------------------------------------------------------------


@pytest.mark.slow
def test_a_start_that_is_none(tmp_path: Path, int8: bytes, tuned: Any) -> None:
    with pytest.raises(EdgeBenchError, match="no such file or shipped bundle"):
        open_start(str(tmp_path / "nothing.tflite"))
    with pytest.raises(ConfigError, match="holds no finished training"):
        open_start(str(tmp_path))
    with pytest.raises(ConfigError, match="holds no finished training"):
        open_start(str(tmp_path / "model.keras"))
    (tmp_path / "text.tflite").write_text("hello, this is not a bundle")
    with pytest.raises(EdgeBenchError, match="is not a"):
        open_start(str(tmp_path / "text.tflite"))
    front_end = {**parse(int8).info["front_end"], "sample_rate": 22050}
    (tmp_path / "fast.tflite").write_bytes(with_info(int8, front_end=front_end))
    with pytest.raises(ConfigError, match="hears 22050 Hz"):
        open_start(str(tmp_path / "fast.tflite"))
    broken = tmp_path / "broken"
    shutil.copytree(tuned[0], broken)
    (broken / "model.keras").write_bytes((broken / "model.keras").read_bytes()[:2000])
    with pytest.raises(ConfigError, match=r"cannot be read as a \.keras"):
        open_start(str(broken))


def test_classes_of_a_corpus(tmp_path: Path) -> None:
    root = small_corpus(tmp_path / "c", {"zebra": "noise", "music": "music", "ant": "noise"})
    assert corpus.labels(root) == {"zebra", "music", "ant"}
    assert corpus_classes(corpus.labels(root), CLASSES) == ("music", "ant", "zebra")


def test_a_part_of_the_training_groups(tmp_path: Path) -> None:
    root = small_corpus(tmp_path / "c", {"speech": "speech", "music": "music"}, train=8)
    data = corpus.load(root, classes=("speech", "music"))
    assert data.thinned(1) is data
    kept = [{r.group for r in data.thinned(share).split("train")} for share in (0.01, 0.25, 0.5)]
    assert [len(groups) for groups in kept] == [2, 4, 8] and kept[0] < kept[1] < kept[2]
    assert data.thinned(0.25).split("validation") == data.split("validation")
    for share in (0, -1, 1.5, float("nan")):
        with pytest.raises(CorpusError, match="train_share"):
            data.thinned(share)


def test_rate_and_length() -> None:
    recipe = experiment.load("finetune")
    changed = with_rate(recipe, rate=1e-6, epochs=7)
    how = experiment.build(FitConfig, changed.fit, "test")
    assert (how.learning_rate, how.final_rate, how.epochs, how.first_cycle) == (1e-6, 1e-6, 7, 7)
    wide = experiment.build(FitConfig, with_rate(experiment.load("swishnet-wide"), epochs=7).fit, "test")
    assert (wide.epochs, wide.first_cycle, wide.learning_rate) == (7, 20, 3e-3), "two cosines stay as they are"
    assert with_rate(recipe) == recipe
    with pytest.raises(ConfigError, match="rates"):
        experiment.build(FitConfig, with_rate(recipe, rate=-1.0).fit, "test")


@pytest.mark.slow
def test_the_command(tuned: Any, bundles: dict[str, Path], tmp_path: Path, cache: Path) -> None:
    from click.testing import CliRunner

    from edge_bench.train import cli

    root = small_corpus(tmp_path / "pets", {"dog": "noise", "music": "music"})
    call = CliRunner().invoke
    common = ["--corpus", str(root), "--out", str(tmp_path / "out")]
    recipe = "copies = 0\nvalidation_copies = 0\n[fit]\nsteps = 2\nbatch = 4\nclip_s = [0.5]\n"
    (tmp_path / "one.toml").write_text(recipe)
    done = call(
        cli.train,
        [str(tmp_path / "one.toml"), "--from", str(tuned[0]), "--epochs", "1", "--rate", "1e-3", "--freeze",
         "b1, b2", "--json", str(tmp_path / "m.json"), *common],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found, description = read_folder(tmp_path / "out")
    assert found.classes == ("music", "dog") and found.freeze == ("b1", "b2")
    assert found.front_end == read_folder(tuned[0])[0].front_end and description["start"]["kind"] == "keras"
    assert description["fit"]["learning_rate"] == 1e-3 and description["fit"]["epochs"] == 1
    assert json.loads((tmp_path / "m.json").read_text())["best"]["epoch"] == 1

    for arguments, message in (
        (common, "name a TOML file or a recipe, or a network to start from with --from"),
        (["--from", str(tmp_path), *common], "holds no finished training"),
        (["--from", str(bundles["int8"]), "--classes", "music", *common], "class 'dog' is not one of music"),
        (["--from", str(bundles["int8"]), "--freeze", "x", *common[:2], "--out", str(tmp_path / "new")], "freeze: no"),
    ):
        failed = call(cli.train, arguments)
        assert isinstance(failed.exception, EdgeBenchError) and message in str(failed.exception)
    assert not (tmp_path / "new").exists()


def test_examples_in_docstrings_run() -> None:
    for module in (finetune, recover):
        failed, tried = doctest.testmod(module)
        assert tried and not failed
