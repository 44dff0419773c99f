"""Segments out of posteriors every frame, in batch and from a stream, equal to the bit.

`edge_runtime.smoothing` says in which steps. Segments are contiguous and cover all frames: frame i stands for the time
from ``i * hop_s`` to ``(i + 1) * hop_s``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import median
from .errors import ConfigError
from .smoothing import Smoothing, SmoothLevels, hysteresis, in_frames

SILENCE = "silence"  #: label of segments without sound

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Segment:
    """A stretch of one class.

    Attributes
    ----------
    start_s, end_s : float
        Seconds from the recording's start.
    label : str
        A class, or ``silence``.
    confidence : float
        Mean smoothed probability of the class over the segment; 1 for silence, which is decided by level.
    """

    start_s: float
    end_s: float
    label: str
    confidence: float


def segments(
    probabilities: ArrayLike,
    classes: Sequence[str],
    smoothing: Smoothing,
    *,
    hop_s: float = 0.01,
    dbfs: ArrayLike | None = None,
) -> tuple[Segment, ...]:
    """Return the segments of a whole recording; see `Smoother`.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.repeat([[0.9, 0.1], [0.2, 0.8]], 300, axis=0)
    >>> for s in segments(p, ("speech", "music"), Smoothing(median=101)):
    ...     print(s.start_s, s.end_s, s.label, round(s.confidence, 2))
    0.0 3.0 speech 0.9
    3.0 6.0 music 0.8
    """
    smoother = Smoother(classes, smoothing, hop_s=hop_s)
    return smoother.push(probabilities, dbfs) + smoother.finish()


def frame_labels(found: Sequence[Segment], labels: Sequence[str], frames: int, *, hop_s: float = 0.01) -> Int:
    """Return the number of each frame's label in `labels`, shape (frames,); -1 where no segment is."""
    out = np.full(frames, -1)
    for s in found:
        out[round(s.start_s / hop_s) : round(s.end_s / hop_s)] = labels.index(s.label)
    return out


class _SilentRuns:
    """Step 4: keeps of the silent frames those in runs of at least `shortest` frames."""

    def __init__(self, shortest: int) -> None:
        self._shortest = max(shortest, 1)
        self._open = 0  # length of the silent run that the stream ends with
        self._held = 0  # frames of it that are not decided yet

    def push(self, silent: Bool, *, last: bool = False) -> Bool:
        """Take a frame's silence each and return what is decided, for fewer or more frames than were taken."""
        x = np.concatenate([np.ones(self._held, bool), silent])
        if not len(x):
            return x
        if not x.any():
            self._open = self._held = 0
            return x
        edges = np.flatnonzero(np.diff(np.concatenate([[False], x, [False]])))
        starts, stops = edges[::2], edges[1::2]
        lengths = stops - starts
        if x[0]:
            lengths[0] += self._open - self._held
        self._open = int(lengths[-1]) if x[-1] and not last else 0
        self._held = int(stops[-1] - starts[-1]) if 0 < self._open < self._shortest else 0
        long = lengths >= self._shortest
        steps = np.zeros(len(x) + 1, np.int8)
        steps[starts[long]] = 1
        steps[stops[long]] = -1
        return np.cumsum(steps[: len(x) - self._held], dtype=np.int8).astype(bool)


@dataclass(frozen=True)
class _Run:
    """Frames in a row with one label (a class, or -1 for silence) and what their segment may need."""

    label: int
    frames: int
    sums: Int  # smoothed levels, by class
    share: Int  # frames that each class has in it

    def __add__(self, other: _Run) -> _Run:
        return _Run(self.label, self.frames + other.frames, self.sums + other.sums, self.share + other.share)


