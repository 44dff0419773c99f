"""What a training sees: endless random batches of clips cut from the frames of a pool, or of a pool's rows.

Before its first frame a network sees either the frames that really precede a clip or mean frames (zeros), half of the
time each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.fft import idct

from edge_runtime import ConfigError, FrontEndConfig

from .clips import clip_frames, source_weights
from .features import Pool
from .fit_config import Masking
from .models.swishnet import padded_frames

Float32 = NDArray[np.float32]

_MASKING = Masking()


@dataclass(frozen=True)
class TeacherTracks:
    """A teacher's logits along every piece of a pool.

    Attributes
    ----------
    pool : Pool
        Rows of logits, (classes,) each, for the same pieces as the features.
    window, hop : int
        Frames that a row looks at, and from one row to the next.
    """

    pool: Pool
    window: int
    hop: int

    def logits(
        self, piece: NDArray[np.int64], first: NDArray[np.int64], frames: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the mean logits of each clip, shape (clips, classes).

        A clip of 0.5 or 1 s takes the row whose window's centre is nearest to its own; one of 2 s the mean of the
        rows nearest to its first, second and third quarter.
        """
        total = np.zeros((len(piece), self.pool.data.shape[1]))
        points = (0.25, 0.5, 0.75)
        for point in points:
            where = np.where(frames > 100, point, 0.5)
            centre = first + where * frames
            row = np.rint((centre - self.window / 2) / self.hop).astype(np.int64)
            row = np.clip(row, 0, np.maximum(self.pool.lengths[piece] - 1, 0))
            total += self.pool.data[np.minimum(self.pool.starts[piece] + row, len(self.pool.data) - 1)]
        return total / len(points)


