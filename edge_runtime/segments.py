"""Segments out of posteriors every frame, in batch and from a stream, equal to the bit.

`edge_runtime.smoothing` says in which steps. Segments are contiguous and cover all frames: frame i stands for the time
from ``i * hop_s`` to ``(i + 1) * hop_s``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import add

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import median
from .errors import ConfigError
from .smoothing import Smoothing, SmoothLevels, held, hysteresis, in_frames

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

    def push_few(self, silent: list[bool], *, last: bool = False) -> list[bool]:
        """As `push`, frame by frame: quicker for a few of them."""
        decided: list[bool] = []
        for quiet in silent:
            self._open = self._open + 1 if quiet else 0
            self._held += 1
            if not 0 < self._open < self._shortest:
                decided += [quiet] * self._held
                self._held = 0
        if last:
            decided += [False] * self._held
            self._open = self._held = 0
        return decided


@dataclass(frozen=True)
class _Run:
    """Frames in a row with one label (a class, or -1 for silence) and what their segment may need."""

    label: int
    frames: int
    sums: tuple[int, ...]  # smoothed levels, by class
    share: tuple[int, ...]  # frames that each class has in it

    @classmethod
    def of(cls, label: int, frames: int, sums: Sequence[int]) -> _Run:
        return cls(label, frames, tuple(sums), tuple(frames * (i == label) for i in range(len(sums))))

    def __add__(self, other: _Run) -> _Run:
        sums, share = map(add, self.sums, other.sums), map(add, self.share, other.share)
        return _Run(self.label, self.frames + other.frames, tuple(sums), tuple(share))


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
        self._levels: list[list[int]] = []  # smoothed frames whose silence is not decided
        self._labels: list[int] = []
        self._mask: list[bool] = []  # decided silence of frames that are not smoothed
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
            Level of each frame, see `edge_runtime.level.levels_dbfs`; needed to find silence.
        """
        levels = median.to_levels(probabilities)
        return self.push_levels(levels, self._quiet(len(levels), dbfs))

    def push_levels(self, levels: median.Levels, quiet: Bool) -> tuple[Segment, ...]:
        """Take posteriors in steps of 1/100 and which frames lie below the level of silence; see `push`."""
        if levels.shape[1] != len(self.classes):
            raise ConfigError(f"probabilities have {levels.shape[1]} columns for {len(self.classes)} classes")
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
        runs = (self._few if max(len(levels), len(quiet)) < median.FEW else self._many)(levels, quiet, last)
        for run in runs:
            self.frames += run.frames
            if self._open is not None and self._open.label == run.label:
                run = self._open + run
            elif self._open is not None:
                yield from self._take(self._open)
            self._open = run
        # a run that is long enough need not end to be believed
        if runs and self._open is not None and self._believed(self._open):
            yield from self._take(self._open)
            self._open = None

    def _few(self, levels: median.Levels, quiet: Bool, last: bool) -> list[_Run]:
        """Return the runs, found frame by frame: for the few of a live stream numpy's calls cost more than the work."""
        rows = levels.tolist()
        self._labels += held(rows, self.smoothing, self._present)
        self._levels += rows
        self._mask += self._silent.push_few(quiet.tolist(), last=last)
        if self._labels:
            self._present = self._labels[-1]
        n = min(len(self._labels), len(self._mask))
        decided = [-1 if silent else label for label, silent in zip(self._labels, self._mask, strict=False)]
        runs, start = [], 0
        for label, group in groupby(decided):
            stop = start + len(list(group))
            runs.append(_Run.of(label, stop - start, list(map(sum, zip(*self._levels[start:stop], strict=True)))))
            start = stop
        if n:
            self._newest(decided[-1], self._levels[n - 1])
        del self._levels[:n], self._labels[:n], self._mask[:n]
        return runs

    def _many(self, levels: median.Levels, quiet: Bool, last: bool) -> list[_Run]:
        """Return the runs, found by numpy."""
        labels = hysteresis(levels, self.smoothing, self._present)
        if len(labels):
            self._present = int(labels[-1])
        waiting = np.array(self._levels, np.uint8).reshape(-1, len(self.classes))
        of_class = np.concatenate([waiting, levels])
        labels = np.concatenate([np.array(self._labels, np.int64), labels])
        mask = np.concatenate([np.array(self._mask, bool), self._silent.push(quiet, last=last)])
        n = min(len(labels), len(mask))
        self._levels, self._labels, self._mask = of_class[n:].tolist(), labels[n:].tolist(), mask[n:].tolist()
        if not n:
            return []
        decided = np.where(mask[:n], -1, labels[:n])
        self._newest(int(decided[-1]), of_class[n - 1].tolist())
        changes = np.flatnonzero(decided[1:] != decided[:-1]) + 1
        starts = np.concatenate([[0], changes])
        lengths = np.concatenate([changes, [n]]) - starts
        sums = np.add.reduceat(of_class[:n].astype(np.int64), starts, axis=0)
        parts = zip(decided[starts].tolist(), lengths.tolist(), sums.tolist(), strict=True)
        return [_Run.of(label, length, total) for label, length, total in parts]

    def _newest(self, label: int, levels: list[int]) -> None:
        self.label = self._name(label)
        self.sure = 1.0 if label < 0 else levels[label] / median.STEPS

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
            run, self._island = replace(self._island, label=self._island.share.index(max(self._island.share))), None
        if run is None:
            return
        start, self._start = self._start, self._start + run.frames
        sure = 1.0 if run.label < 0 else run.sums[run.label] / (run.frames * median.STEPS)
        yield Segment(
            round(start * self.hop_s, 6), round(self._start * self.hop_s, 6), self._name(run.label), sure
        )  # fmt: skip
