"""Clips cut from the frames of a pool by a fixed grid, for evaluation, and how often training draws each piece.

A clip of 0.5, 1 or 2 s has 48, 98 or 198 frames (25 ms frames, 10 ms hop).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime import CorpusError, FrontEndConfig

from .features import Pool

Float32 = NDArray[np.float32]


def clip_frames(config: FrontEndConfig, clip_s: float) -> int:
    """Return the number of whole frames in a clip: 48, 98, 198 for 0.5, 1, 2 s."""
    return config.frames(round(clip_s * config.sample_rate))


def source_weights(pool: Pool, classes: Sequence[str], *, power: float = 0.5) -> NDArray[np.float64]:
    """Return how often each piece is drawn, shape (pieces,), summing to 1.

    Every class weighs the same. Within a class a collection weighs its frames to the `power` (0.5: a collection
    four times as large is drawn twice as often), within a collection a piece weighs its frames.

    Raises
    ------
    CorpusError
        If a class has no frame.
    """
    labels = np.array([classes.index(pool.recordings[i].label) for i in pool.recording])
    sources = np.array([pool.recordings[i].source for i in pool.recording])
    weights = np.zeros(len(labels))
    for label, name in enumerate(classes):
        of_class = labels == label
        if not pool.lengths[of_class].sum():
            raise CorpusError(f"class {name!r} has no audio left after silence removal")
        for source in np.unique(sources[of_class]):
            chosen = of_class & (sources == source)
            frames = pool.lengths[chosen].astype(float)
            if frames.sum():
                weights[chosen] = frames / frames.sum() * frames.sum() ** power
        weights[of_class] /= weights[of_class].sum() * len(classes)
    return weights


@dataclass(frozen=True)
class ClipSet:
    """The clips of a split for evaluation.

    Attributes
    ----------
    x : np.ndarray, float32, shape (clips, frames, features)
        Normalised.
    labels : np.ndarray, int64, shape (clips,)
    groups : np.ndarray of str, shape (clips,)
        For the bootstrap.
    recording : np.ndarray, int64, shape (clips,)
        Number of the recording.
    """

    x: Float32
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    recording: NDArray[np.int64]


def evaluation_clips(
    pool: Pool, config: FrontEndConfig, classes: Sequence[str], clip_s: float, *, hop: float = 0.5
) -> ClipSet:
    """Return a split's clips, overlapping by half as in the paper; one padded clip of a shorter recording.

    Parameters
    ----------
    pool : Pool
        Features without normalisation; every copy it holds is cut.
    clip_s : float
    hop : float
        Step between clips, as a share of the clip.
    """
    frames = clip_frames(config, clip_s)
    step = max(1, round(frames * hop))
    mean = np.asarray(config.mean, np.float32)
    scale = np.asarray(config.scale, np.float32)
    clips, labels, groups, recordings = [], [], [], []
    for i in range(len(pool.starts)):
        recording = pool.recordings[int(pool.recording[i])]
        rows = (np.asarray(pool.piece(i), np.float32) - mean) * scale
        if not len(rows):
            continue
        if len(rows) < frames:
            rows = np.concatenate([np.zeros((frames - len(rows), rows.shape[1]), np.float32), rows])
        for start in range(0, len(rows) - frames + 1, step):
            clips.append(rows[start : start + frames])
            labels.append(classes.index(recording.label))
            groups.append(recording.group)
            recordings.append(int(pool.recording[i]))
    if not clips:
        raise CorpusError("no recording has a frame left after silence removal: nothing to evaluate")
    return ClipSet(np.stack(clips), np.array(labels), np.array(groups), np.array(recordings))
