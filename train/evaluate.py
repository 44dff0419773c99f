"""Scores of a bundle or a Keras model on a split of a corpus, at every clip length."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import FrontEndConfig
from edge_runtime.bundle import read, resolve
from edge_runtime.classify import predict as predict_bundle

from . import corpus, features, report
from .clips import ClipSet, evaluation_clips

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def open_model(path: str, backend: str = "auto") -> tuple[FrontEndConfig, tuple[str, ...], str, Predict]:
    """Return (front end, classes, name, prediction) of a bundle or of a training folder's ``model.keras``.

    Raises
    ------
    BundleError, ConfigError
        If it is neither.
    """
    if path.endswith(".keras") or (Path(path) / "model.keras").is_file():
        from . import models
        from .experiment import read_folder
        from .fit import predict

        file = Path(path) if path.endswith(".keras") else Path(path) / "model.keras"
        experiment, _ = read_folder(file.parent)
        model = models.load(file)
        return experiment.front_end, experiment.classes, experiment.model, lambda x: predict(model, x)

    built = read(resolve(path))
    return built.front_end, built.classes, built.name, lambda x: predict_bundle(built, x, backend=backend)


def markdown_table(evaluations: Sequence[dict[str, Any]]) -> str:
    """Return the scores of several evaluations as one Markdown table, a row for each model and clip length."""
    classes = evaluations[0]["classes"]
    header = ["model", "split", "clip", "clips", "overall", "speech/non-speech", "class-average F1", "95 %"]
    header += [f"{name} recall" for name in classes]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for e in evaluations:
        for key, r in e["clips_by_length"].items():
            low, high = r["intervals"]["macro_f1"]
            speech = "-" if r["speech_nonspeech"] is None else f"{100 * r['speech_nonspeech']:.2f}"
            cells = [e["model"], e["split"], f"{key} s", f"{r['clips']:,}", f"{100 * r['overall']:.2f}", speech,
                     f"{100 * r['macro_f1']:.2f}", f"{100 * low:.1f} to {100 * high:.1f}",
                     *(f"{100 * r['recall'][name]:.1f}" for name in classes)]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Answers:
    """What a model answers on a split, before anything is scored.

    Attributes
    ----------
    name : str
    classes : tuple of str
    corpus : str
        The corpus' revision.
    files : tuple of str
        Names of the recordings that ``ClipSet.recording`` counts.
    clips : dict
        For each clip length in seconds the clips and their probabilities, (clips, classes).
    """

    name: str
    classes: tuple[str, ...]
    corpus: str
    files: tuple[str, ...]
    clips: dict[float, tuple[ClipSet, NDArray[np.float32]]]


def answers(
    path: str,
    corpus_root: Path,
    split: str,
    *,
    clip_s: Sequence[float] = (0.5, 1.0, 2.0),
    gain_db: float = 0.0,
    backend: str = "auto",
    cache: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Answers:
    """Return a model's answers on the clips of a split; parameters as `evaluate`."""
    config, classes, name, predict = open_model(path, backend)
    data = corpus.load(corpus_root, classes=classes, complete=False)
    plain = FrontEndConfig.from_dict({**config.to_dict(), "mean": [], "scale": []})
    pool = features.features(data, split, plain, gain_db=gain_db, cache=cache, progress=progress)
    found = {}
    for seconds in clip_s:
        clips = evaluation_clips(pool, config, classes, seconds)
        found[seconds] = (clips, predict(clips.x))
    return Answers(name, classes, data.revision(), tuple(r.name for r in pool.recordings), found)


def evaluate(
    path: str,
    corpus_root: Path,
    split: str,
    *,
    clip_s: Sequence[float] = (0.5, 1.0, 2.0),
    gain_db: float = 0.0,
    backend: str = "auto",
    cache: Path | None = None,
    log: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Return ``edge-bench/evaluate/1``: scores by clip length with intervals, and the recordings with errors.

    Parameters
    ----------
    gain_db : float
        Level change of every recording.
    log : Path, optional
        A JSON-lines file that every look at the test split is appended to.
    """
    found = answers(
        path, corpus_root, split, clip_s=clip_s, gain_db=gain_db, backend=backend, cache=cache, progress=progress
    )
    name, classes = found.name, found.classes
    results, errors = {}, {}
    for seconds, (clips, probabilities) in found.clips.items():
        key = f"{seconds:g}"
        results[key] = report.scores(clips, probabilities, classes)
        errors[key] = report.errors_by_recording(clips, probabilities, found.files, classes)[:40]
    longest = max(found.clips)
    answer = {
        "schema": "edge-bench/evaluate/1",
        "model": name,
        "path": path,
        "split": split,
        "corpus": found.corpus,
        "classes": list(classes),
        "absent": [c for c, row in zip(classes, results[f"{longest:g}"]["confusion"], strict=True) if not sum(row)],
        "gain_db": gain_db,
        **results[f"{longest:g}"],
        "clip_s": longest,
        "clips_by_length": results,
        "errors": errors,
    }
    if split == "test" and log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        entry = {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"), "model": name, "path": path,
            "corpus": found.corpus, "gain_db": gain_db,
            "macro_f1": {k: round(v["macro_f1"], 4) for k, v in results.items()},
        }  # fmt: skip
        with log.open("a") as file:
            file.write(json.dumps(entry) + "\n")
    return answer
