"""A running median of probabilities, fast enough for every frame of an archive, the same for any chunking.

Probabilities are counted in steps of 1/100. A median over a window is then found by counting: it lies above a step
when at most half of the window lies below. The counts of eight steps sit in the eight bytes of one whole number, so a
running sum of one word per frame gives eight running counts at once, and whole numbers have no rounding to differ in.

Conventions: frame i's window is ``i - length // 2 ... i - length // 2 + length - 1`` and its median the entry of rank
``length // 2``, as in ``scipy.ndimage.median_filter``. Frames beyond the ends count alternately as 0 and 1, which
leaves a middle one of the frames that exist.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ConfigError

STEPS = 100  #: steps between probability 0 and 1
LONGEST = 30_000  # frames; counts fit in 16 bits
BLOCK = 4096  # frames whose counts stay in a second-level cache
FEW = 64  # frames for which going one by one costs less than the fixed cost of numpy's calls

Levels = NDArray[np.uint8]


def to_levels(probabilities: ArrayLike) -> Levels:
    """Return probabilities in steps of 1/100, shape (frames, classes), uint8.

    Raises
    ------
    ConfigError
        If the array is not of that shape or holds something outside 0 ... 1.
    """
    p = np.asarray(probabilities, np.float32)
    if p.ndim != 2 or not p.shape[1]:
        raise ConfigError(f"probabilities have shape {p.shape}, expected (frames, classes)")
    # "not within" and not "outside", so that NaN is caught
    if p.size and not (p.min() >= -1e-3 and p.max() <= 1.001):
        raise ConfigError("probabilities must be numbers from 0 to 1")
    return in_steps(p)


def in_steps(probabilities: NDArray[np.float32]) -> Levels:
    """As `to_levels`, of what is known to be probabilities."""
    return (probabilities * np.float32(STEPS) + np.float32(0.5)).astype(np.uint8)


def check_length(length: int) -> int:
    """Return a window's length if it makes sense."""
    if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length <= LONGEST:
        raise ConfigError(f"median length is {length!r}, must be a whole number of frames from 1 to {LONGEST}")
    return length


def look_ahead(length: int) -> int:
    """Return how many frames after a frame its median needs: 99 for a window of 200."""
    return length - 1 - length // 2


def median_filter(probabilities: ArrayLike, length: int) -> NDArray[np.float32]:
    """Return the running median of each class, shape (frames, classes), in steps of 1/100.

    Parameters
    ----------
    probabilities : array_like, shape (frames, classes)
        From 0 to 1.
    length : int
        Window in frames; 1 changes nothing but the steps.

    Examples
    --------
    >>> import numpy as np
    >>> median_filter(np.array([[0.25], [0.25], [1.0], [0.25], [0.5]]), 3)[:, 0].tolist()
    [0.25, 0.25, 0.25, 0.5, 0.25]
    """
    levels = to_levels(probabilities)
    stream = StreamingMedian(length, levels.shape[1])
    return np.concatenate([stream.push(levels), stream.flush()]).astype(np.float32) / np.float32(STEPS)


