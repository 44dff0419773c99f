"""Logits to segments: temperature, pooling, smoothing, and the answer ``unknown`` where the network is not sure.

`Segmentation` holds the settings of all of it; a bundle may carry them, a validation chooses them
(``edge-bench tune-smoothing``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import median
from .bundle import Bundle
from .dense import Float32, Pool
from .dense_stream import Answers
from .errors import ConfigError
from .level import power_of
from .segments import SILENCE, Segment, Smoother
from .smoothing import Smoothing

UNKNOWN = "unknown"  #: label of segments whose confidence is too low
SCHEMA = "edge-bench/segmentation/1"
_TUNED = "edge-bench/tune-smoothing/1"
# Frames by which the dense form lags behind what it is about, and the level of a quiet room at a usual gain.
_DELAY, _SILENT_DBFS = 45, -60.0
_SHORTEST_S = 0.5  # of a segment; shorter ones are flicker at a change of class more often than not


@dataclass(frozen=True)
class Segmentation:
    """How logits become segments.

    Attributes
    ----------
    smoothing : Smoothing
    temperature : float
        What logits are divided by, so that a confidence is how often the answer is right (Guo et al. 2017, "On
        calibration of modern neural networks"); 1 leaves them.
    unknown_below : float
        A segment of less confidence is labelled ``unknown``; 0 for never.
    """

    smoothing: Smoothing = field(default_factory=lambda: Smoothing(delay=_DELAY, silence_dbfs=_SILENT_DBFS))
    temperature: float = 1.0
    unknown_below: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (("temperature", 0.01, 100.0), ("unknown_below", 0.0, 1.0)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
                raise ConfigError(f"segmentation: {name} is {value!r}, must be a number")
            if not low <= value <= high:
                raise ConfigError(f"segmentation: {name} is {value}, must be from {low:g} to {high:g}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "smoothing": self.smoothing.to_dict(), "temperature": self.temperature,
            "unknown_below": self.unknown_below,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Segmentation:
        """Build from ``to_dict``'s values; what is missing has its default.

        Raises
        ------
        ConfigError
            If a key is unknown or a value makes no sense.
        """
        known = ("smoothing", "temperature", "unknown_below")
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"segmentation: unknown key {unknown[0]!r}; known are {', '.join(known)}")
        arguments = dict(values)
        if "smoothing" in arguments:
            if not isinstance(arguments["smoothing"], Mapping):
                raise ConfigError("segmentation: smoothing must be a table of settings")
            arguments["smoothing"] = Smoothing.from_dict(arguments["smoothing"])
        return cls(**arguments)

    @classmethod
    def of(cls, bundle: Bundle) -> Segmentation:
        """Return what a bundle carries as ``segmentation`` in its bundle.json, or what is usual for its classes."""
        smoothing = replace(cls().smoothing, minimum_s=dict.fromkeys(bundle.classes, _SHORTEST_S))
        return cls.from_dict({"smoothing": smoothing.to_dict(), **(bundle.info.get("segmentation") or {})})


def read_segmentation(path: str | Path, bundle: Bundle) -> Segmentation:
    """Read settings from a file: ``Segmentation.to_dict`` with a schema, or what ``edge-bench tune-smoothing`` wrote.

    Raises
    ------
    ConfigError
        If the file cannot be read, is neither, or was tuned for another bundle.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        schema = value.pop("schema")
        if schema == _TUNED:
            if value["model"] != bundle.name:
                raise ConfigError(f"{path}: was tuned for {value['model']}, not for {bundle.name}; tune it again")
            chosen = value["chosen"]["dense"]
            values = {k: chosen[k] for k in ("smoothing", "temperature", "unknown_below") if k in chosen}
            return Segmentation.from_dict({**Segmentation.of(bundle).to_dict(), **values})
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path}: holds no settings of a segmentation; make some with tune-smoothing") from None
    if schema != SCHEMA:
        raise ConfigError(f"{path}: schema is {schema!r}, expected {SCHEMA!r} or {_TUNED!r}")
    return Segmentation.from_dict(value)


class Decisions:
    """The segments of a stream of logits, bit-equal for any chunking.

    Parameters
    ----------
    classes : tuple of str
    settings : Segmentation
    hop_s : float
        Seconds from one frame to the next.
    """

    def __init__(self, classes: tuple[str, ...], settings: Segmentation, *, hop_s: float) -> None:
        if UNKNOWN in classes and settings.unknown_below:
            raise ConfigError(f"segmentation: a class is called {UNKNOWN!r} already; leave unknown_below at 0")
        self._settings = settings
        self._pool = Pool(settings.smoothing.pool, len(classes))
        self.smoother = Smoother(classes, settings.smoothing, hop_s=hop_s)
        silence = settings.smoothing.silence_dbfs
        self._silent = power_of(-math.inf if silence is None else silence)
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._pool.reset()
        self.smoother.reset()
        self._held: Segment | None = None  # an unknown segment, which the next may continue

    def push(self, answers: Answers) -> tuple[tuple[Segment, ...], Float32]:
        """Take answers and return the segments that they complete, and the answers' own probabilities."""
        logits = answers.logits
        if self._settings.temperature != 1:
            logits = logits / np.float32(self._settings.temperature)
        probabilities = self._pool.push(logits)
        quiet = answers.power < self._silent
        return self._judge(self.smoother.push_levels(median.in_steps(probabilities), quiet)), probabilities

    def finish(self, end_s: float) -> tuple[Segment, ...]:
        """End the stream: return the segments that are left, the last one up to `end_s`, and begin a new stream."""
        found = self._judge(self.smoother.finish())
        if self._held is not None:
            found += (self._held,)
        self.reset()
        # the sound behind the last whole frame, less than a frame, belongs to the last segment
        return (*found[:-1], replace(found[-1], end_s=max(found[-1].end_s, end_s))) if found else ()

    def _judge(self, found: tuple[Segment, ...]) -> tuple[Segment, ...]:
        """Relabel what is not sure enough, and join such segments."""
        if not self._settings.unknown_below:
            return found
        out = []
        for s in found:
            unsure = s.label != SILENCE and s.confidence < self._settings.unknown_below
            if unsure and self._held is not None:
                a, b = self._held.end_s - self._held.start_s, s.end_s - s.start_s
                sure = (a * self._held.confidence + b * s.confidence) / (a + b)
                self._held = replace(self._held, end_s=s.end_s, confidence=sure)
            elif unsure:
                self._held = replace(s, label=UNKNOWN)
            else:
                if self._held is not None:
                    out.append(self._held)
                    self._held = None
                out.append(s)
        return tuple(out)
