"""The other systems of the sources, from recordings to a fitted network: everything but SwishNet and MobileNet.

A network of the zoo whose family `edge_bench.train.inputs` knows, or a frame-wise baseline, is trained and evaluated
with the same commands, recipes and JSON as SwishNet (`edge_bench.train.experiment.run` hands it on to `run`). It looks
at examples of its own length; a clip's probabilities are the mean over the examples inside it, so one clip is at least
an example long.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError
from edge_runtime.metrics import evaluate

from . import inputs, models, report
from .clips import ClipSet
from .experiment import (
    Experiment,
    Prepared,
    build,
    how_to_train,
    load_corpus,
    read_folder,
    write_description,
)
from .features import Pool, features
from .inputs import Cuts, Inputs

if TYPE_CHECKING:
    from .batches import RowBatches
    from .fit import Watch

Float32 = NDArray[np.float32]
Predict = Callable[[Float32], Float32]

BASELINES = ("gmm", "snn", "random-forest", "svm-rbf", "svm-linear")
CLIP_S = (0.5, 1.0, 2.0)
_VALIDATION_ROWS = 2000  # that choose the best epoch
_SHORT_HOP = 0.25  # s: half of the shortest clip


def is_system(name: str) -> bool:
    """Return whether a model of a recipe is trained here."""
    return name in BASELINES or (name in models.ZOO and models.ZOO[name].family in inputs.FAMILIES)


def inputs_of(experiment: Experiment, *, training: bool = False) -> Inputs:
    """Return how recordings become examples: by the recipe in training, at an even step of the clips' otherwise."""
    if experiment.model in BASELINES:
        return Inputs("frames", experiment.front_end, Cuts(hop_s=experiment.front_end.hop_s))
    name = experiment.model
    config = models.configure(name, classes=len(experiment.classes), **experiment.options)
    found = Inputs(models.ZOO[name].family, config, experiment.examples)
    if training:
        return found
    # long examples overlap by half
    return replace(found, cuts=Cuts(hop_s=_SHORT_HOP if found.window_s < 2 else 0.0))


def clip_lengths(seconds: Sequence[float], window_s: float) -> list[float]:
    """Return the lengths that a system can be judged at: none below its own, rounded to 10 ms.

    Examples
    --------
    >>> clip_lengths((0.5, 1, 2), 0.7517)
    [0.75, 1.0, 2.0]
    """
    return sorted({round(max(float(s), window_s), 2) for s in seconds})


@dataclass(frozen=True)
class System:
    """A trained system.

    Attributes
    ----------
    name : str
    classes, leave_out : tuple of str
    inputs : Inputs
        At the step of evaluation.
    predict : callable
        From rows (n, features) to probabilities (n, classes); votes with the baselines.
    """

    name: str
    classes: tuple[str, ...]
    leave_out: tuple[str, ...]
    inputs: Inputs
    predict: Predict

    def answers(self, pool: Pool, clip_s: Sequence[float] = CLIP_S) -> dict[float, tuple[ClipSet, Float32]]:
        """Return for each clip length the clips of a pool of examples and their probabilities."""
        from .rows import clips_of

        what = self.inputs.what
        probabilities = self.predict(pool.data)
        return {
            seconds: clips_of(
                pool, probabilities, self.classes, seconds, each=what.each, window_s=self.inputs.window_s,
                step_s=self.inputs.step_s,
            )
            for seconds in clip_lengths(clip_s, self.inputs.window_s)
        }  # fmt: skip


def network_predictor(model: Any, shape: Sequence[int], batch: int = 128) -> Predict:
    """Return a prediction of rows, a batch at a time."""
    from .fit import predict

    return lambda rows: predict(model, rows.reshape(-1, *shape), batch)


def find(path: str | Path) -> System | None:
    """Return the trained system that a folder holds; None if it holds something else.

    Raises
    ------
    ConfigError
        If the folder is damaged.
    """
    folder = Path(path).parent if str(path).endswith(".keras") else Path(path)
    if not (folder / "experiment.json").is_file():
        return None
    experiment, _ = read_folder(folder)
    if not is_system(experiment.model):
        return None
    found = inputs_of(experiment)
    if experiment.model in BASELINES:
        from .baselines_io import load

        predict: Predict = load(folder, experiment.model, len(experiment.classes)).votes
    else:
        predict = network_predictor(models.load(folder / "model.keras"), found.what.shape)
    return System(experiment.model, experiment.classes, experiment.leave_out, found, predict)


def open_system(path: str | Path, family: str) -> System:
    """Return the trained system of one family, for a command that is only for this one.

    Raises
    ------
    ConfigError
        If the folder holds none.
    """
    system = find(path)
    if system is None or system.inputs.family != family:
        held = f"a {system.name}" if system else "no such training"
        raise ConfigError(f"{path}: holds {held}; needed is the folder of a trained {family} network")
    return system