class StreamingMedian:
    """The running median of a stream, `look_ahead` frames late, equal to the batch for any chunking.

    Parameters
    ----------
    length : int
        Window in frames.
    classes : int
    """

    def __init__(self, length: int, classes: int) -> None:
        self._length = check_length(length)
        self._classes = classes
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        # Which of 0 and 1 is nearest is chosen so that an odd number of them does not move the median.
        self._buffer = self._beyond(self._length // 2, self._length % 2)[::-1]
        self._windows: list[_Window] | None = None  # in place of the buffer while few frames come at a time

    def _beyond(self, count: int, nearest: int) -> Levels:
        """Return `count` frames beyond an end, the nearest first: alternately 0 and 1, the classes alike."""
        column = ((np.arange(count) + nearest) % 2 * STEPS).astype(np.uint8)
        return np.repeat(column[:, None], self._classes, axis=1)

    def push(self, levels: Levels) -> Levels:
        """Take frames, shape (frames, classes), and return the medians that they complete."""
        if self._length == 1:
            return levels
        if len(levels) < FEW:
            if self._windows is None:
                self._windows = [_Window(column, self._length) for column in self._buffer.T.tolist()]
            found = [window.push(column) for window, column in zip(self._windows, levels.T.tolist(), strict=True)]
            return np.array(found, np.uint8).T
        if self._windows is not None:
            self._buffer, self._windows = np.array([w.frames for w in self._windows], np.uint8).T, None
        parts = [np.empty((0, self._classes), np.uint8)]
        for first in range(0, len(levels), BLOCK):
            self._buffer = np.concatenate([self._buffer, levels[first : first + BLOCK]])
            ready = len(self._buffer) - self._length + 1
            if ready > 0:
                parts.append(_counted_medians(np.ascontiguousarray(self._buffer.T), self._length).T)
                self._buffer = self._buffer[ready:]
        return np.concatenate(parts)

    def flush(self) -> Levels:
        """End the stream: return the medians of its last frames and begin a new one."""
        last = self.push(self._beyond(look_ahead(self._length), 0)) if self._length > 1 else self._buffer
        self.reset()
        return last


class _Window:
    """The window of one class as counts by step: the median moves by a few steps as a frame goes in and one out.

    Huang, Yang and Tang 1979, "A fast two-dimensional median filtering algorithm".
    """

    def __init__(self, frames: list[int], length: int) -> None:
        self.frames, self._length = deque(frames), length
        self._counts = [frames.count(step) for step in range(STEPS + 1)]
        self._median = self._below = 0  # and how many of the window lie below it

    def push(self, values: list[int]) -> list[int]:
        """Take frames and return the medians that they complete."""
        frames, counts, half = self.frames, self._counts, self._length // 2
        median, below, found = self._median, self._below, []
        for value in values:
            frames.append(value)
            counts[value] += 1
            below += value < median
            if len(frames) < self._length:
                continue
            while below > half:
                median -= 1
                below -= counts[median]
            while below + counts[median] <= half:
                below += counts[median]
                median += 1
            found.append(median)
            oldest = frames.popleft()
            counts[oldest] -= 1
            below -= oldest < median
        self._median, self._below = median, below
        return found


@lru_cache(maxsize=2)
def _tables(lane: type) -> tuple[NDArray[np.uint64], ...]:
    """Return, for each word of thresholds, the word of every value: lane j says whether it is at most threshold j."""
    lanes = 8 // np.dtype(lane).itemsize
    values = np.arange(STEPS + 1)[:, None]
    words = []
    for first in range(0, STEPS, lanes):
        thresholds = first + np.arange(lanes)  # those past the last step count nothing
        table = (values <= thresholds) | (thresholds >= STEPS)
        words.append(np.ascontiguousarray(table, lane).view(np.uint64)[:, 0])
    return tuple(words)


def _counted_medians(rows: Levels, length: int) -> Levels:
    """Return the median of every whole window along the rows, (classes, n) to (classes, n - length + 1).

    The rows are laid end to end and windows across two rows thrown away.
    """
    lane: Any = np.uint8 if length < 256 else np.uint16
    lanes = 8 // np.dtype(lane).itemsize
    flat = rows.ravel().astype(np.intp)
    sums = np.zeros(len(flat) + 1, np.uint64)
    words = np.empty(len(flat), np.uint64)
    counts = np.empty(len(flat) - length + 1, np.uint64)
    above = np.zeros(len(counts) * lanes, lane)
    half = lane(length // 2)
    for table in _tables(lane):
        np.take(table, flat, out=words, mode="clip")
        np.cumsum(words, out=sums[1:])
        # No lane of a difference overflows; carries between the lanes of the sums cancel in it.
        np.subtract(sums[length:], sums[:-length], out=counts)
        # added as whole numbers: numpy would cast truths in small pieces
        above += (counts.view(lane) <= half).view(np.uint8) if lane is np.uint8 else counts.view(lane) <= half
    # the sum of a word's lanes arrives in its highest lane when it is multiplied by one in every lane
    bits = 64 // lanes
    ones = np.uint64(sum(1 << (bits * i) for i in range(lanes)))
    medians = np.zeros(len(flat), np.uint8)
    medians[: len(counts)] = (above.view(np.uint64) * ones) >> np.uint64(64 - bits)
    return medians.reshape(rows.shape)[:, : rows.shape[1] - length + 1]