class Smoother:
    """The segments of a stream, bit-equal for any chunking.

    Parameters
    ----------
    classes : sequence of str
        In the order of the probabilities.
    smoothing : Smoothing
    hop_s : float
        Seconds from one frame to the next.

    Attributes
    ----------
    label : str or None
        Label of the newest frame that is decided, for a live display; minimum durations do not apply to it.
    sure : float
        Smoothed probability of that label; 1 for silence.
    frames : int
        Frames decided so far.

    Examples
    --------
    >>> import numpy as np
    >>> smoother = Smoother(("speech", "music"), Smoothing(median=1, minimum_s={"music": 0.5}))
    >>> smoother.push(np.repeat([[0.9, 0.1]], 100, axis=0))
    ()
    >>> smoother.push(np.repeat([[0.2, 0.8]], 100, axis=0))
    (Segment(start_s=0.0, end_s=1.0, label='speech', confidence=0.9),)
    >>> smoother.finish()
    (Segment(start_s=1.0, end_s=2.0, label='music', confidence=0.8),)
    """

    def __init__(self, classes: Sequence[str], smoothing: Smoothing, *, hop_s: float = 0.01) -> None:
        if not classes or len(set(classes)) != len(classes) or SILENCE in classes:
            raise ConfigError(f"smoothing: classes must differ and not be {SILENCE!r}: {', '.join(classes)}")
        unknown = sorted(set(smoothing.minimum_s) - set(classes))
        if unknown:
            raise ConfigError(f"smoothing: minimum_s names {unknown[0]!r}, classes are {', '.join(classes)}")
        if not 0 < hop_s < math.inf:
            raise ConfigError(f"smoothing: hop is {hop_s} s, must be above 0")
        self.classes, self.smoothing, self.hop_s = tuple(classes), smoothing, hop_s
        self._shortest = [in_frames(smoothing.minimum_s.get(name, 0.0), hop_s) for name in classes]
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        n = len(self.classes)
        self._smooth = SmoothLevels(self.smoothing, n)
        self._silent = _SilentRuns(in_frames(self.smoothing.minimum_silence_s, self.hop_s))
        self._levels = np.empty((0, n), np.uint8)  # smoothed frames whose silence is not decided
        self._labels = np.empty(0, np.int64)
        self._mask = np.empty(0, bool)  # decided silence of frames that are not smoothed
        self._present: int | None = None
        self._start = 0  # first frame of the segment that is open
        self._segment: _Run | None = None
        self._island: _Run | None = None  # short runs before the first long one since the silence
        self._open: _Run | None = None  # the run that the stream ends with
        self.label: str | None = None
        self.sure = 0.0
        self.frames = 0

    @property
    def look_ahead_s(self) -> float:
        """Seconds after a frame at which its label is known."""
        return self.smoothing.look_ahead(self.hop_s) * self.hop_s

    def push(self, probabilities: ArrayLike, dbfs: ArrayLike | None = None) -> tuple[Segment, ...]:
        """Take posteriors and return the segments that they complete.

        Parameters
        ----------
        probabilities : array_like, shape (frames, classes)
        dbfs : array_like, shape (frames,), optional
            Level of each frame, see `levels_dbfs`; needed to find silence.
        """
        levels = median.to_levels(probabilities)
        if levels.shape[1] != len(self.classes):
            raise ConfigError(f"probabilities have {levels.shape[1]} columns for {len(self.classes)} classes")
        quiet = self._quiet(len(levels), dbfs)
        found: list[Segment] = []
        for first in range(0, len(levels), median.BLOCK):
            part = slice(first, first + median.BLOCK)
            found += self._advance(self._smooth.push(levels[part]), quiet[part])
        return tuple(found)

    def finish(self) -> tuple[Segment, ...]:
        """End the stream: return the segments that are left and begin a new one."""
        found = list(self._advance(self._smooth.finish(), np.empty(0, bool), last=True))
        if self._open is not None:
            found += self._take(self._open)
        found += self._close()
        self.reset()
        return tuple(found)

    def _quiet(self, frames: int, dbfs: ArrayLike | None) -> Bool:
        if self.smoothing.silence_dbfs is None:
            return np.zeros(frames, bool)
        level = np.asarray(dbfs if dbfs is not None else [], np.float32)
        if level.shape != (frames,):
            raise ConfigError(f"levels have shape {level.shape} for {frames} frames; silence needs one for each")
        return np.asarray(level < self.smoothing.silence_dbfs, bool)

    def _advance(self, levels: median.Levels, quiet: Bool, *, last: bool = False) -> Iterator[Segment]:
        """Label the frames whose smoothed posteriors and silence are both known, and cut them into runs."""
        labels = hysteresis(levels, self.smoothing, self._present)
        if len(labels):
            self._present = int(labels[-1])
        self._levels = np.concatenate([self._levels, levels])
        self._labels = np.concatenate([self._labels, labels])
        self._mask = np.concatenate([self._mask, self._silent.push(quiet, last=last)])
        n = min(len(self._labels), len(self._mask))
        if not n:
            return
        decided = np.where(self._mask[:n], -1, self._labels[:n])
        of_class = self._levels[:n].astype(np.int64)
        self._levels, self._labels, self._mask = self._levels[n:], self._labels[n:], self._mask[n:]
        newest = int(decided[-1])
        self.label = self._name(newest)
        self.sure = 1.0 if newest < 0 else int(of_class[-1, newest]) / median.STEPS
        self.frames += n
        changes = np.flatnonzero(decided[1:] != decided[:-1]) + 1
        starts = np.concatenate([[0], changes])
        lengths = np.concatenate([changes, [n]]) - starts
        sums = np.add.reduceat(of_class, starts, axis=0)
        for start, length, total in zip(starts, lengths, sums, strict=True):
            label = int(decided[start])
            share = np.zeros(len(self.classes), np.int64)
            if label >= 0:
                share[label] = length
            run = _Run(label, int(length), total, share)
            if self._open is not None and self._open.label == label:
                run = self._open + run
            elif self._open is not None:
                yield from self._take(self._open)
            self._open = run
        # a run that is long enough need not end to be believed
        if self._open is not None and self._believed(self._open):
            yield from self._take(self._open)
            self._open = None

    def _name(self, label: int) -> str:
        return SILENCE if label < 0 else self.classes[label]

    def _believed(self, run: _Run) -> bool:
        return run.label < 0 or run.frames >= self._shortest[run.label]

    def _take(self, run: _Run) -> Iterator[Segment]:
        """Step 5: add a run to the open segment, or close that and open another."""
        segment, believed = self._segment, self._believed(run)
        if segment is not None and (segment.label == run.label or (not believed and segment.label >= 0)):
            self._segment = segment + run
        elif not believed:
            if segment is not None:  # a silence
                yield from self._close()
            self._island = run if self._island is None else self._island + run
        elif self._island is not None and run.label >= 0:
            self._segment, self._island = replace(self._island + run, label=run.label), None
        else:
            yield from self._close()
            self._segment = run

    def _close(self) -> Iterator[Segment]:
        """Give the open segment, or the short runs that no long one followed."""
        run, self._segment = self._segment, None
        if run is None and self._island is not None:
            run, self._island = replace(self._island, label=int(self._island.share.argmax())), None
        if run is None:
            return
        start, self._start = self._start, self._start + run.frames
        sure = 1.0 if run.label < 0 else int(run.sums[run.label]) / (run.frames * median.STEPS)
        yield Segment(
            round(start * self.hop_s, 6), round(self._start * self.hop_s, 6), self._name(run.label), sure
        )  # fmt: skip
