"""How posteriors become segments: delay, median, hysteresis here; silence and minimum durations in `segments`.

The steps, in this order, each the same for any chunking of the input:

1. *Delay.* A causal network's answer at frame t is about what it has heard by then, so it is given to frame
   ``t - delay``; the last answer is given to the frames that are left at the end.
2. *Median* of each class over a window around the frame (`edge_runtime.median`).
3. *Hysteresis.* The class changes to the most probable one when that reaches `enter`, or when the present class is
   below `leave`. ``enter = 0`` always takes the most probable.
4. *Silence.* A run of frames below `silence_dbfs` that lasts `minimum_silence_s` is silence, whatever the posteriors.
5. *Minimum durations.* Between silences, a class must last its minimum to begin a segment; shorter runs belong to the
   segment before them, and at the beginning to the one after. Where no run is long enough, the class with most frames
   takes it all.

Conventions: frame i stands for the time from ``i * hop_s`` to ``(i + 1) * hop_s``. Segments are contiguous and cover
all frames. Sums are whole numbers, so confidences are equal to the bit for any chunking as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import median
from .errors import ConfigError

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Smoothing:
    """How posteriors become segments; the choice of a validation travels as its ``to_dict``.

    Attributes
    ----------
    pool : int
        Frames of logits that the network's answer is averaged over (`edge_runtime.dense`), 1 for none.
    delay : int
        Frames between an answer and the frame that it is about.
    median : int
        Window in frames, 1 for none; the paper's is 200.
    enter, leave : float
        Hysteresis thresholds on the smoothed probability.
    minimum_s : dict
        Shortest segment by class in seconds; 0 for a class that is not named.
    silence_dbfs : float or None
        Level below which a frame is silent; None finds no silence.
    minimum_silence_s : float
        Shortest silence in seconds.
    """

    pool: int = 1
    delay: int = 0
    median: int = 200
    enter: float = 0.0
    leave: float = 0.0
    minimum_s: Mapping[str, float] = field(default_factory=dict)
    silence_dbfs: float | None = None
    minimum_silence_s: float = 0.3

    def __post_init__(self) -> None:
        median.check_length(self.median)
        for name, least in (("pool", 1), ("delay", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= median.LONGEST:
                raise ConfigError(f"smoothing: {name} is {value!r}, must be a whole number of frames, {least} or more")
        for name in ("enter", "leave"):
            if not 0 <= _number(name, getattr(self, name)) <= 1:
                raise ConfigError(f"smoothing: {name} is {getattr(self, name)}, must be from 0 to 1")
        if self.leave > self.enter:
            raise ConfigError(f"smoothing: leave {self.leave} is above enter {self.enter}")
        if not isinstance(self.minimum_s, Mapping):
            raise ConfigError("smoothing: minimum_s must give seconds by class")
        durations = {**self.minimum_s, "minimum_silence_s": self.minimum_silence_s}
        for name, seconds in durations.items():
            if not 0 <= _number(name, seconds) <= 3600:
                raise ConfigError(f"smoothing: shortest duration of {name} is {seconds} s, must be from 0 to 3600")
        if self.silence_dbfs is not None:
            _number("silence_dbfs", self.silence_dbfs)
        object.__setattr__(self, "minimum_s", dict(self.minimum_s))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Smoothing:
        """Build from ``to_dict``'s values.

        Raises
        ------
        ConfigError
            If a key is unknown or a value makes no sense.
        """
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"smoothing: unknown key {unknown[0]!r}; known are {', '.join(known)}")
        return cls(**values)

    def look_ahead(self, hop_s: float) -> int:
        """Return how many frames after a frame its label is known, once the first segment has begun."""
        longest = max((in_frames(s, hop_s) for s in self.minimum_s.values()), default=0)
        silence = 0 if self.silence_dbfs is None else in_frames(self.minimum_silence_s, hop_s)
        return max(self.delay + median.look_ahead(self.median), silence) + longest


def _number(name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ConfigError(f"smoothing: {name} is {value!r}, must be a number")
    return float(value)


def in_frames(seconds: float, hop_s: float) -> int:
    """Return the fewest frames that last `seconds`."""
    return math.ceil(seconds / hop_s - 1e-6)


def smooth(probabilities: ArrayLike, smoothing: Smoothing) -> NDArray[np.float32]:
    """Return delayed and median-filtered probabilities, shape (frames, classes), in steps of 1/100."""
    levels = median.to_levels(probabilities)
    stream = SmoothLevels(smoothing, levels.shape[1])
    return np.concatenate([stream.push(levels), stream.finish()]).astype(np.float32) / np.float32(median.STEPS)


class SmoothLevels:
    """Steps 1 and 2 of a stream, on whole numbers."""

    def __init__(self, smoothing: Smoothing, classes: int) -> None:
        self._delay = smoothing.delay
        self._median = median.StreamingMedian(smoothing.median, classes)
        self._dropped = 0  # answers so far that are about no frame, at most `delay`
        self._last = np.empty((0, classes), np.uint8)

    def push(self, levels: median.Levels) -> median.Levels:
        """Take answers, shape (frames, classes), and return the smoothed frames that they complete."""
        drop = min(self._delay - self._dropped, len(levels))
        self._dropped += drop
        if len(levels):
            self._last = levels[-1:].copy()
        return self._median.push(levels[drop:])

    def finish(self) -> median.Levels:
        """Return the frames that are left."""
        rest = self._median.push(np.repeat(self._last, self._dropped, axis=0))
        return np.concatenate([rest, self._median.flush()])


def held(rows: Sequence[Sequence[int]], smoothing: Smoothing, present: int | None = None) -> list[int]:
    """Return the class of each frame as `hysteresis` does, frame by frame: quicker for a few of them."""
    enter, leave = smoothing.enter * median.STEPS, smoothing.leave * median.STEPS
    found = []
    for row in rows:
        top = max(row)
        if present is None or top >= enter or row[present] < leave:
            present = row.index(top)
        found.append(present)
    return found


def hysteresis(levels: median.Levels, smoothing: Smoothing, present: int | None = None) -> Int:
    """Return the class of each frame, shape (frames,), by step 3.

    Parameters
    ----------
    levels : np.ndarray, uint8, shape (frames, classes)
        Smoothed probabilities in steps of 1/100.
    present : int, optional
        Class of the frame before.
    """
    top, best = levels[:, 0], np.zeros(len(levels), np.int64)
    for i in range(1, levels.shape[1]):  # a few long columns: much faster than argmax over many short rows
        best[levels[:, i] > top] = i
        top = np.maximum(top, levels[:, i])
    if not smoothing.enter or not len(best):
        return best
    sure = top >= smoothing.enter * median.STEPS
    lost = levels < smoothing.leave * median.STEPS
    out = best.copy()
    if present is None:
        present = int(best[0])
    frame = 0
    while frame < len(best):
        # look for the next change in pieces that grow, so that both many changes and none are cheap
        piece = 64
        while frame < len(best):
            part = slice(frame, frame + piece)
            changes = (best[part] != present) & (sure[part] | lost[part, present])
            step = int(changes.argmax())
            if changes[step]:
                out[frame : frame + step] = present
                present = int(best[frame + step])
                frame += step
                break
            out[part] = present
            frame, piece = frame + piece, piece * 4
    return out
