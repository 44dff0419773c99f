"""Scores of segmentations against annotations: frames, 1 s segments, events and boundaries, with intervals over files.

Conventions:

* an annotation and a segmentation are intervals (start_s, end_s, label) in order; ``silence`` is one of the labels;
* *frame accuracy* is over the frames whose middle lies in an annotated interval that is not silence, as in the SwishNet
  paper; silence or ``unknown`` found there is wrong. Speech / non-speech takes all classes but speech for one;
* *segment F1* (1 s), *onset F1* and *onset-offset F1* (collar 0.5 s, or half of the event for its offset where that
  is longer) take the classes as events and silence as none, all classes together (micro average); see `events`;
* *calibration error*: frames by the confidence of the segment that they lie in, in ten bins, silence left out on both
  sides: the mean distance between confidence and share of right frames;
* *boundary F* (mir_eval, hit within 0.5 s) is the mean over files of the boundaries between any two intervals, without
  the file's own beginning and end; files with a single interval have none.

Counts are kept by file, so that a bootstrap over files costs no second evaluation.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError
from edge_runtime.decisions import UNKNOWN
from edge_runtime.metrics import interval
from edge_runtime.segments import SILENCE, Segment, frame_labels

from .events import COLLAR_S, EVENT_SCORES, event_counts

BINS = 10  # of confidence

Int = NDArray[np.int64]
Interval = tuple[float, float, str]


@dataclass(frozen=True)
class FileCounts:
    """What one file adds to the scores.

    Attributes
    ----------
    confusion : np.ndarray, int64, shape (classes + 1, classes + 1)
        Frames by annotated (row) and found (column) label; silence, and frames without a label, are last.
    events : np.ndarray, float64, shape (3, 3)
        Correct, annotated and found for `EVENT_SCORES`.
    boundary_f : float
        NaN where the annotation has a single interval.
    confidence : np.ndarray, float64, shape (3, BINS)
        Frames, sum of their segments' confidences, and right frames, by confidence.
    """

    confusion: Int
    events: NDArray[np.float64]
    boundary_f: float
    confidence: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, BINS)))


def reference_labels(reference: Sequence[Interval], classes: Sequence[str], frames: int, *, hop_s: float = 0.01) -> Int:
    """Return the class of each frame, shape (frames,); -1 for silence and where nothing is annotated."""
    out = np.full(frames, -1)
    middles = (np.arange(frames) + 0.5) * hop_s
    for start, end, label in reference:
        if label != SILENCE:
            out[np.searchsorted(middles, start) : np.searchsorted(middles, end)] = classes.index(label)
    return out


def frame_confusion(truth: Int, found: Int, classes: int) -> Int:
    """Return frames by annotated and found label, (classes + 1, classes + 1); labels below 0 are the last."""
    a, b = (np.where(x < 0, classes, x) for x in (truth, found))
    side = classes + 1
    return np.bincount(a * side + b, minlength=side * side).reshape(side, side)


def frame_scores(confusion: NDArray[Any], classes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return frame accuracy, also of speech against the rest, from confusions (..., classes + 1, classes + 1)."""
    n = len(classes)
    sound = confusion[..., :n, :].astype(np.float64)
    whole = np.maximum(sound.sum(axis=(-2, -1)), 1)
    scores = {"frame_accuracy": np.trace(sound[..., :n], axis1=-2, axis2=-1) / whole}
    if "speech" in classes:
        i = list(classes).index("speech")
        speech = sound[..., i, i]
        # found as silence, a non-speech frame is still no speech
        missed, false = sound[..., i, :].sum(axis=-1) - speech, sound[..., :, i].sum(axis=-1) - speech
        scores["speech_nonspeech"] = 1 - (missed + false) / whole
    return scores


def score_file(
    reference: Sequence[Interval], found: Sequence[Segment], classes: Sequence[str], *, hop_s: float = 0.01
) -> FileCounts:
    """Compare a segmentation with the annotation of the same recording.

    Raises
    ------
    ConfigError
        If either is empty.
    """
    confusion = file_confusion(reference, found, classes, hop_s=hop_s)
    events = np.array([event_counts(reference, found, classes, name) for name in EVENT_SCORES])
    confidence = confidence_counts(confidences(reference, found, classes, hop_s=hop_s))
    return FileCounts(confusion, events, _boundary_f(reference, found), confidence)


