"""Scores of a bundle or a Keras model on a split of a corpus, at every clip length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, FrontEndConfig, metrics, probability
from edge_runtime.bundle import read, resolve
from edge_runtime.classify import predict as predict_bundle
from edge_runtime.files import append_json

from . import corpus, features, reference, report, systems
from .clips import ClipSet, evaluation_clips

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def open_model(path: str, backend: str = "auto") -> tuple[FrontEndConfig, tuple[str, ...], str, Predict]:
    """Return (front end, classes, name, prediction) of a bundle or of a training folder's ``model.keras``.

    Raises
    ------
    BundleError, ConfigError
        If it is neither.
    """
    if system := systems.find(path):
        raise ConfigError(f"{path}: {system.name} looks at other inputs than frames; this is for networks on frames")
    if path.endswith(".keras") or (Path(path) / "model.keras").is_file():
        from . import models
        from .experiment import read_folder
        from .fit import predict

        file = Path(path) if path.endswith(".keras") else Path(path) / "model.keras"
        experiment, _ = read_folder(file.parent)
        model = models.load(file)
        return experiment.front_end, experiment.classes, experiment.model, lambda x: predict(model, x)

    built = read(resolve(path))
    apart = backend == "tflite-runtime"  # it does not work in a process that has loaded TensorFlow, for a Keras model
    return built.front_end, built.classes, built.name, lambda x: predict_bundle(
        built, x, backend=backend, sandbox=apart
    )


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
    sources : tuple of str
        Collections of the recordings.
    """

    name: str
    classes: tuple[str, ...]
    corpus: str
    files: tuple[str, ...]
    clips: dict[float, tuple[ClipSet, NDArray[np.float32]]]
    sources: tuple[str, ...] = ()

    def ordered(self, classes: Sequence[str]) -> Answers:
        """Return the same with the classes in another order.

        Raises
        ------
        ConfigError
            If these are other classes.
        """
        if set(classes) != set(self.classes):
            raise ConfigError(
                f"{self.name} knows {', '.join(self.classes)}, not {', '.join(classes)}: compare models of the same "
                "classes"
            )
        columns = [self.classes.index(name) for name in classes]
        place = np.argsort(columns)
        found = {s: (replace(c, labels=place[c.labels]), p[:, columns]) for s, (c, p) in self.clips.items()}
        return replace(self, classes=tuple(classes), clips=found)


def together(found: Sequence[Answers]) -> Answers:
    """Return the answers of several seeds' networks as those of one that was asked about every clip so many times.

    A bootstrap over recordings then draws a recording with all of its clips, for all seeds.
    """
    clips = {}
    for seconds in found[0].clips:
        sets = [one.ordered(found[0].classes).clips[seconds] for one in found]
        joined = {f.name: np.concatenate([getattr(c, f.name) for c, _ in sets]) for f in fields(ClipSet)}
        clips[seconds] = (ClipSet(**joined), np.concatenate([p for _, p in sets]))
    return replace(found[0], clips=clips)


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
    """Return a model's answers on the clips of a split; parameters as `evaluate`.

    ``yamnet`` is the reference that `edge_bench.train.reference` describes.
    """
    if system := systems.find(path):
        data = corpus.load(corpus_root, classes=system.classes, leave_out=system.leave_out, complete=False)
        pool = features.features(data, split, system.inputs, gain_db=gain_db, cache=cache, progress=progress)
        files, sources = (tuple(getattr(r, key) for r in pool.recordings) for key in ("name", "source"))
        found = system.answers(pool, clip_s)
        return Answers(system.name, system.classes, data.revision(), files, found, sources)
    source: FrontEndConfig | features.Extractor
    if path == reference.NAME:
        config, classes, name = reference.FRAMES, reference.CLASSES, path
        source, predict = reference.Spectra(), reference.predictor(classes)
    else:
        config, classes, name, predict = open_model(path, backend)
        source = FrontEndConfig.from_dict({**config.to_dict(), "mean": [], "scale": []})
    data = corpus.load(corpus_root, classes=classes, complete=False)
    pool = features.features(data, split, source, gain_db=gain_db, cache=cache, progress=progress)
    found = {}
    for seconds in clip_s:
        clips = evaluation_clips(pool, config, classes, seconds)
        found[seconds] = (clips, predict(clips.x))
    files, sources = (tuple(getattr(r, key) for r in pool.recordings) for key in ("name", "source"))
    return Answers(name, classes, data.revision(), files, found, sources)


