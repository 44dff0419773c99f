"""Examples that lie as rows in a pool: drawn at random for training, averaged over clips for evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime import CorpusError

from .clips import ClipSet, source_weights
from .features import Pool

Float32 = NDArray[np.float32]


class RowBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Endless random batches of a pool's rows; the same seed gives the same batches.

    Item i is ``(x (batch, *shape), one-hot labels (batch, classes))``. Every class is drawn as often as any other, and
    within a class its collections by `edge_bench.train.clips.source_weights`.
    """

    def __init__(
        self, pool: Pool, shape: Sequence[int], classes: Sequence[str], *, batch: int, steps: int, seed: int = 0,
        smoothing: float = 0.0, source_power: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__(workers=1, use_multiprocessing=False)
        self._pool, self._shape, self._classes = pool, tuple(shape), len(classes)
        self._labels = np.array([list(classes).index(pool.recordings[i].label) for i in pool.recording])
        self._cumulative = np.cumsum(source_weights(pool, classes, power=source_power))
        self._batch, self._steps, self._seed, self._smoothing = batch, steps, seed, smoothing
        self.epoch = 0

    def __len__(self) -> int:
        return self._steps

    def on_epoch_end(self) -> None:
        """Go on to fresh batches."""
        self.epoch += 1

    def __getitem__(self, index: int) -> tuple[Float32, Float32]:
        rng = np.random.default_rng([self._seed, self.epoch, index])
        piece = np.searchsorted(self._cumulative, rng.random(self._batch) * self._cumulative[-1])
        piece = np.minimum(piece, len(self._cumulative) - 1)
        # in order, because the rows are on a disk
        row = np.sort(self._pool.starts[piece] + (rng.random(self._batch) * self._pool.lengths[piece]).astype(np.int64))
        piece = np.searchsorted(self._pool.starts, row, side="right") - 1
        x = np.asarray(self._pool.data[row], np.float32).reshape(self._batch, *self._shape)
        y = np.eye(self._classes, dtype=np.float32)[self._labels[piece]]
        return x, y * (1 - self._smoothing) + np.float32(self._smoothing / self._classes)


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
