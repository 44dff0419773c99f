"""Teachers to distil from: logits along the recordings, computed once over the pool of augmented copies.

A teacher looks at a window that slides along each piece of the pool, so that any clip that training cuts later finds
the rows that cover it (`edge_bench.train.batches.TeacherTracks`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, FrontEnd, FrontEndConfig
from edge_runtime.interpreter import Session

from .augment import rms
from .batches import TeacherTracks
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


@dataclass(frozen=True)
class KerasTeacher:
    """A trained network of the zoo: its logits on windows like YAMNet's, under the front end it was trained with.

    Attributes
    ----------
    flatbuffer : bytes
        The network up to its logits, for one window.
    sha256 : str
        Of its ``.keras`` file.
    order : tuple of int
        Where each of our classes stands among its outputs.
    """

    flatbuffer: bytes = field(repr=False)
    sha256: str
    front_end: FrontEndConfig
    classes: tuple[str, ...]
    order: tuple[int, ...]

    @property
    def features(self) -> int:
        """Values in a row: one a class."""
        return len(self.classes)

    def key(self) -> str:
        """Name for the cache."""
        return f"keras-{self.sha256[:16]}-{HOP_S}-{','.join(self.classes)}-1"

    def open(self) -> Callable[[Float32], Float32]:
        """Return a function from samples to logits, shape (windows, classes)."""
        # TensorFlow does not survive being forked into the pool's processes; an interpreter is built there
        session = Session(self.flatbuffer)
        front_end, config = FrontEnd(self.front_end), self.front_end
        window, hop = round(WINDOW_S / config.hop_s), round(HOP_S / config.hop_s)
        order = list(self.order)

        def logits(samples: Float32) -> Float32:
            if len(samples) < config.frame_length:
                return np.zeros((0, len(order)), np.float32)
            frames = front_end(np.resize(samples, max(len(samples), config.samples(window))))
            starts = range(0, len(frames) - window + 1, hop)
            return np.concatenate([session.run(frames[None, at : at + window]) for at in starts])[:, order]

        return logits


def log_softmax(logits: Float32) -> Float32:
    """Return the logarithms of the probabilities, along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def find(name: str, classes: Sequence[str]) -> YamnetTeacher | KerasTeacher:
    """Return a teacher by name: ``yamnet``, or the folder of a training.

    Raises
    ------
    ConfigError
        If it is neither, or the weights are not there, or it does not know a class.
    """
    if name == "yamnet":
        from .models import weights, yamnet

        path = weights.find_weights(yamnet.FILE)
        return YamnetTeacher(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), tuple(classes))
    folder = Path(name)
    file = folder / "model.keras"
    if not file.is_file():
        raise ConfigError(f"teacher {name!r}: is neither yamnet nor the folder of a training (no model.keras)")
    import keras

    from . import models
    from .experiment import read_folder
    from .models.export import to_tflite

    experiment, _ = read_folder(folder)
    known, config = experiment.classes, experiment.front_end
    if missing := set(classes) - set(known):
        raise ConfigError(f"teacher {name!r}: knows {', '.join(known)} and not {', '.join(sorted(missing))}")
    model = models.load(file)
    logits = keras.Model(model.input, model.get_layer("pooled_logits").output, name=model.name)
    return KerasTeacher(
        to_tflite(logits, (round(WINDOW_S / config.hop_s), config.features)),
        hashlib.sha256(file.read_bytes()).hexdigest(), config, tuple(classes),
        tuple(known.index(label) for label in classes),
    )  # fmt: skip


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
        alike = np.array_equal(other.recording, first.recording) and np.array_equal(other.copy, first.copy)
        if not alike or (other is not pool and not np.array_equal(other.lengths, first.lengths)):
            raise ConfigError("the teachers' pieces are not those of the features: clear the cache and try again")
    if len(found) > 1:
        # log-probabilities, because one teacher's logits may be on a larger scale than another's
        mean = np.mean([log_softmax(p.data) for p in found], axis=0)
        first = Pool(mean, first.starts, first.lengths, first.recording, first.copy, first.recordings)
    return TeacherTracks(first, round(WINDOW_S / config.hop_s), round(HOP_S / config.hop_s))
