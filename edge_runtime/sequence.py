"""Whether the chunks of a live stream follow one another, by the times at which they were recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import ConfigError


@dataclass(frozen=True)
class Gap:
    """A place where chunks do not follow one another.

    Attributes
    ----------
    at_s : float
        Seconds of sound taken before it.
    lost_s : float
        Seconds that are missing there; below 0 where sound comes a second time.
    """

    at_s: float
    lost_s: float

    def __str__(self) -> str:
        what = "dropped" if self.lost_s > 0 else "repeated"
        return f"{abs(self.lost_s):.3f} s of sound {what} at {self.at_s:.3f} s"


class SequenceCheck:
    """Compares the time of each chunk's first sample with the samples taken so far.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    tolerance_s : float
        A smaller difference is taken for the clocks' jitter. A clock that runs off slowly is followed: only the
        difference from one chunk to the next counts.

    Examples
    --------
    >>> check = SequenceCheck(16000)
    >>> check.take(10.0, 1600), check.take(10.1, 1600)
    (None, None)
    >>> print(check.take(10.3, 1600))
    0.100 s of sound dropped at 0.200 s
    >>> print(check.take(10.3, 1600))
    0.100 s of sound repeated at 0.300 s
    """

    def __init__(self, sample_rate: int, *, tolerance_s: float = 0.005) -> None:
        if not 0 <= tolerance_s < math.inf:
            raise ConfigError(f"tolerance is {tolerance_s} s, must be 0 or more")
        self._rate, self._tolerance = sample_rate, tolerance_s
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._taken = 0
        self._expected: float | None = None

    def take(self, time_s: float | None, samples: int) -> Gap | None:
        """Take a chunk and return the gap before it, if there is one.

        Parameters
        ----------
        time_s : float or None
            When the chunk's first sample was recorded, on any clock that counts seconds; None if it is not known.
        samples : int
        """
        if time_s is not None and not math.isfinite(time_s):
            raise ConfigError(f"time of a chunk is {time_s}, must be a number of seconds")
        gap = None
        if time_s is not None and self._expected is not None:
            lost = time_s - self._expected
            if abs(lost) > self._tolerance:
                gap = Gap(round(self._taken / self._rate, 6), round(lost, 6))
        if time_s is not None:
            self._expected = time_s + samples / self._rate
        elif self._expected is not None:
            self._expected += samples / self._rate
        self._taken += samples
        return gap
