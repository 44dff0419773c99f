"""The recordings behind a finished training: what calibrates its bundle and what proves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_bench.train import features
from edge_bench.train.clips import evaluation_clips
from edge_bench.train.experiment import Experiment, load_corpus
from edge_bench.train.features import Pool

from .convert import Calibration, sample_clips
from .source import Source


@dataclass(frozen=True)
class Data:
    """Features without normalisation, and the experiment that they are for."""

    experiment: Experiment
    extra: tuple[Path, ...]
    train: Pool
    validation: Pool

    def calibration(self, clip_s: Sequence[float], frames: int, *, at_most: int | None = None) -> Calibration:
        """Return the experiment's calibration clips, of the first augmented copy of training recordings."""
        count = min(self.experiment.calibration_clips, at_most or self.experiment.calibration_clips)
        sets = []
        for seconds in clip_s:
            clips = evaluation_clips(self.train, self.experiment.front_end, self.experiment.classes, seconds)
            sets.append((clips.x, [self.train.recordings[int(i)].name for i in clips.recording]))
        drawn = {"split": "train", "copy": 1, "clip_s": list(clip_s)}
        return sample_clips(sets, count, seed=self.experiment.seed, frames=frames,
                            drawn=drawn)  # fmt: skip


def prepared(
    source: Source,
    corpus_root: Path,
    *,
    cache: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Data:
    """Read the corpus that a network was trained on, or find its features in the cache."""
    experiment = source.experiment
    data = load_corpus(experiment, corpus_root, extra=source.extra)
    plain = experiment.front_end.normalised((), ())
    pool = features.features(
        data, "train", plain, copies=1, augmentation=experiment.augmentation, seed=experiment.pool_seed, cache=cache,
        progress=progress,
    )  # fmt: skip
    validation = features.features(data, "validation", plain, cache=cache, progress=progress)
    return Data(experiment, source.extra, pool.only(copy=1), validation)
