"""YAMNet as a system to compare with: its 521 scores on the same clips, as our classes.

Recordings are brought to -20 dBFS, as for the teacher; a clip shorter than its patch of 0.96 s is repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime import FrontEndConfig

from .augment import rms
from .models import weights, yamnet

Float32 = NDArray[np.float32]

NAME = "yamnet"
CLASSES: tuple[str, ...] = ("speech", "music", "noise")
# its frames lie where ours do; zero mean and unit scale: they stay as they are when clips are cut
FRAMES = FrontEndConfig(kind="log_mel", mel_bands=yamnet.BANDS).normalised((0.0,) * yamnet.BANDS, (1.0,) * yamnet.BANDS)


@dataclass(frozen=True)
class Spectra:
    """YAMNet's log-mel frames as an `edge_bench.train.features.Extractor`."""

    features: int = yamnet.BANDS

    def key(self) -> str:
        """Name for the cache."""
        return "yamnet-spectra-1"

    def open(self) -> Callable[[Float32], Float32]:
        """Return a function from samples to frames, shape (frames, 64)."""

        def frames(samples: Float32) -> Float32:
            if len(samples) < yamnet.FRAMES.frame_length:
                return np.zeros((0, yamnet.BANDS), np.float32)
            return yamnet.spectra(samples * np.float32(0.1 / rms(samples)))

        return frames


def predictor(classes: tuple[str, ...]) -> Callable[[Float32], Float32]:
    """Return a function from clips (clips, frames, 64) to probabilities (clips, classes).

    Raises
    ------
    ConfigError
        If the weights are not in EDGE_BENCH_WEIGHTS.
    """
    network = yamnet.Yamnet()

    def predict(clips: Float32) -> Float32:
        # rows of zeros precede a recording that is shorter than the clip
        heard = (clip[clip.any(axis=1)] for clip in clips)
        return np.stack([yamnet.to_classes(network.frame_scores(clip), classes) for clip in heard])

    return predict


def size() -> tuple[int, str]:
    """Return the bytes of the file and its sha256."""
    path: Path = weights.find_weights(yamnet.FILE)
    return path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