def confidences(
    reference: Sequence[Interval], found: Sequence[Segment], classes: Sequence[str], *, hop_s: float = 0.01
) -> NDArray[np.float64]:
    """Return confidence, frames and right frames of each segment, (segments, 3), where both sides name a class."""
    truth = reference_labels(reference, classes, round(found[-1].end_s / hop_s), hop_s=hop_s)
    rows = []
    for s in found:
        if s.label in classes:
            inside = truth[round(s.start_s / hop_s) : round(s.end_s / hop_s)]
            right = np.count_nonzero(inside == list(classes).index(s.label))
            rows.append((s.confidence, np.count_nonzero(inside >= 0), right))
    return np.array(rows, np.float64).reshape(-1, 3)


def confidence_counts(of_segments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return frames, summed confidence and right frames by confidence, (3, `BINS`), from `confidences`."""
    sure, frames, right = of_segments.T
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    return np.stack([np.bincount(place, x, BINS) for x in (frames, frames * sure, right)])


def calibration_error(counts: NDArray[np.float64]) -> float:
    """Return the mean distance of confidence and accuracy, by frames, from `confidence_counts` (3, `BINS`)."""
    frames, sure, right = counts
    return float(np.abs(sure - right).sum() / max(frames.sum(), 1))


def file_confusion(
    reference: Sequence[Interval], found: Sequence[Segment], classes: Sequence[str], *, hop_s: float = 0.01
) -> Int:
    """Return a file's frames by annotated and found label, (classes + 1, classes + 1)."""
    if not reference or not found:
        raise ConfigError("nothing to compare: the annotation or the segmentation is empty")
    frames = round(found[-1].end_s / hop_s)
    labels = np.minimum(frame_labels(found, [*classes, SILENCE, UNKNOWN], frames, hop_s=hop_s), len(classes))
    truth = reference_labels(reference, classes, frames, hop_s=hop_s)
    # beyond what is annotated there is no truth to be compared with
    annotated = (np.arange(frames) + 0.5) * hop_s < reference[-1][1]
    return frame_confusion(truth[annotated], labels[annotated], len(classes))


def _boundary_f(reference: Sequence[Interval], found: Sequence[Segment]) -> float:
    import mir_eval

    if len(reference) < 2:
        return float("nan")
    end = reference[-1][1]
    given = np.array([(s.start_s, min(s.end_s, end)) for s in found if s.start_s < end])
    given[-1, 1] = end
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a segmentation of one piece has no boundary but its ends
        wanted = np.array([r[:2] for r in reference])
        return float(mir_eval.segment.detection(wanted, given, window=COLLAR_S, trim=True)[2])


def f1(events: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 2 correct / (annotated + found) from counts (..., 3)."""
    whole = events[..., 1] + events[..., 2]
    return np.divide(2 * events[..., 0], whole, out=np.zeros(whole.shape), where=whole > 0)


def summarise(
    files: Sequence[FileCounts], classes: Sequence[str], *, samples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Return the scores of a set of files, each with its 95 % interval from a bootstrap over files.

    Returns
    -------
    dict
        ``files``, ``frames`` (annotated and not silent), the scores by name, ``intervals`` by score (two numbers each;
        absent for a single file), ``confusion`` (rows and columns: the classes, then silence), ``confidence``.
    """
    if not files:
        raise ConfigError("there is no file to score")
    confusion = np.stack([f.confusion for f in files]).astype(np.float64)
    events = np.stack([f.events for f in files])
    boundary = np.array([f.boundary_f for f in files])
    confidence = np.sum([f.confidence for f in files], axis=0)

    def scores(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """`weights`: (n, files), how often each file was drawn."""
        found = frame_scores(np.tensordot(weights, confusion, 1), classes)
        found |= dict(zip(EVENT_SCORES, f1(np.tensordot(weights, events, 1)).T, strict=True))
        has = np.isfinite(boundary)
        if has.any():
            share = weights[:, has]
            found["boundary_f"] = share @ boundary[has] / np.maximum(share.sum(axis=1), 1)
        return found

    point = scores(np.ones((1, len(files))))
    drawn = np.random.default_rng(seed).multinomial(len(files), np.full(len(files), 1 / len(files)), size=samples)
    spread = scores(drawn.astype(np.float64)) if len(files) > 1 else {}
    return {
        "files": len(files),
        "frames": int(confusion[:, : len(classes)].sum()),
        **{name: float(value[0]) for name, value in point.items()},
        "calibration_error": calibration_error(confidence),
        "confidence": dict(zip(("frames", "summed", "right"), confidence.tolist(), strict=True)),
        "intervals": {name: interval(values) for name, values in spread.items()},
        "confusion": confusion.sum(axis=0).astype(np.int64).tolist(),
    }
