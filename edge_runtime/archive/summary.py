"""What came of an archive, in numbers."""

from __future__ import annotations

from typing import Any

from .work import Done

SCHEMA = "edge-bench/segment-summary/1"


class Summary:
    """Counts of recordings, seconds by label, throughput.

    Parameters
    ----------
    bundle : str
        Name of the bundle.
    """

    def __init__(self, *, bundle: str) -> None:
        self._bundle = bundle
        self._done = self._earlier = 0
        self._seconds = self._new_seconds = self._took = 0.0
        self._labels: dict[str, float] = {}
        self._segments = 0
        self.failed: list[str] = []  #: messages

    def add(self, done: Done) -> None:
        """Count a recording that was segmented now."""
        self._done += 1
        self._new_seconds += done.seconds
        self._count(done)

    def earlier(self, done: Done) -> None:
        """Count a recording that an earlier run has segmented."""
        self._earlier += 1
        self._count(done)

    def fail(self, message: str) -> None:
        """Count something that could not be used."""
        self.failed.append(message)

    def took(self, seconds: float) -> None:
        """Note the wall time of the work."""
        self._took = seconds

    def _count(self, done: Done) -> None:
        self._seconds += done.seconds
        self._segments += len(done.segments)
        for s in done.segments:
            self._labels[s.label] = self._labels.get(s.label, 0.0) + s.end_s - s.start_s

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of sound in a second of work; None where nothing was done."""
        return self._new_seconds / self._took if self._new_seconds and self._took else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; times in seconds."""
        return {
            "schema": SCHEMA, "model": self._bundle, "segmented": self._done, "from_earlier_runs": self._earlier,
            "failed": len(self.failed), "errors": self.failed, "segments": self._segments,
            "seconds": round(self._seconds, 6), "took_s": round(self._took, 3),
            "times_real_time": self.real_time_factor,
            "seconds_by_label": {k: round(v, 6) for k, v in sorted(self._labels.items())},
        }  # fmt: skip

    def text(self) -> str:
        """Return the summary for people."""
        parts = [f"{self._done} segmented"]
        parts += [f"{self._earlier} from an earlier run"] if self._earlier else []
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        total = sum(self._labels.values()) or 1.0
        shares = ", ".join(f"{k} {100 * v / total:.0f} %" for k, v in sorted(self._labels.items(), key=lambda x: -x[1]))
        speed = f", {self.real_time_factor:,.0f} x real time" if self.real_time_factor else ""
        return f"{', '.join(parts)}: {_clock(self._seconds)} of sound{speed}; {self._segments} segments: {shares}"


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.2f} h"
