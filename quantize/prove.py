"""Quantise a finished training and refuse when it loses too much."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_bench.train import corpus, features, models
from edge_bench.train.clips import evaluation_clips
from edge_bench.train.experiment import read_folder
from edge_bench.train.fit import predict as predict_keras
from edge_runtime import ConfigError, FrontEndConfig
from edge_runtime.bundle import write_aside
from edge_runtime.classify import predict
from edge_runtime.metrics import evaluate

from . import convert

RECIPES = {"static-int8": "int8", "float32": "float32"}


def quantize(
    folder: Path,
    corpus_root: Path,
    *,
    recipe: str = "static-int8",
    max_drop: float = 0.5,
    out: Path | None = None,
    cache: Path | None = None,
    clip_s: tuple[float, ...] = (0.5, 1.0, 2.0),
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Convert, compare with Keras on the validation split, and write the bundle if it is good enough.

    Returns
    -------
    dict
        ``edge-bench/quantize/1``; ``drop`` is in points of class-average F1 at the longest clip.

    Raises
    ------
    ConfigError
        For an unknown recipe or a folder without a finished training.
    """
    if recipe not in RECIPES:
        raise ConfigError(f"recipe {recipe!r} is unknown, must be one of {', '.join(RECIPES)}")
    precision = RECIPES[recipe]
    experiment, description = read_folder(folder)
    config = experiment.front_end
    plain = FrontEndConfig.from_dict({**config.to_dict(), "mean": [], "scale": []})
    model = models.load(folder / "model.keras")
    extra = [Path(path) for path in description["corpus"]["extra"]]
    data = corpus.load(corpus_root, classes=experiment.classes, extra=extra)

    pool = features.features(
        data, "train", plain, copies=1, augmentation=experiment.augmentation, seed=experiment.seed,
        cache=cache, progress=progress,
    )  # fmt: skip
    sets = []
    for seconds in clip_s:
        clips = evaluation_clips(pool.only(copy=1), config, experiment.classes, seconds)
        sets.append((clips.x, [pool.recordings[int(i)].name for i in clips.recording]))
    calibration = convert.sample_clips(sets, experiment.calibration_clips, seed=experiment.seed)

    validation = features.features(data, "validation", plain, cache=cache, progress=progress)
    name = f"{experiment.model}-{precision}"
    target = out or folder / f"{name}.tflite"
    training = {
        "experiment": {k: v for k, v in description["experiment"].items() if k != "front_end"},
        "fit": description["fit"],
        "corpus": description["corpus"]["revision"],
        "keras": description["keras"],
    }
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as scratch:
        draft = convert.export(
            Path(scratch) / target.name, model, name=name, family=experiment.model, precision=precision,
            front_end=config, classes=experiment.classes, training=training, calibration=calibration,
        )  # fmt: skip
        by_length = {}
        for seconds in clip_s:
            clips = evaluation_clips(validation, config, experiment.classes, seconds)
            exact, quantised = predict_keras(model, clips.x), predict(draft, clips.x)
            before = evaluate(clips.labels, exact.argmax(axis=1), experiment.classes).macro_f1
            after = evaluate(clips.labels, quantised.argmax(axis=1), experiment.classes).macro_f1
            by_length[f"{seconds:g}"] = {
                "float_macro_f1": before,
                "int8_macro_f1": after,
                "drop": 100 * (before - after),
                "agreement": float((exact.argmax(axis=1) == quantised.argmax(axis=1)).mean()),
            }
        good = all(r["drop"] <= max_drop for r in by_length.values())
        if good:
            with write_aside(target) as aside:
                aside.write_bytes(Path(draft.path).read_bytes())
    return {
        "schema": "edge-bench/quantize/1",
        "recipe": recipe,
        **by_length[f"{max(clip_s):g}"],
        "by_length": by_length,
        "bytes": draft.size,
        "model_bytes": len(draft.flatbuffer),
        "sha256": draft.sha256,
        "max_drop": max_drop,
        "written": good,
        "out": str(target),
    }
