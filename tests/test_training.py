"""Training on the stand-in corpus: it learns, it repeats itself, and it goes on where it was interrupted."""

from __future__ import annotations

import errno
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLASSES, SOUNDS, pool_of

from edge_runtime import ConfigError, EdgeBenchError, FrontEnd, FrontEndConfig

keras = pytest.importorskip("keras")

from edge_bench.train import fit as fit_module  # noqa: E402
from edge_bench.train.batches import TeacherTracks  # noqa: E402
from edge_bench.train.clips import evaluation_clips  # noqa: E402
from edge_bench.train.features import normalisation  # noqa: E402
from edge_bench.train.fit import fit, predict, score, validation_sets  # noqa: E402
from edge_bench.train.fit_config import FitConfig, Masking, rate_at  # noqa: E402

# one padded length, so that one graph is traced; the average follows quickly, because ten steps are all there are
HOW = FitConfig(
    epochs=3, steps=5, batch=16, learning_rate=0.02, final_rate=1e-3, first_cycle=3, ema=0.5, seed=4, clip_s=(1.0, 0.5)
)


def silent(_: str) -> None:
    pass


def sounds(count: int, first_seed: int, copies: int = 1) -> Any:
    """Features of stand-in sounds without normalisation; a second copy is a quieter one."""
    front_end, pieces, numbers = FrontEnd(FrontEndConfig()), [], []
    for copy in range(copies):
        for i in range(count):
            for label, make in SOUNDS.items():
                pieces.append((label, front_end(make(2.0, first_seed + i) * np.float32(0.5**copy))))
                numbers.append(copy)
    return pool_of(pieces, copies=numbers)


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any, FrontEndConfig]:
    """Training pool, validation pool with an augmented copy, and the front end normalised to the first."""
    pool = sounds(4, 0)
    return pool, sounds(2, 100, copies=2), FrontEndConfig().normalised(*normalisation(pool))


def new_model(dropout: float = 0.0) -> Any:
    """A network that is built and traced in no time: training knows no layer but ``pooled_logits``."""
    keras.utils.set_random_seed(21)
    layers = keras.layers
    inputs = keras.Input((None, 20), name="features")
    x = layers.Conv1D(16, 5, strides=2, activation="relu", padding="same")(inputs)
    if dropout:
        x = layers.Dropout(dropout)(x)
    x = layers.GlobalAveragePooling1D(name="pooled_logits")(layers.Dense(3)(x))
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="small")


@pytest.fixture(scope="module")
def train(data: Any) -> Callable[..., Any]:
    def run(folder: Path, how: FitConfig = HOW, *, say: Callable[[str], None] = silent, **options: Any) -> Any:
        pool, validation, config = data
        return fit(new_model(**options), pool, validation, config, CLASSES, how, folder, say=say)

    return run