class _Endless(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches that differ from epoch to epoch."""

    def __init__(self, steps: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._steps, self.epoch = steps, 0

    def __len__(self) -> int:
        return self._steps

    def on_epoch_end(self) -> None:
        """Go on to fresh batches."""
        self.epoch += 1


class ClipBatches(_Endless):
    """Endless random batches of clips of mixed lengths; the same seed gives the same batches.

    Item i is ``(clips (batch, frames, features), one-hot labels (batch, classes))``; with a teacher the labels are
    followed by its softened probabilities, (batch, 2 * classes). Each batch has one padded length: 204 frames (2 s)
    or 108 (1 s and 0.5 s); with ``pads=False``, for networks that do not pad their clips, 198, 98 or 48.
    """

    def __init__(
        self,
        pool: Pool,
        config: FrontEndConfig,
        classes: Sequence[str],
        *,
        clip_s: Sequence[float] = (2.0, 1.0, 0.5),
        batch: int = 256,
        steps: int = 200,
        seed: int = 0,
        masking: Masking = _MASKING,
        mixup: float = 0.0,
        smoothing: float = 0.0,
        source_power: float = 0.5,
        teacher: TeacherTracks | None = None,
        temperature: float = 1.0,
        pads: bool = True,
    ) -> None:
        super().__init__(steps)
        if not config.mean:
            raise ConfigError("training needs a front end with normalisation; see features.normalisation")
        if config.kind == "power" and (masking.level_db or masking.tone_db):
            raise ConfigError("level and tone are changed on decibels only: set both to 0 for a power spectrum")
        self._pool, self._config, self._classes = pool, config, tuple(classes)
        self._labels = np.array([self._classes.index(pool.recordings[i].label) for i in pool.recording])
        self._cumulative = np.cumsum(source_weights(pool, self._classes, power=source_power))
        self._lengths = [clip_frames(config, s) for s in clip_s]
        self._batch, self._seed = batch, seed
        self._masking, self._mixup, self._smoothing = masking, mixup, smoothing
        self._mean = np.asarray(config.mean, np.float32)
        self._scale = np.asarray(config.scale, np.float32)
        self._teacher, self._temperature = teacher, temperature
        self._padded: Callable[[int], int] = padded_frames if pads else int

    def __getitem__(self, index: int) -> tuple[Float32, Float32]:
        rng = np.random.default_rng([self._seed, self.epoch, index])
        # in turn and not at random: Keras learns from the first two batches that the time axis varies
        longest = self._lengths[index % len(self._lengths)]
        size = self._padded(longest)
        alike = np.array([n for n in self._lengths if self._padded(n) == size])
        # clips twice as short come in batches twice as large, so the work of a step stays even
        batch = self._batch * max(1, round(self._padded(max(self._lengths)) / size))
        frames = alike[rng.integers(len(alike), size=batch)]

        piece = np.searchsorted(self._cumulative, rng.random(batch) * self._cumulative[-1])
        piece = np.minimum(piece, len(self._cumulative) - 1)
        length = self._pool.lengths[piece]
        room = np.maximum(length - frames, 0)
        first = (rng.random(batch) * (room + 1)).astype(np.int64)  # first frame of the clip in its piece
        last = first + frames
        context = np.where(rng.random(batch) < 0.5, np.minimum(first, size - frames), 0)

        at = last[:, None] - size + np.arange(size)  # frame numbers in the piece, before its start: padding
        # a piece shorter than the clip is repeated, as a short sound is in a loop
        inside = at >= (first - context)[:, None]
        rows = self._pool.starts[piece][:, None] + np.where(inside, at, 0) % np.maximum(length, 1)[:, None]
        inside &= (length > 0)[:, None]
        x = np.take(np.asarray(self._pool.data), rows, axis=0).astype(np.float32, copy=False)
        x -= self._mean
        x *= self._scale
        if self._masking.level_db or self._masking.tone_db:
            x += self._level_and_tone(rng, batch)
        for _ in range(self._masking.spans):
            width = rng.integers(0, self._masking.longest + 1, batch)
            start = size - (rng.random(batch) * frames).astype(np.int64)
            inside &= ~((np.arange(size) >= start[:, None]) & (np.arange(size) < (start + width)[:, None]))
        x *= inside[:, :, None]

        y = np.eye(len(self._classes), dtype=np.float32)[self._labels[piece]]
        y = y * (1 - self._smoothing) + self._smoothing / len(self._classes)
        if self._teacher is not None:
            soft = self._teacher.logits(piece, first, frames) / self._temperature
            soft = np.exp(soft - soft.max(axis=1, keepdims=True))
            y = np.concatenate([y, soft / soft.sum(axis=1, keepdims=True)], axis=1)
        if self._mixup:
            share = rng.beta(self._mixup, self._mixup, (batch, 1)).astype(np.float32)
            share = np.maximum(share, 1 - share)
            other = rng.permutation(batch)
            x = x * share[:, :, None] + x[other] * (1 - share[:, :, None])
            y = y * share + y[other] * (1 - share)
        return x, y.astype(np.float32)

    def _level_and_tone(self, rng: np.random.Generator, batch: int) -> Float32:
        """Return what a random gain and a random smooth response add to each clip's frames, (batch, 1, features)."""
        bands = self._config.mel_bands
        k = np.arange(1, min(20, bands))
        cepstra = np.zeros((batch, bands))
        cepstra[:, 0] = rng.uniform(-1, 1, batch) * self._masking.level_db * np.sqrt(bands)
        tone = rng.standard_normal((batch, len(k))) if self._masking.tone_db else np.zeros((batch, len(k)))
        cepstra[:, 1 : len(k) + 1] = tone * self._masking.tone_db * np.sqrt(bands / 2 / k)
        if self._config.kind == "log_mel":
            change = idct(cepstra, norm="ortho", axis=1)
        else:
            change = cepstra[:, : len(self._scale)]
        return (change[:, None, :] * self._scale).astype(np.float32)


class RowBatches(_Endless):
    """Endless random batches of a pool's rows; the same seed gives the same batches.

    Item i is ``(x (batch, *shape), one-hot labels (batch, classes))``. Every class is drawn as often as any other, and
    within a class its collections by `edge_bench.train.clips.source_weights`.
    """

    def __init__(
        self, pool: Pool, shape: Sequence[int], classes: Sequence[str], *, batch: int, steps: int, seed: int = 0,
        smoothing: float = 0.0, source_power: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__(steps)
        self._pool, self._shape, self._classes = pool, tuple(shape), len(classes)
        self._labels = np.array([list(classes).index(pool.recordings[i].label) for i in pool.recording])
        self._cumulative = np.cumsum(source_weights(pool, classes, power=source_power))
        self._batch, self._seed, self._smoothing = batch, seed, smoothing

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
