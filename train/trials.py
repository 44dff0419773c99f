"""Many trials on random splits: how seeds 002 (80/20 by file) and 004 (50 trials, 80/20 by seed) compare networks.

Each trial splits the groups of the corpus' train split anew, 80 % to 20 % within each class, the same way for every
recipe; each network is trained for a few epochs with class weights, and its figures are those of the epoch with the
smallest loss on the 20 % (as seed 004 does it, which flatters all alike). Validation and test splits stay unseen.

*Ours*: by group and not by file, where the corpus knows what belongs together; the paired test (Wilcoxon's).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, CorpusError, EdgeBenchError
from edge_runtime.files import append_json
from edge_runtime.metrics import evaluate

from . import corpus, systems
from .experiment import Experiment, build
from .features import Pool, features

Int = NDArray[np.int64]


@dataclass(frozen=True)
class TrialsConfig:
    """How many trials, epochs in each, the share that is trained on, and recordings of a class (0: all)."""

    trials: int = 50
    epochs: int = 6
    share: float = 0.8
    per_class: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1 or self.epochs < 1 or self.per_class < 0 or not 0 < self.share < 1:
            raise ConfigError(
                f"trials: {self.trials} trials, {self.epochs} epochs, {self.per_class} recordings, share {self.share}; "
                "needed are at least 1, 1, 0 and a share between 0 and 1"
            )


def split(labels: Int, groups: Sequence[str], seed: int, config: TrialsConfig) -> tuple[Int, Int]:
    """Return the numbers of the recordings to train on and to test on: whole groups, drawn within each class.

    Parameters
    ----------
    labels : np.ndarray, int64, shape (recordings,)
    groups : sequence of str
        Of each recording.

    Raises
    ------
    CorpusError
        If a class has fewer than two groups.
    """
    rng = np.random.default_rng(seed)
    names = np.asarray(groups)
    train: list[int] = []
    test: list[int] = []
    for label in np.unique(labels):
        chosen = np.flatnonzero(labels == label)
        if config.per_class:
            # the same recordings in every trial, as with a small corpus
            chosen = np.random.default_rng(0).permutation(chosen)[: config.per_class]
        of_class = rng.permutation(np.unique(names[chosen]))
        if len(of_class) < 2:
            raise CorpusError(f"class number {label} has one group only: it cannot be split into training and test")
        count = min(max(1, round(config.share * len(of_class))), len(of_class) - 1)
        inside = np.isin(names[chosen], of_class[:count])
        train += chosen[inside].tolist()
        test += chosen[~inside].tolist()
    return np.array(sorted(train)), np.array(sorted(test))


def _rows(pool: Pool, recordings: Int, classes: Sequence[str]) -> tuple[Any, Int, Int]:
    """Return the examples of some recordings, their labels and recordings."""
    pieces = np.flatnonzero(np.isin(pool.recording, recordings) & (pool.lengths > 0))
    rows = np.concatenate([np.arange(pool.lengths[i]) + pool.starts[i] for i in pieces])
    owner = np.repeat(pool.recording[pieces], pool.lengths[pieces])
    labels = np.array([list(classes).index(pool.recordings[int(i)].label) for i in owner])
    return np.asarray(pool.data[rows]), labels, owner


def trial(experiment: Experiment, pool: Pool, seed: int, config: TrialsConfig) -> dict[str, Any]:
    """Train and test one network on one split.

    Returns
    -------
    dict
        ``seed, epoch, loss, accuracy, f1, confusion, errors`` of the best epoch; ``errors`` counts by recording.
    """
    import keras

    from .batches import RowBatches
    from .fit_config import FitConfig

    how = build(FitConfig, {"seed": seed, **experiment.fit}, "[fit]")
    classes = experiment.classes
    labels = np.array([list(classes).index(r.label) for r in pool.recordings])
    train, test = split(labels, [r.group for r in pool.recordings], seed, config)
    shape = systems.inputs_of(experiment, training=True).what.shape
    x, y, _ = _rows(pool, train, classes)
    x_test, y_test, owner = _rows(pool, test, classes)
    keras.utils.set_random_seed(seed)
    model = systems.new_network(experiment, RowBatches(pool, shape, classes, batch=how.batch, steps=8, seed=seed))
    logits = keras.Model(model.input, model.get_layer("pooled_logits").output)
    kinds = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
    logits.compile(
        kinds[how.optimizer](how.learning_rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )  # fmt: skip
    weights = {i: len(y) / (len(classes) * max(1, n)) for i, n in enumerate(np.bincount(y, minlength=len(classes)))}
    predict = systems.network_predictor(logits, shape)
    best: dict[str, Any] = {"loss": np.inf}

    def judge(epoch: int, _: Any) -> None:
        scores = predict(x_test).astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        logarithm = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        loss = float(-logarithm[np.arange(len(y_test)), y_test].mean())
        if loss < best["loss"]:
            predicted = scores.argmax(axis=1)
            found = evaluate(y_test, predicted, classes)
            names, counts = np.unique(owner[predicted != y_test], return_counts=True)
            best.update(
                seed=seed, epoch=epoch + 1, loss=loss, accuracy=found.overall, f1=found.macro_f1,
                confusion=found.confusion.tolist(),
                errors={pool.recordings[int(i)].name: int(n) for i, n in zip(names, counts, strict=True)},
            )  # fmt: skip

    logits.optimizer.build(logits.trainable_variables)
    logits.fit(
        x.reshape(-1, *shape), y, batch_size=how.batch, epochs=config.epochs, verbose=0, class_weight=weights,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=judge)],
    )  # fmt: skip
    if "seed" not in best:
        raise EdgeBenchError(f"{experiment.model}, trial {seed}: the loss is not a number; lower the learning rate")
    return best


def run(
    experiments: Mapping[str, Experiment],
    corpus_root: Path,
    folder: Path,
    config: TrialsConfig,
    *,
    extra: Sequence[Path] = (),
    cache: Path | None = None,
    say: Callable[[str], None] = print,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Run all trials of all recipes and return ``edge-bench/trials/1``.

    Every trial is a line of ``trials.jsonl``, and a folder that holds some goes on with the others.

    Raises
    ------
    ConfigError
        If the recipes differ in their classes, one is no network of `edge_bench.train.systems`, or the folder holds
        other trials.
    """
    from .fit import claim

    first, *others = experiments.values()
    for name, experiment in experiments.items():
        if experiment.model in systems.BASELINES or not systems.is_system(experiment.model):
            raise ConfigError(f"{name}: trials are for the other networks of the zoo, not for {experiment.model}")
    if any((e.classes, e.leave_out) != (first.classes, first.leave_out) for e in others):
        raise ConfigError(f"{', '.join(experiments)}: differ in their classes; compare recipes of the same task")
    data = corpus.load(corpus_root, classes=first.classes, extra=extra, leave_out=first.leave_out)
    # fewer trials or more are no other experiment: each stands alone
    settings = {k: v for k, v in asdict(config).items() if k != "trials"}
    recipes = {
        name: [e.model, dict(e.options), dict(e.fit), systems.inputs_of(e, training=True).key()]
        for name, e in experiments.items()
    }
    claim(folder, {"config": settings, "corpus": data.revision(), "recipes": recipes})
    done = _read(folder / "trials.jsonl")
    pools = {
        name: features(data, "train", systems.inputs_of(e, training=True), cache=cache, progress=progress)
        for name, e in experiments.items()
    }
    for seed in range(config.trials):
        for name, experiment in experiments.items():
            if (name, seed) in done:
                continue
            result = trial(experiment, pools[name], seed, config)
            done[name, seed] = result
            append_json(folder / "trials.jsonl", {"recipe": name, **result})
            say(f"trial {seed + 1}/{config.trials}  {name}  accuracy {result['accuracy']:.3f}  F1 {result['f1']:.3f}")
    values = {name: [done[name, seed] for seed in range(config.trials)] for name in experiments}
    return {
        "schema": "edge-bench/trials/1", "corpus": data.revision(), "classes": list(first.classes), **asdict(config),
        "recipes": {name: summary(results, values[next(iter(values))]) for name, results in values.items()},
    }  # fmt: skip