@pytest.fixture(scope="module")
def whole(train: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training without interruption: what it returned, its folder, and what it said."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    said: list[str] = []
    return train(folder, say=said.append), folder, said


class StopAfter:
    """A `say` that is interrupted after some epochs, as by Ctrl-C."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def __call__(self, text: str) -> None:
        self.left -= text.startswith("epoch ")
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def resumed(train: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    """Trainings that were interrupted after one and after two epochs and called again."""
    found = {}
    for epochs in (1, 2):
        folder = tmp_path_factory.mktemp("runs") / f"stopped{epochs}"
        with pytest.raises(KeyboardInterrupt):
            train(folder, say=StopAfter(epochs))
        said: list[str] = []
        found[epochs] = train(folder, say=said.append), folder, said
    return found


def distance(a: Any, b: Any) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


# --- learning ---------------------------------------------------------------------------------


def test_it_learns(whole: Any, data: Any) -> None:
    fitted, _, said = whole
    losses = [row["loss"] for row in fitted.history]
    assert len(losses) == 3 and losses[-1] < 0.8 * losses[0]
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3]
    assert sum(text.startswith("epoch ") for text in said) == 3
    untrained = score(new_model(), validation_sets(data[1], data[2], CLASSES, HOW.clip_s), CLASSES)["score"]
    assert fitted.history[-1]["score"] > untrained + 0.2


def test_the_best_averaged_weights_are_returned(whole: Any, data: Any) -> None:
    fitted, _, _ = whole
    sets = validation_sets(data[1], data[2], CLASSES, HOW.clip_s)
    assert set(sets) == {"1s", "0.5s", "1s augmented", "0.5s augmented"}
    now = score(fitted.model, sets, CLASSES)
    best = max(fitted.history, key=lambda row: row["score"])
    assert {k: best[k] for k in now} == pytest.approx(now)
    assert now["score"] == pytest.approx(np.mean([now[name] for name in sets]))


def test_the_history_is_on_disk(whole: Any) -> None:
    fitted, folder, _ = whole
    assert json.loads((folder / "history.json").read_text()) == list(fitted.history)
    for row in fitted.history:
        assert {"epoch", "loss", "rate", "score", "seconds", "1s", "0.5s augmented"} <= set(row)
    assert not list(folder.glob("*part*")), "nothing half-written"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(whole: Any, train: Any, tmp_path: Path) -> None:
    again = train(tmp_path / "again")
    assert distance(again.model, whole[0].model) == 0
    assert [row["loss"] for row in again.history] == [row["loss"] for row in whole[0].history]


@pytest.mark.slow
def test_fewer_validations_change_no_weight(whole: Any, train: Any, tmp_path: Path) -> None:
    rare = train(tmp_path / "rare", replace(HOW, validate_every=2))
    scores = {row["epoch"]: row["score"] for row in whole[0].history}
    assert {row["epoch"]: row["score"] for row in rare.history} == {n: scores[n] for n in (2, 3)}, "the last, too"


def test_a_finished_training_is_not_repeated(whole: Any, train: Any) -> None:
    fitted, folder, _ = whole
    again = train(folder)
    assert distance(again.model, fitted.model) == 0 and again.history == fitted.history


# --- going on ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 2])
def test_an_interrupted_training_goes_on(whole: Any, resumed: dict[int, Any], epochs: int) -> None:
    fitted, _, said = resumed[epochs]
    assert said[0] == f"continuing after epoch {epochs}"
    assert distance(fitted.model, whole[0].model) < 1e-6
    wanted = {row["epoch"]: row["loss"] for row in whole[0].history}
    assert {row["epoch"]: row["loss"] for row in fitted.history} == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 2])
def test_every_epoch_is_listed_once(resumed: dict[int, Any], epochs: int) -> None:
    assert [row["epoch"] for row in resumed[epochs][0].history] == [1, 2, 3]


@pytest.mark.slow
def test_what_was_done_is_not_done_again(resumed: dict[int, Any]) -> None:
    said = [text.split("/")[0] for text in resumed[2][2] if text.startswith("epoch ")]
    assert said == ["epoch 3"]


def test_another_configuration_is_refused(whole: Any, train: Any, data: Any) -> None:
    _, folder, _ = whole
    for how in (replace(HOW, seed=5), replace(HOW, batch=17), replace(HOW, masking=Masking(spans=2))):
        with pytest.raises(ConfigError, match="another configuration; choose another folder or delete it"):
            train(folder, how)
    pool, validation, config = data
    other = config.normalised(np.zeros(20), np.ones(20))
    with pytest.raises(ConfigError, match="another configuration"):
        fit(new_model(), pool, validation, other, CLASSES, HOW, folder, say=silent)


def test_another_order_of_the_classes_is_refused(whole: Any, data: Any) -> None:
    _, folder, _ = whole
    pool, validation, config = data
    with pytest.raises(ConfigError, match="another configuration"):
        fit(new_model(), pool, validation, config, CLASSES[::-1], HOW, folder, say=silent)


def test_another_teacher_is_refused(whole: Any, data: Any) -> None:
    _, folder, _ = whole
    pool, validation, config = data
    rows = [(pool.recordings[i].label, np.zeros((2, 3))) for i in pool.recording]
    teacher = TeacherTracks(pool_of(rows), 96, 48)
    with pytest.raises(ConfigError, match="another configuration"):
        fit(new_model(), pool, validation, config, CLASSES, HOW, folder, teacher=teacher, say=silent)


@pytest.mark.slow
def test_whoever_watches_may_end_it(train: Any, data: Any, tmp_path: Path) -> None:
    pool, validation, config = data
    how = replace(HOW, steps=2, batch=4, clip_s=(0.5,))
    seen: list[int] = []

    def watch(history: Any) -> bool:
        seen.append(len(history))
        return len(history) == 2

    for _ in range(2):  # a training that was ended does not go on
        fitted = fit(
            new_model(), pool, validation, config, CLASSES, how, tmp_path / "f", say=silent, watch=watch
        )
        assert len(fitted.history) == 2 < how.epochs
    assert seen == [1, 2, 2]


@pytest.mark.slow
def test_patience(train: Any, tmp_path: Path) -> None:
    how = replace(HOW, epochs=8, steps=2, batch=4, learning_rate=1e-6, final_rate=1e-6, patience=2, clip_s=(0.5,))
    said: list[str] = []
    fitted = train(tmp_path / "f", how, say=said.append)
    assert len(fitted.history) == 3 and said[-1] == "no better score for 2 epochs: stop"


@pytest.mark.slow
def test_a_training_that_stopped_early_is_finished(train: Any, tmp_path: Path) -> None:
    how = replace(HOW, epochs=8, steps=2, batch=4, learning_rate=1e-6, final_rate=1e-6, patience=2, clip_s=(0.5,))
    first = train(tmp_path / "f", how)
    assert len(train(tmp_path / "f", how).history) == len(first.history)


@pytest.mark.slow
def test_a_full_disk_is_one_error(train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.write_text

    def full(path: Path, *arguments: Any, **options: Any) -> Any:
        if "history" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(EdgeBenchError, match="No space left"):
        train(tmp_path / "f")


@pytest.mark.slow
def test_resuming_with_dropout_is_exact(train: Any, tmp_path: Path) -> None:
    """Dropout's random state goes on, too."""
    whole = train(tmp_path / "whole", dropout=0.2)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", say=StopAfter(2), dropout=0.2)
    again = train(tmp_path / "stopped", dropout=0.2)
    assert [row["loss"] for row in again.history] == [row["loss"] for row in whole.history]
    assert distance(again.model, whole.model) == 0


@pytest.fixture(scope="module")
def stopped(train: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was interrupted after two epochs, to be copied."""
    folder: Path = tmp_path_factory.mktemp("runs") / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train(folder, say=StopAfter(2))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("cut", [0, 100, 5000])
def test_a_half_written_backup(train: Any, stopped: Path, tmp_path: Path, cut: int) -> None:
    shutil.copytree(stopped, tmp_path / "f")
    backup = tmp_path / "f" / "state.npz"
    backup.write_bytes(backup.read_bytes()[:cut])
    try:
        assert len(train(tmp_path / "f").history) >= 3
    except EdgeBenchError:
        pass


@pytest.mark.slow
def test_a_backup_of_another_version(train: Any, stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "f")
    backup = tmp_path / "f" / "state.npz"
    arrays = dict(np.load(backup))
    arrays["v0"] = arrays["v0"][:1]
    np.savez(backup, **arrays)
    with pytest.raises(EdgeBenchError, match=r"state\.npz: cannot be continued \(arrays of another version.*delete"):
        train(tmp_path / "f")


# --- parts ------------------------------------------------------------------------------------


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "best.weights.h5"
    path.write_bytes(b"older")

    def full(aside: Path) -> None:
        assert aside.suffixes[-2:] == [".weights", ".h5"], "Keras insists on the name"
        aside.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(EdgeBenchError, match=r"best\.weights\.h5: cannot be written: No space left"):
        fit_module.write_aside(path, full)
    assert [p.name for p in tmp_path.iterdir()] == ["best.weights.h5"] and path.read_bytes() == b"older"


@pytest.mark.parametrize(
    "changes",
    [
        *[{name: value} for name in ("epochs", "steps", "batch", "first_cycle", "patience") for value in (0, -1)],
        *[{"final_rate": 0.0}, {"final_rate": 0.1}, {"learning_rate": -1.0}, {"learning_rate": math.nan}],
    ],
)
def test_values_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="training: "):
        FitConfig(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"clip_s": ()}, {"clip_s": (0.0,)}, {"ema": 1.5}, {"smoothing": -1.0}, {"clip_norm": -1.0}, {"mixup": -0.1}],
)
def test_more_values_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="training: "):
        FitConfig(**changes)


def test_rates_are_cosines_with_warm_restarts() -> None:
    how = FitConfig(first_cycle=10, learning_rate=1e-2, final_rate=1e-4)
    for start, length in ((0, 10), (10, 20), (30, 40)):
        assert rate_at(how, start) == pytest.approx(1e-2)
        assert rate_at(how, start + length / 2) == pytest.approx((1e-2 + 1e-4) / 2)
        assert rate_at(how, start + length - 1e-6) == pytest.approx(1e-4, rel=1e-3)
        inside = [rate_at(how, start + length * k / 50) for k in range(50)]
        assert inside == sorted(inside, reverse=True)


def test_each_step_has_its_rate() -> None:
    how = FitConfig(epochs=6, steps=5, first_cycle=2, learning_rate=1e-2, final_rate=1e-4)
    rates = [float(fit_module.Cosines(how)(step)) for step in range(31)]
    np.testing.assert_allclose(rates[:30], [rate_at(how, step / 5) for step in range(30)], rtol=1e-6)
    assert rates[10] == pytest.approx(1e-2) and rates[30] == rates[29], "behind the end it stays"


def test_the_distillation_loss() -> None:
    rng = np.random.default_rng(0)
    logits, teacher = rng.standard_normal((5, 3)), rng.dirichlet(np.ones(3), 5)
    labels = np.eye(3)[rng.integers(3, size=5)]

    def log_softmax(z: np.ndarray) -> np.ndarray:
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    hard, soft = -(labels * log_softmax(logits)).sum(axis=1), -(teacher * log_softmax(logits / 4)).sum(axis=1)
    targets = np.concatenate([labels, teacher], axis=1).astype(np.float32)
    got = fit_module.distillation_loss(0.9, 4.0)(targets, logits.astype(np.float32))
    np.testing.assert_allclose(got, 0.1 * hard + 0.9 * 16 * soft, rtol=1e-5)
    labels_only = fit_module.distillation_loss(0.0, 4.0)(targets, logits.astype(np.float32))
    np.testing.assert_allclose(labels_only, hard, rtol=1e-5)


def test_predict_is_the_model_a_batch_at_a_time(data: Any) -> None:
    model = new_model()
    x = evaluation_clips(data[1], data[2], CLASSES, 0.5).x[:37]
    np.testing.assert_allclose(predict(model, x, batch=10), model(x), atol=1e-6)


def test_predict_follows_the_weights() -> None:
    """Of many batches, too, which a graph answers: of the whole batches and of what is left."""
    x = np.random.default_rng(5).standard_normal((23, 48, 20)).astype(np.float32)
    model = new_model()
    first = predict(model, x, batch=4)
    np.testing.assert_allclose(first, model(x), atol=1e-6)
    for weight in model.trainable_variables:
        weight.assign(weight * 0.5)
    second = predict(model, x, batch=4)
    np.testing.assert_allclose(second, model(x), atol=1e-6)
    assert np.abs(second - first).max() > 1e-3
