"""What is heard now, how loud, and how long it took us: the numbers of ``edge-bench listen``.

Conventions: latency from sound to label is the look-ahead of the method (known beforehand) and the time that we compute
(measured). Overruns are losses before us; late chunks are those whose computing took longer than they last.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..frontend import as_samples
from ..level import level_dbfs
from ..resample import Resampler
from ..segmenter import Now, Segmenter
from ..segments import Segment
from .sources import Chunk

_KEPT = 36_000  # latest computing times: an hour of decisions


@dataclass(frozen=True)
class Heard:
    """What a chunk brought.

    Attributes
    ----------
    now : Now or None
        Newest decision.
    dbfs : float
        Level of the chunk.
    segments : tuple of Segment
        Those that it completed.
    latency_s : float
        From the sound of `now` to here: look-ahead and computing; 0 before the first decision.
    overruns : int
        So far.
    """

    now: Now | None
    dbfs: float
    segments: tuple[Segment, ...]
    latency_s: float
    overruns: int


class Monitor:
    """Feeds a segmenter and keeps count.

    Parameters
    ----------
    segmenter : Segmenter
    sample_rate : int
        Of the source, in Hz; brought to the bundle's.
    """

    def __init__(self, segmenter: Segmenter, *, sample_rate: int) -> None:
        self._segmenter, self.sample_rate = segmenter, sample_rate
        wanted = segmenter.bundle.front_end.sample_rate
        self._resampler = None if wanted == sample_rate else Resampler(sample_rate, wanted)
        self.overruns = self.late = 0
        self._samples = 0
        self._cpu_s = 0.0
        self._compute: deque[float] = deque(maxlen=_KEPT)

    @property
    def look_ahead_s(self) -> float:
        """Seconds of sound after a moment within which `Heard.now` covers it."""
        segmenter, smoothing = self._segmenter, self._segmenter.settings.smoothing
        longest = smoothing.look_ahead(segmenter.hop_s) - _without_minimum(segmenter)
        resampling = self._resampler.delay_s if self._resampler else 0.0
        return round(segmenter.look_ahead_s - longest * segmenter.hop_s + resampling, 6)

    def take(self, chunk: Chunk) -> Heard:
        """Take a chunk."""
        began, cpu = time.perf_counter(), time.thread_time()
        self.overruns += chunk.overruns
        x = chunk.samples
        self._samples += len(x)
        sound = as_samples(x)
        found = self._segmenter.push(x if self._resampler is None else self._resampler.push(sound))
        level = level_dbfs(sound)
        ended = time.perf_counter()
        self._compute.append(ended - began)
        self._cpu_s += time.thread_time() - cpu
        self.late += ended - chunk.arrived > len(x) / self.sample_rate
        now = self._segmenter.now
        latency = 0.0 if now is None else self._samples / self.sample_rate - now.at_s + (ended - chunk.arrived)
        return Heard(now, level, found, latency, self.overruns)

    def finish(self) -> tuple[Segment, ...]:
        """End the stream and return the segments that are left."""
        last = self._segmenter.push(self._resampler.flush()) if self._resampler else ()
        return last + self._segmenter.finish()

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers so far; microseconds unless the key says otherwise."""
        times = 1e6 * np.array(self._compute or [0.0])
        seconds = self._samples / self.sample_rate
        p50, p99 = (round(float(q), 1) for q in np.quantile(times, [0.5, 0.99]))
        return {
            "schema": "edge-bench/listen/1", "model": self._segmenter.bundle.name, "seconds": round(seconds, 3),
            "look_ahead_s": self.look_ahead_s, "compute": {"p50": p50, "p99": p99, "samples": len(self._compute)},
            "cpu_share": round(self._cpu_s / seconds, 6) if seconds else None,
            "overruns": self.overruns, "late_chunks": self.late,
        }  # fmt: skip


def _without_minimum(segmenter: Segmenter) -> int:
    return replace(segmenter.settings.smoothing, minimum_s={}).look_ahead(segmenter.hop_s)


def follow(monitor: Monitor, chunks: Iterator[Chunk], *, seconds: float | None = None) -> Iterator[Heard]:
    """Yield what every chunk brings until the source ends, or for `seconds`."""
    heard = 0.0
    for chunk in chunks:
        yield monitor.take(chunk)
        heard += len(chunk.samples) / monitor.sample_rate
        if seconds is not None and heard >= seconds - 1e-9:
            return
