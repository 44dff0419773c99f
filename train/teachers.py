"""Teachers to distil from: logits along the recordings, computed once over the pool of augmented copies.

A teacher looks at a window that slides along each piece of the pool, so that any clip that training cuts later finds
the rows that cover it (`edge_bench.train.clips.TeacherTracks`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, FrontEndConfig

from .augment import rms
from .clips import TeacherTracks
from .corpus import Corpus
from .features import Pool, features

Float32 = NDArray[np.float32]

WINDOW_S, HOP_S = 0.96, 0.48  # YAMNet's patch, and half of it


@dataclass(frozen=True)
class YamnetTeacher:
    """YAMNet's 521 scores as logits of our classes: the logarithm of the highest score of each class' events.

    The table of which event belongs to which class is `edge_bench.train.models.yamnet`'s; recordings are brought to
    -20 dBFS first.
    """

    path: str
    sha256: str
    classes: tuple[str, ...]

    @property
    def features(self) -> int:
        """Values in a row: one a class."""
        return len(self.classes)

    def key(self) -> str:
        """Name for the cache."""
        return f"yamnet-{self.sha256[:16]}-{HOP_S}-{','.join(self.classes)}-1"

    def open(self) -> Callable[[Float32], Float32]:
        """Return a function from samples to logits, shape (windows, classes)."""
        from .models import yamnet

        network = yamnet.Yamnet(self.path, hop_s=HOP_S)
        owners = [owner for _, owner in yamnet.class_table()]
        members = [[i for i, owner in enumerate(owners) if owner == name] for name in self.classes]

        def logits(samples: Float32) -> Float32:
            if len(samples) < 400:
                return np.zeros((0, len(members)), np.float32)
            # YAMNet hears nothing below its floor: give it the level of its own training data
            scores = network.scores(samples * np.float32(0.1 / rms(samples)))
            return np.log(np.stack([scores[:, m].max(axis=1) for m in members], axis=1) + 1e-3).astype(np.float32)

        return logits


def find(name: str, classes: Sequence[str]) -> YamnetTeacher:
    """Return a teacher by name.

    Raises
    ------
    ConfigError
        If the name is unknown or the weights are not there.
    """
    if name != "yamnet":
        raise ConfigError(f"teacher {name!r} is unknown; there is yamnet")
    from .models import weights, yamnet

    path = weights.find_weights(yamnet.FILE)
    return YamnetTeacher(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), tuple(classes))


def tracks(
    names: Sequence[str], corpus: Corpus, config: FrontEndConfig, classes: Sequence[str], pool: Pool, **how: Any
) -> TeacherTracks:
    """Return the mean logits of the teachers along the train pool.

    Parameters
    ----------
    names : sequence of str
    config : FrontEndConfig
        Of the student: says how many frames a window has.
    pool : Pool
        The student's features, to make sure that the pieces are the same.
    how
        `copies`, `augmentation`, `seed`, `cache`, `progress` as the features were made with.
    """
    found = [features(corpus, "train", find(name, classes), **how) for name in names]
    first = found[0]
    for other in (pool, *found[1:]):
        if not (np.array_equal(other.recording, first.recording) and np.array_equal(other.copy, first.copy)):
            raise ConfigError("the teachers' pieces are not those of the features: clear the cache and try again")
    if len(found) > 1:
        mean = np.mean([p.data for p in found], axis=0)
        first = Pool(mean, first.starts, first.lengths, first.recording, first.copy, first.recordings)
    return TeacherTracks(first, round(WINDOW_S / config.hop_s), round(HOP_S / config.hop_s))