def prepare(
    experiment: Experiment,
    corpus_root: Path,
    *,
    extra: Sequence[Path] = (),
    cache: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Prepared:
    """Read the corpus and cut its examples, or find them in the cache: as `experiment.prepare`."""
    data = load_corpus(experiment, corpus_root, extra)
    common: dict[str, Any] = {
        "augmentation": experiment.augmentation, "seed": experiment.pool_seed, "cache": cache, "progress": progress,
    }  # fmt: skip
    pool = features(data, "train", inputs_of(experiment, training=True), copies=experiment.copies, **common)
    validation = features(data, "validation", inputs_of(experiment), **common)
    return Prepared(data, pool, validation, experiment.front_end, None)


def run(
    experiment: Experiment,
    corpus_root: Path,
    folder: Path,
    *,
    extra: Sequence[Path] = (),
    cache: Path | None = None,
    say: Callable[[str], None] = print,
    progress: Callable[[str, int, int], None] | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Train, write everything into `folder`, return the metrics on the validation split: as `experiment.run`."""
    if experiment.teachers:
        raise ConfigError(f"{experiment.model}: cannot be distilled here; take teachers out of the recipe")
    ready = prepare(experiment, corpus_root, extra=extra, cache=cache, progress=progress)
    data, pool, validation = ready.data, ready.pool, ready.validation
    fit = _fit_baseline if experiment.model in BASELINES else _fit_network
    parameters, history, how = fit(experiment, pool, validation, folder, say, watch)
    write_description(folder, experiment, how, data, extra)
    system = find(folder)
    assert system is not None
    metrics = {
        "schema": "edge-bench/train/1",
        "model": experiment.model,
        "parameters": parameters,
        "best": max(history, key=lambda row: row["score"]),
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "validation": {
            f"{seconds:g}s": report.scores(clips, probabilities, experiment.classes, samples=200)
            for seconds, (clips, probabilities) in system.answers(validation).items()
        },
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def new_network(experiment: Experiment, batches: RowBatches) -> Any:
    """Return an untrained network; one whose normalisation is in the graph has seen some training batches."""
    from .models import allconv

    model = models.build(experiment.model, classes=len(experiment.classes), **experiment.options)
    if models.ZOO[experiment.model].family == "allconv":
        allconv.adapt(model, [batches[i][0] for i in range(min(8, len(batches)))])
    return model


def _fit_network(
    experiment: Experiment, pool: Pool, validation: Pool, folder: Path, say: Callable[[str], None],
    watch: Watch | None,
) -> tuple[int, Sequence[dict[str, float]], dict[str, Any]]:
    import keras

    from .batches import RowBatches
    from .fit import claim, fit_batches, write_aside
    from .rows import examples

    how = how_to_train(experiment)
    keras.utils.set_random_seed(how.seed)
    found = inputs_of(experiment, training=True)
    shape = found.what.shape
    batches = RowBatches(
        pool, shape, experiment.classes, batch=how.batch, steps=how.steps, seed=how.seed, smoothing=how.smoothing,
        source_power=how.source_power,
    )  # fmt: skip
    model = new_network(experiment, batches)
    rows, labels = examples(validation, experiment.classes, most=_VALIDATION_ROWS)
    held_out = validation.data[rows]

    def scored(trainee: keras.Model) -> dict[str, float]:
        predicted = network_predictor(trainee, shape)(held_out).argmax(axis=1)
        return {"score": evaluate(labels, predicted, experiment.classes).macro_f1}

    claim(
        folder,
        {"fit": asdict(how), "model": experiment.model, "inputs": found.key(), "classes": list(experiment.classes),
         "pool": [len(pool.starts), int(pool.lengths.sum())]},
    )  # fmt: skip
    say(
        f"{experiment.model}: {models.trainable_parameters(model):,} parameters; {len(pool.data):,} examples of "
        f"{found.window_s:.3g} s for training, {len(validation.data):,} for validation"
    )
    fitted = fit_batches(model, batches, scored, how, folder, say=say, watch=watch)
    write_aside(folder / "model.keras", model.save)
    report.draw_curves(fitted.history, folder / "curves.png")
    return models.trainable_parameters(model), fitted.history, asdict(how)


@dataclass(frozen=True)
class BaselineFit:
    """How a frame-wise baseline is trained: so many frames of each class, drawn by collection."""

    per_class: int = 100_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.per_class < 1:
            raise ConfigError(f"[fit]: per_class is {self.per_class}, must be at least 1")


def check_baseline(experiment: Experiment) -> BaselineFit:
    """Return how a baseline is trained, after its options were judged too.

    Raises
    ------
    ConfigError
        For a key or a value that makes no sense.
    """
    from . import baselines_io

    baselines_io.make(experiment.model, len(experiment.classes), experiment.options)
    return build(BaselineFit, {"seed": experiment.seed, **experiment.fit}, "[fit]")


def _fit_baseline(
    experiment: Experiment, pool: Pool, validation: Pool, folder: Path, say: Callable[[str], None],
    watch: Watch | None,
) -> tuple[int, Sequence[dict[str, float]], dict[str, Any]]:
    import time

    from . import baselines_io
    from .batches import RowBatches
    from .rows import examples

    how = check_baseline(experiment)
    classes = experiment.classes
    classifier = baselines_io.make(experiment.model, len(classes), experiment.options, seed=how.seed)
    width = (inputs_of(experiment).features,)
    drawn = RowBatches(pool, width, classes, batch=how.per_class * len(classes), steps=1, seed=how.seed)
    x, y = drawn[0]
    say(f"{experiment.model}: learning from {len(x):,} frames of {pool.lengths.sum():,}")
    began = time.monotonic()
    classifier.fit(x, y.argmax(axis=1))
    seconds = time.monotonic() - began
    rows, labels = examples(validation, classes, most=10 * _VALIDATION_ROWS)
    score = evaluate(labels, classifier.predict_frames(validation.data[rows]), classes).macro_f1
    say(f"{seconds:.0f} s; class-average F1 of single frames on validation {score:.4f}")
    baselines_io.save(folder, classifier)
    history = [{"epoch": 1.0, "score": score, "seconds": seconds}]
    return baselines_io.parameters(classifier), history, asdict(how)
