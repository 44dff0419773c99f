"""Training of one network: averaged weights, early stop, resume; `edge_bench.train.fit_config` says how it goes.

The weights that are validated and kept are an exponential moving average of those that the optimizer moves.
"""

from __future__ import annotations

import importlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, EdgeBenchError, FrontEndConfig
from edge_runtime.metrics import evaluate

from . import models
from .batches import ClipBatches, TeacherTracks
from .clips import ClipSet, evaluation_clips
from .distribution import clip_after_sum
from .features import Pool
from .fit_config import CLIP_LENGTHS, FitConfig, rate_at

_WORTH_COMPILING = 500  # steps
_WORTH_A_GRAPH = 4  # batches
# from a network that gives logits to the figures of an epoch; ``score`` chooses the best
Scored = Callable[[keras.Model], dict[str, float]]
# gets the history after each validation, and before the first when a training goes on; True ends the training
Watch = Callable[[Sequence[dict[str, float]]], bool]


class Batches(Protocol):
    """Endless random batches: a `keras.utils.PyDataset` whose items depend on the epoch."""

    epoch: int


def validation_sets(
    pool: Pool, config: FrontEndConfig, classes: Sequence[str], clip_s: Sequence[float] = CLIP_LENGTHS
) -> dict[str, ClipSet]:
    """Return the clips of every length, of the clean copy and of the augmented ones apart."""
    sets = {}
    for seconds in clip_s:
        sets[f"{seconds:g}s"] = evaluation_clips(pool.only(copy=0), config, classes, seconds)
        if pool.copy.max() > 0:
            sets[f"{seconds:g}s augmented"] = evaluation_clips(pool.only(copy=1), config, classes, seconds)
    return sets


def score(model: keras.Model, sets: dict[str, ClipSet], classes: Sequence[str]) -> dict[str, float]:
    """Return the class-average F1 of each set and their mean, ``score``."""
    result = {
        name: evaluate(clips.labels, predict(model, clips.x).argmax(axis=1), classes).macro_f1
        for name, clips in sets.items()
    }
    return {**result, "score": float(np.mean(list(result.values())))}


def predict(model: keras.Model, x: NDArray[np.float32], batch: int = 256) -> NDArray[np.float32]:
    """Return the model's outputs, a batch at a time, without a progress bar."""
    call: Any = model
    if keras.backend.backend() == "jax":  # which compiles each operator by itself unless it gets the whole
        weights = [v.value for v in model.trainable_variables]
        rest = [v.value for v in model.non_trainable_variables]
        call = partial(_jitted(model), weights, rest)
    elif len(x) > _WORTH_A_GRAPH * batch:
        call = _graph(model)
    return np.concatenate([np.asarray(call(x[i : i + batch])) for i in range(0, len(x), batch)])


@lru_cache(maxsize=2)
def _jitted(model: keras.Model) -> Any:
    """Return a network's answers as a function that JAX compiles once for each shape, not once for each call."""
    jit: Any = importlib.import_module("jax").jit
    return jit(lambda weights, rest, x: model.stateless_call(weights, rest, x, training=False)[0])


@lru_cache(maxsize=2)
def _graph(model: keras.Model) -> Any:
    """Return a network's answers as a graph of TensorFlow: the same bits, without Python between operators."""
    function: Any = importlib.import_module("tensorflow").function
    return function(lambda x: model(x, training=False), reduce_retracing=True)