def score(found: Answers, *, path: str, split: str, gain_db: float = 0.0) -> dict[str, Any]:
    """Return ``edge-bench/evaluate/1``: scores by clip length with intervals, errors by recording and by collection.

    The scores of the longest clips also stand at the top.
    """
    results, errors, sources = {}, {}, {}
    for seconds, (clips, probabilities) in found.clips.items():
        key = f"{seconds:g}"
        results[key] = report.scores(clips, probabilities, found.classes)
        errors[key] = report.errors_by_recording(clips, probabilities, found.files, found.classes)[:40]
        if found.sources:
            sources[key] = report.errors_by_source(clips, probabilities, found.sources, found.classes)
    longest = max(found.clips)
    return {
        "schema": "edge-bench/evaluate/1",
        "model": found.name,
        "path": path,
        "split": split,
        "corpus": found.corpus,
        "classes": list(found.classes),
        "absent": [
            name for name, row in zip(found.classes, results[f"{longest:g}"]["confusion"], strict=True) if not sum(row)
        ],
        "gain_db": gain_db,
        **results[f"{longest:g}"],
        "clip_s": longest,
        "clips_by_length": results,
        "errors": errors,
        "errors_by_source": sources,
    }


def differences(first: Answers, other: Answers) -> dict[str, dict[str, Any]]:
    """Return how much more `other` scores than `first` on the same clips, by clip length and score.

    Each score has ``delta, interval, below_zero`` (see `edge_runtime.metrics.Difference`): ``overall, macro_f1,
    macro_auc`` and ``recall NAME`` of each class.

    Raises
    ------
    ConfigError
        If the two have other classes or were not asked about the same clips.
    """
    other = other.ordered(first.classes)
    result = {}
    for seconds, (clips, p) in first.clips.items():
        theirs, q = other.clips.get(seconds, (clips, p[:0]))
        if len(p) != len(q) or not np.array_equal(clips.recording, theirs.recording):
            raise ConfigError(f"{first.name} and {other.name} cut other clips of {seconds:g} s: they cannot be paired")
        found = metrics.paired_differences(
            clips.labels, p.argmax(axis=1), q.argmax(axis=1), clips.groups, first.classes
        )
        areas = [np.mean(list(report.drawn_areas(clips, x).values()), axis=0) for x in (p, q)]
        whole = [probability.evaluate(clips.labels, x, first.classes).macro_auc for x in (p, q)]
        if whole[0] is not None and whole[1] is not None:
            found["macro_auc"] = metrics.difference(whole[1] - whole[0], areas[1] - areas[0])
        result[f"{seconds:g}"] = {name: asdict(value) for name, value in found.items()}
    return result


def write_log(result: dict[str, Any], log: Path) -> None:
    """Append a look at the test split to a JSON-lines file.

    Raises
    ------
    EdgeBenchError
        If it cannot be written: a look that leaves no trace must not be.
    """
    entry = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"), "model": result["model"],
        "path": result["path"], "corpus": result["corpus"], "gain_db": result["gain_db"],
        "macro_f1": {k: round(v["macro_f1"], 4) for k, v in result["clips_by_length"].items()},
    }  # fmt: skip
    append_json(log, entry)


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
    """Return ``edge-bench/evaluate/1``, see `score`.

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
    result = score(found, path=path, split=split, gain_db=gain_db)
    if split == "test" and log is not None:
        write_log(result, log)
    return result
