"""Examples that lie as rows in a pool, and their probabilities averaged over clips for evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime import CorpusError

from .clips import ClipSet
from .features import Pool

Float32 = NDArray[np.float32]


def examples(pool: Pool, classes: Sequence[str], *, most: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of a pool's rows and their labels, (n,) each; at most `most` of them, spread evenly."""
    rows = np.concatenate([np.arange(n) + start for start, n in zip(pool.starts, pool.lengths, strict=True)])
    labels = np.array([list(classes).index(pool.recordings[i].label) for i in pool.recording])
    labels = np.repeat(labels, pool.lengths)
    if most and len(rows) > most:
        chosen = np.linspace(0, len(rows) - 1, most).astype(np.int64)
        rows, labels = rows[chosen], labels[chosen]
    return rows, labels


def clips_of(
    pool: Pool, probabilities: Float32, classes: Sequence[str], seconds: float, *, each: int, window_s: float,
    step_s: float,
) -> tuple[ClipSet, Float32]:  # fmt: skip
    """Return a split's clips, overlapping by half, and their probabilities: the mean over the examples inside.

    Parameters
    ----------
    pool : Pool
        With rows every `step_s`, `each` at one instant.
    probabilities : np.ndarray, float32, shape (rows, classes)
    seconds : float
        Length of a clip, at least `window_s`; a shorter recording is one clip.

    Returns
    -------
    (ClipSet, np.ndarray of float32, shape (clips, classes))
        The clips hold no inputs: x has no columns.
    """
    inside = max(1, int((seconds - window_s) / step_s + 1e-6) + 1)
    step = max(1, round(seconds / 2 / step_s))
    found, labels, groups, recordings = [], [], [], []
    for i in range(len(pool.starts)):
        recording = pool.recordings[int(pool.recording[i])]
        rows = probabilities[pool.starts[i] : pool.starts[i] + pool.lengths[i]]
        track = rows.reshape(-1, each, rows.shape[1]).mean(axis=1)
        if not len(track):
            continue
        for start in range(0, max(1, len(track) - inside + 1), step):
            found.append(track[start : start + inside].mean(axis=0))
            labels.append(list(classes).index(recording.label))
            groups.append(recording.group)
            recordings.append(int(pool.recording[i]))
    if not found:
        raise CorpusError("no recording has an example left after silence removal: nothing to evaluate")
    x = np.zeros((len(found), 0), np.float32)
    return ClipSet(x, np.array(labels), np.array(groups), np.array(recordings)), np.stack(found).astype(np.float32)