class Cosines(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The learning rate of each step, see `rate_at`; in the compiled step, so every backend of Keras follows it."""

    def __init__(self, config: FitConfig) -> None:
        super().__init__()
        steps = config.epochs * config.steps
        self._rates = np.array([rate_at(config, step / config.steps) for step in range(steps)], np.float32)

    def __call__(self, step: Any) -> Any:
        """Return the rate of a step, counted from 0."""
        return keras.ops.take(self._rates, keras.ops.minimum(keras.ops.cast(step, "int32"), len(self._rates) - 1))


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """Validation on the averaged weights, the best so far, early stop and resume."""

    def __init__(
        self, config: FitConfig, scored: Scored, batches: Batches, folder: Path, say: Callable[[str], None],
        watch: Watch | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._config, self._scored, self._watch = config, scored, watch
        self._batches, self._folder, self._say = batches, folder, say
        self.history: list[dict[str, float]] = []
        self._began = 0.0

    @property
    def _best(self) -> float:
        return max((h["score"] for h in self.history), default=-1.0)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._batches.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if (epoch + 1) % self._config.validate_every and epoch + 1 < self._config.epochs:
            return
        averaged = self.model.optimizer._model_variables_moving_average
        live = [v.numpy() for v in self.model.trainable_variables]
        for variable, mean in zip(self.model.trainable_variables, averaged, strict=True):
            variable.assign(mean)
        row = {
            "epoch": epoch + 1.0,
            "loss": float((logs or {})["loss"]),
            "rate": rate_at(self._config, epoch + 1 - 1 / self._config.steps),
            **self._scored(self.model),
        }
        better = row["score"] > self._best
        if better:
            write_aside(self._folder / "best.weights.h5", self.model.save_weights)
        for variable, value in zip(self.model.trainable_variables, live, strict=True):
            variable.assign(value)
        now = time.monotonic()
        row["seconds"], self._began = now - self._began, now
        self.history.append(row)
        _save_state(self._folder, self.model, self.history)
        self._say(
            f"epoch {epoch + 1}/{self._config.epochs}  loss {row['loss']:.4f}  validation F1 {row['score']:.4f}"
            f"{'  best' if better else ''}  {row['seconds']:.1f} s"
        )
        if _is_over(self.history, self._config.patience):
            self._say(f"no better score for {self._config.patience} epochs: stop")
            self.model.stop_training = True
        if self._watch and self._watch(self.history):
            self.model.stop_training = True


def _is_over(history: Sequence[dict[str, float]], patience: int) -> bool:
    """Return whether the best score is `patience` epochs old."""
    if not history:
        return False
    best = max(history, key=lambda row: row["score"])  # the first of equals
    return history[-1]["epoch"] - best["epoch"] >= patience


def write_aside(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file beside its place and move it there; an error leaves nothing half-written."""
    aside = path.with_name("part-" + path.name)
    try:
        write(aside)
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise EdgeBenchError(f"{path}: cannot be written: {error.strerror or error}") from error


def _state(model: keras.Model) -> list[Any]:
    """Return everything that a training goes on with: weights, Adam's moments and counter, averaged weights."""
    return [*model.variables, *model.optimizer.variables]


def _save_state(folder: Path, model: keras.Model, history: Sequence[dict[str, float]]) -> None:
    """Write weights and history in one file, so that a killed training cannot leave the one without the other."""
    arrays = {f"v{i}": v.numpy() for i, v in enumerate(_state(model)) if v.dtype != "string"}

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez(file, history=np.array(json.dumps(list(history))), **arrays)
            file.flush()
            os.fsync(file.fileno())

    write_aside(folder / "state.npz", write)
    write_aside(folder / "history.json", lambda aside: aside.write_text(json.dumps(list(history))))


def _restore(folder: Path, model: keras.Model) -> list[dict[str, float]]:
    """Put a saved state back and return its history; an empty one when there is nothing to go on with."""
    file = folder / "state.npz"
    if not file.is_file():
        return []
    variables = _state(model)
    try:
        with np.load(file, allow_pickle=False) as saved:
            history: list[dict[str, float]] = json.loads(str(saved["history"]))
            values = [saved[f"v{i}"] for i in range(len(variables))]
        if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
            raise ValueError("arrays of another version of edge-bench")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise EdgeBenchError(f"{file}: cannot be continued ({error}); delete {folder} and train again") from None
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return history


def distillation_loss(soft: float, temperature: float) -> Callable[[Any, Any], Any]:
    """Return the loss of logits against labels and softened teacher probabilities laid side by side.

    ``(1 - soft) * H(labels, p) + soft * T^2 * H(teacher_T, p_T)``; T squared keeps the gradient's size.
    """

    def loss(targets: Any, logits: Any) -> Any:
        classes = logits.shape[-1]
        hard = keras.ops.categorical_crossentropy(targets[:, :classes], logits, from_logits=True)
        softened = keras.ops.categorical_crossentropy(targets[:, classes:], logits / temperature, from_logits=True)
        return (1 - soft) * hard + soft * temperature**2 * softened

    return loss


@dataclass(frozen=True)
class Fitted:
    """A trained network (the best averaged weights) and what happened on the way."""

    model: keras.Model
    history: tuple[dict[str, float], ...]


def fit(
    model: keras.Model,
    pool: Pool,
    validation: Pool,
    config: FrontEndConfig,
    classes: Sequence[str],
    how: FitConfig,
    folder: Path,
    *,
    teacher: TeacherTracks | None = None,
    start: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
    watch: Watch | None = None,
) -> Fitted:
    """Train a network whose layer ``pooled_logits`` precedes its softmax.

    Parameters
    ----------
    model : keras.Model
        Trained in place.
    pool, validation : Pool
        Features without normalisation; the validation pool may hold augmented copies, which count as much as the
        clean one.
    config : FrontEndConfig
        With normalisation.
    teacher : TeacherTracks, optional
        Distil from these logits; without it the labels are all there is.
    start : mapping, optional
        Names the weights that `model` comes with; a training that started with others is not continued.
    folder : Path
        Receives checkpoints. A folder with the checkpoints of an unfinished training with the same
        configuration is continued.
    watch : callable, optional
        May end the training, see `Watch`.

    Raises
    ------
    ConfigError
        If the folder holds a training with another configuration.
    EdgeBenchError
        If a checkpoint cannot be written.
    """
    keras.utils.set_random_seed(how.seed)
    of_training = {
        "fit": asdict(how),
        "model": model.name,
        "front_end": config.to_dict(),
        "classes": list(classes),
        "pool": [len(pool.starts), int(pool.lengths.sum())],
        "teacher": [teacher.window, teacher.hop, float(teacher.pool.data.sum())] if teacher else None,
        **({"start": dict(start)} if start else {}),
    }
    claim(folder, of_training)
    batches = ClipBatches(
        pool, config, classes, clip_s=how.clip_s, batch=how.batch, steps=how.steps, seed=how.seed,
        masking=how.masking, mixup=how.mixup, smoothing=how.smoothing, source_power=how.source_power,
        teacher=teacher, temperature=how.temperature, pads=any(layer.name == "pad" for layer in model.layers),
    )
    sets = validation_sets(validation, config, classes, how.clip_s)
    return fit_batches(
        model, batches, lambda trainee: score(trainee, sets, classes), how, folder,
        loss=distillation_loss(how.soft, how.temperature) if teacher else None, say=say, watch=watch,
    )  # fmt: skip


def fit_batches(
    model: keras.Model,
    batches: Batches,
    scored: Scored,
    how: FitConfig,
    folder: Path,
    *,
    loss: Any = None,
    say: Callable[[str], None] = print,
    watch: Watch | None = None,
) -> Fitted:
    """Train on any batches; `fit` and `edge_bench.train.systems` say what they are made of.

    Parameters
    ----------
    model : keras.Model
        Its layer ``pooled_logits`` precedes its softmax. Trained in place.
    scored : callable
        Called at each validation with a network that gives logits.
    folder : Path
        Claimed with `claim` before.
    loss : optional
        Of targets and logits; cross entropy by default.
    watch : callable, optional
        May end the training, see `Watch`.
    """
    progress = _Progress(how, scored, batches, folder, say, watch)
    trainee = models.trainee(model)
    averaged = {"use_ema": True, "ema_momentum": how.ema}
    common = {"clipnorm": how.clip_norm, "weight_decay": how.weight_decay or None, **averaged}
    optimizers = {
        "adam": lambda: keras.optimizers.Adam(Cosines(how), **common),
        "sgd": lambda: keras.optimizers.SGD(Cosines(how), momentum=0.9, **common),
    }
    trainee.compile(
        clip_after_sum(optimizers[how.optimizer]()),
        loss=loss or keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=how.xla and how.epochs * how.steps >= _WORTH_COMPILING,
    )
    trainee.optimizer.build(trainee.trainable_variables)  # variables made within the step have it traced twice
    progress.history = _restore(folder, trainee)
    done = int(progress.history[-1]["epoch"]) if progress.history else 0
    if done:
        say(f"continuing after epoch {done}")
    ended = _is_over(progress.history, how.patience) or bool(done and watch and watch(progress.history))
    if done < how.epochs and not ended:
        trainee.fit(
            batches, initial_epoch=done, epochs=how.epochs, shuffle=False, verbose=0, callbacks=[progress]
        )
    trainee.load_weights(folder / "best.weights.h5")
    return Fitted(model, tuple(progress.history))


def claim(folder: Path, config: dict[str, Any]) -> None:
    """Write the configuration, or make sure that the folder's is the same."""
    text = json.dumps(config, sort_keys=True)
    file = folder / "config.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.is_file() and file.read_text() != text:
            raise ConfigError(
                f"{folder}: holds checkpoints of another configuration; choose another folder or delete it"
            )
        file.write_text(text)
    except OSError as error:
        raise EdgeBenchError(f"{folder}: cannot be written: {error.strerror or error}") from None