def summary(results: Sequence[Mapping[str, Any]], baseline: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return means, deviations, all values, the summed confusion matrix, the errors of each file, and p.

    ``p`` is that of Wilcoxon's signed-rank test on the F1 of the same splits against the baseline's; None with
    fewer than six trials or without a difference.
    """
    from scipy.stats import wilcoxon

    f1 = np.array([r["f1"] for r in results])
    accuracy = np.array([r["accuracy"] for r in results])
    differences = f1 - np.array([r["f1"] for r in baseline])
    errors: dict[str, int] = {}
    for result in results:
        for file, count in result["errors"].items():
            errors[file] = errors.get(file, 0) + count
    return {
        "accuracy": float(accuracy.mean()), "accuracy_sd": float(accuracy.std()),
        "f1": float(f1.mean()), "f1_sd": float(f1.std()), "f1_values": f1.tolist(),
        "p": float(wilcoxon(differences).pvalue) if len(f1) >= 6 and differences.any() else None,
        "confusion": np.sum([r["confusion"] for r in results], axis=0).tolist(),
        "errors": dict(sorted(errors.items(), key=lambda item: -item[1])),
    }  # fmt: skip


def _read(file: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the finished trials; a last line that was cut off by a kill counts as none."""
    done = {}
    if file.is_file():
        for line in file.read_text().splitlines():
            try:
                value = json.loads(line)
                done[value.pop("recipe"), value["seed"]] = value
            except (ValueError, KeyError, AttributeError):
                continue
    return done


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw the distribution of F1 of every recipe, the mean dashed (seed 004, figure 1), as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    values = {name: np.array(r["f1_values"]) for name, r in result["recipes"].items()}
    everything = np.concatenate(list(values.values()))
    edges = np.linspace(everything.min() - 0.01, everything.max() + 0.01, 16)
    for i, (name, of_recipe) in enumerate(values.items()):
        axis.hist(of_recipe, edges, alpha=0.45, color=f"C{i}", label=f"{name}: mean {of_recipe.mean():.3f}")
        axis.axvline(of_recipe.mean(), color=f"C{i}", linestyle="--")
    axis.set(xlabel="class-average F1", ylabel="trials", title=f"{result['trials']} random splits")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
