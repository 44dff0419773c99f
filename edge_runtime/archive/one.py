"""More of one recording than its segments: its posteriors in a file, and a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import audio
from ..errors import ConfigError
from ..files import write_aside
from ..segmenter import Float32, Frames, Segmenter
from ..segments import SILENCE, Segment
from ..smoothing import smooth
from .work import Job

LONGEST_PLOT_S = 7200.0


@dataclass
class Track:
    """The frames of a recording, each with the answer that is about it.

    Attributes
    ----------
    probabilities, smoothed : np.ndarray, float32, shape (frames, classes)
        Before and after the median.
    dbfs : np.ndarray, float32, shape (frames,)
    segments : tuple of Segment
    """

    probabilities: Float32
    smoothed: Float32
    dbfs: Float32
    segments: tuple[Segment, ...] = field(default=())


def track(job: Job, path: str) -> Track:
    """Return a recording's frames and segments; 28 bytes a frame are kept."""
    parts: list[Frames] = []
    with Segmenter(job.bundle, settings=job.settings, watch=parts.append, backend=job.backend) as segmenter:
        found = segmenter.segment_file(path)
    raw = np.concatenate([p.probabilities for p in parts])
    delay = min(job.settings.smoothing.delay, len(raw) - 1)
    aligned = np.concatenate([raw[delay:], np.repeat(raw[-1:], delay, axis=0)])
    smoothed = smooth(raw, job.settings.smoothing)
    return Track(aligned, smoothed, np.concatenate([p.dbfs for p in parts]), found)


def write_frames(path: str, job: Job, of: Track) -> None:
    """Write a track as .npz: ``probabilities, smoothed, dbfs, labels, hop_s, classes``.

    ``labels`` is the number in ``classes`` of each frame's segment; -1 is silence, -2 unknown.
    """
    from ..decisions import UNKNOWN
    from ..segments import frame_labels

    hop_s = job.bundle.front_end.hop_s
    names = (*job.bundle.classes, UNKNOWN, SILENCE)
    labels = frame_labels(of.segments, names, len(of.dbfs), hop_s=hop_s)
    labels = np.where(labels >= len(job.bundle.classes), labels - len(names), labels)
    with write_aside(Path(path)) as aside, aside.open("wb") as file:
        np.savez(
            file, probabilities=of.probabilities, smoothed=of.smoothed, dbfs=of.dbfs, labels=labels.astype(np.int8),
            hop_s=np.float64(hop_s), classes=np.array(job.bundle.classes),
        )  # fmt: skip


def show(job: Job, path: str, frames_file: str | None, plot: str | None) -> None:
    """Write the files that were asked for.

    Raises
    ------
    AudioError
        If the recording cannot be read.
    ConfigError
        If it is too long for a picture.
    """
    seconds = audio.info(path).seconds
    if plot and seconds > LONGEST_PLOT_S:
        raise ConfigError(f"{path}: lasts {seconds / 3600:.1f} h; --plot shows at most {LONGEST_PLOT_S / 3600:g} h")
    found = track(job, path)
    if frames_file:
        write_frames(frames_file, job, found)
    if plot:
        _plot(job, path, found, plot)


def _plot(job: Job, path: str, of: Track, file: str) -> None:
    from importlib import import_module

    try:
        drawing: Any = import_module("edge_bench.benchmarks.segment_plot")
    except ImportError:
        raise ConfigError("--plot needs matplotlib; pip install 'edge-bench[report]'") from None
    samples = audio.load(path, sample_rate=job.bundle.front_end.sample_rate)
    drawing.draw(path, samples, job.bundle, job.settings, of, Path(file))
