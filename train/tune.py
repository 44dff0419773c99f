"""Smoothing chosen on validation streams: pooling, delay and median first, then hysteresis, durations and silence.

Before that the temperature is chosen, with the paper's median, by which the confidence of a segment is nearest to how
often its frames are right (least log loss, as Guo et al. 2017 do for clips). The search goes down one coordinate after
another, each over a short list, and keeps what is best so far. The aim is frame accuracy (silence excluded) plus a
twentieth of onset F1 (collar 0.5 s): accuracy alone would leave flicker that costs nothing there and much to whoever
reads the segments; with more weight on onsets, short segments are given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_runtime.probability import SMALLEST
from edge_runtime.segments import Segment, segments
from edge_runtime.smoothing import Smoothing

from .events import event_counts
from .posteriors import DENSE, Track, usual_delay
from .segmentation import FileCounts, confidences, f1, file_confusion, frame_scores, score_file
from .stream_files import Annotated

POOLS = (1, 50, 100, 150)
DELAYS = (-15, -10, -5, 0, 5, 10, 15)  # beside the usual one
MEDIANS = (1, 51, 101, 151, 200, 251, 301)
HYSTERESIS = ((0.0, 0.0), *((enter, leave) for enter in (0.4, 0.5, 0.6, 0.7, 0.8) for leave in (0.2, 0.3)))
ONSET_WEIGHT = 0.05
MINIMA_S = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
TEMPERATURES = tuple(round(float(t), 3) for t in np.geomspace(0.25, 4, 25))
SILENCES = ((None, 0.3), *((dbfs, s) for dbfs in (-60.0, -55.0, -50.0, -45.0) for s in (0.1, 0.2, 0.3, 0.5)))

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Choice:
    """The best smoothing of a source and how it was found.

    Attributes
    ----------
    smoothing : Smoothing
    temperature : float
    aim : float
    history : tuple of dict
        Every setting that was tried: ``smoothing``, ``frame_accuracy``, ``onset_f1``.
    """

    smoothing: Smoothing
    temperature: float
    aim: float
    history: tuple[dict[str, Any], ...]


def score(
    tracks: Sequence[Track], files: Sequence[Annotated], source: str, smoothing: Smoothing, classes: Sequence[str],
    *, hop_s: float, temperature: float = 1.0,
) -> list[FileCounts]:  # fmt: skip
    """Return the counts of each file with this smoothing."""
    found = _segments(tracks, source, smoothing, classes, hop_s, temperature)
    return [score_file(f.intervals, given, classes, hop_s=hop_s) for f, given in zip(files, found, strict=True)]


def _segments(
    tracks: Sequence[Track], source: str, smoothing: Smoothing, classes: Sequence[str], hop_s: float, temperature: float
) -> list[tuple[Segment, ...]]:
    return [
        segments(
            t.probabilities(source, smoothing.pool, temperature), classes, smoothing, hop_s=hop_s, dbfs=t.dbfs
        ) for t in tracks
    ]  # fmt: skip


def fit_temperature(
    tracks: Sequence[Track], files: Sequence[Annotated], source: str, smoothing: Smoothing, classes: Sequence[str],
    *, hop_s: float = 0.01,
) -> float:  # fmt: skip
    """Return the one of `TEMPERATURES` with the least log loss of the segments' confidences, frame by frame."""

    def loss(temperature: float) -> float:
        found = _segments(tracks, source, smoothing, classes, hop_s, temperature)
        pairs = zip(files, found, strict=True)
        rows = np.concatenate([confidences(file.intervals, given, classes, hop_s=hop_s) for file, given in pairs])
        sure, frames, right = np.clip(rows[:, 0], SMALLEST, 1 - SMALLEST), rows[:, 1], rows[:, 2]
        return -float((right * np.log(sure) + (frames - right) * np.log(1 - sure)).sum() / max(frames.sum(), 1))

    return min(TEMPERATURES, key=lambda t: (loss(t), abs(np.log(t))))


def tune(
    tracks: Sequence[Track],
    files: Sequence[Annotated],
    source: str,
    classes: Sequence[str],
    *,
    hop_s: float = 0.01,
    progress: Progress | None = None,
) -> Choice:
    """Return the best smoothing for answers of `source`; see the module."""
    tried: dict[str, tuple[float, dict[str, Any]]] = {}
    total = _tries(source, classes)

    def aim(smoothing: Smoothing) -> float:
        key = repr(smoothing)
        if key not in tried:
            found = _segments(tracks, source, smoothing, classes, hop_s, temperature)
            pairs = [(file.intervals, given) for file, given in zip(files, found, strict=True)]
            confusion = sum(file_confusion(*pair, classes, hop_s=hop_s) for pair in pairs)
            accuracy = float(frame_scores(np.asarray(confusion), classes)["frame_accuracy"])
            onset = float(f1(np.sum([event_counts(*pair, classes, "onset_f1") for pair in pairs], axis=0)))
            entry = {"smoothing": smoothing.to_dict(), "frame_accuracy": accuracy, "onset_f1": onset}
            tried[key] = (accuracy + ONSET_WEIGHT * onset, entry)
            if progress:
                progress(f"tuning {source}", min(len(tried), total - 1), total)
        return tried[key][0]

    def best(candidates: Iterable[Smoothing]) -> Smoothing:
        return max(candidates, key=aim)  # the first of equals: the lists begin with the simplest

    usual = Smoothing(delay=usual_delay(source, 1, hop_s), median=200)
    temperature = fit_temperature(tracks, files, source, usual, classes, hop_s=hop_s)
    chosen = []
    for pool in POOLS if source == DENSE else (1,):
        delay = usual_delay(source, pool, hop_s)
        s = best(Smoothing(pool=pool, delay=max(0, delay + d)) for d in DELAYS)
        chosen.append(best(replace(s, median=m) for m in MEDIANS))
    s = best(chosen)
    s = best(replace(s, enter=enter, leave=leave) for enter, leave in HYSTERESIS)
    s = best(replace(s, silence_dbfs=dbfs, minimum_silence_s=shortest) for dbfs, shortest in SILENCES)
    for name in classes:
        s = best(replace(s, minimum_s={**s.minimum_s, name: seconds}) for seconds in MINIMA_S)
    s = best(replace(s, median=m) for m in MEDIANS)  # the others may have made a long one needless
    if progress:
        progress(f"tuning {source}", total, total)
    return Choice(s, temperature, aim(s), tuple(entry for _, entry in tried.values()))


def _tries(source: str, classes: Sequence[str]) -> int:
    first = (len(POOLS) if source == DENSE else 1) * (len(DELAYS) + len(MEDIANS) - 1)
    return first + len(HYSTERESIS) + len(SILENCES) + len(classes) * len(MINIMA_S) + len(MEDIANS)
