"""YAMNet, a ready-made teacher: 521 AudioSet classes from a ``.tflite`` that somebody else trained (Apache-2.0).

The file takes a log-mel patch, 1 x 96 x 64 float32: frames of 25 ms every 10 ms, 64 mel bands (HTK scale) from 125 to
7500 Hz of the **magnitude** spectrum, log(mel + 0.001); so a patch is 0.96 s. Its front end is written here with the
tables of `edge_runtime`; only the triangles differ, because TensorFlow draws them straight over mels and not over
hertz.

``yamnet_map.csv`` (class index, name, class) says what each AudioSet class means to us: *ours*, by ranges of the
ontology's order, with what is ambiguous left out (babble of many voices, bells, whistling, an ice cream van's tune).
Laughter, crying and other voices without words count as noise, singing as music. The names are those of the AudioSet
ontology (Gemmeke et al. 2017).

*Ours* too: a clip's three classes. The score of a class is the largest among its AudioSet classes, averaged over the
clip's patches, because children repeat their parents (Guitar is Music) and a sum would count them twice; the three
are divided by their sum. A clip shorter than a patch is repeated.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime import ConfigError, FrontEnd, FrontEndConfig, filters
from edge_runtime.frontend import as_samples
from edge_runtime.interpreter import Session

from .weights import find_weights

Float32 = NDArray[np.float32]

FILE = "yamnet_spectra_in.tflite"
CLASSES = 521
PATCH = 96  # frames
BANDS = 64
FRAMES = FrontEndConfig(kind="power", mel_bands=BANDS, mel_scale="htk", mel_norm="none", fmin=125.0, fmax=7500.0)


def weights() -> Path:
    """Return the path of the file.

    Raises
    ------
    ConfigError
        If it lies neither here nor in the folder EDGE_BENCH_WEIGHTS.
    """
    return find_weights(FILE)


def mel_filters() -> Float32:
    """Return triangles that are straight over mels, shape (257, 64)."""
    lowest, highest = filters.hz_to_mel(np.array([FRAMES.fmin, FRAMES.fmax]), "htk").tolist()
    edges = np.linspace(lowest, highest, BANDS + 2)
    bins = filters.hz_to_mel(np.linspace(0, FRAMES.sample_rate / 2, FRAMES.features), "htk")[:, None]
    rise, fall = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)


def spectra(samples: ArrayLike) -> Float32:
    """Return the log-mel frames of samples at 16 kHz, shape (frames, 64)."""
    magnitude = np.sqrt(FrontEnd(FRAMES)(samples))
    return np.log(magnitude @ mel_filters() + np.float32(0.001))


class Yamnet:
    """The network.

    Not to be shared between threads.

    Parameters
    ----------
    path : path, optional
        The ``.tflite``; a bare name is also looked for in the folder EDGE_BENCH_WEIGHTS.
    hop_s : float
        Seconds from one patch to the next.
    backend : str
        See `edge_runtime.interpreter.Session`.

    Raises
    ------
    ConfigError
        If there is no such file, it is not YAMNet, or the hop is no multiple of 10 ms.
    """

    def __init__(self, path: str | Path = FILE, *, hop_s: float = 0.48, backend: str = "auto") -> None:
        self._hop = round(hop_s / FRAMES.hop_s)
        if self._hop < 1 or abs(self._hop * FRAMES.hop_s - hop_s) > 1e-6:
            raise ConfigError(f"yamnet: hop_s is {hop_s!r}, must be a multiple of {FRAMES.hop_s} s above 0")
        file = find_weights(path)
        self._session = Session(file.read_bytes(), backend=backend)
        shapes = self._session.input_shape, self._session.output_shape
        if shapes != ((1, PATCH, BANDS), (1, CLASSES)):
            raise ConfigError(f"{file}: takes {shapes[0]} and gives {shapes[1]}; this is not YAMNet on spectra")

    def scores(self, samples: ArrayLike) -> Float32:
        """Return the scores of every patch.

        Parameters
        ----------
        samples : array_like, shape (n,)
            At 16 kHz.

        Returns
        -------
        np.ndarray, float32, shape (patches, 521)
            From 0 to 1, each class by itself. Frames at the end that fill no patch are not looked at.
        """
        x = as_samples(samples)
        if not len(x):
            raise ConfigError("yamnet: there are no samples")
        return self.frame_scores(spectra(np.resize(x, max(len(x), FRAMES.samples(PATCH)))))

    def frame_scores(self, frames: Float32) -> Float32:
        """Return the scores of every patch of log-mel frames, (frames, 64); fewer than a patch are repeated."""
        if len(frames) < PATCH:
            frames = np.resize(frames, (PATCH, BANDS))
        starts = range(0, len(frames) - PATCH + 1, self._hop)
        return np.concatenate([self._session.run(frames[None, at : at + PATCH]) for at in starts])

    def probabilities(self, samples: ArrayLike, classes: Sequence[str] = ("speech", "music", "noise")) -> Float32:
        """Return the share of each class in a clip at 16 kHz, shape (classes,), summing to 1."""
        return to_classes(self.scores(samples), classes)


@lru_cache(maxsize=1)
def class_table() -> tuple[tuple[str, str | None], ...]:
    """Return the name of each AudioSet class and its class here, None where it says nothing."""
    with (Path(__file__).parent / "yamnet_map.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple((row["name"], row["class"] or None) for row in rows)


def members(classes: Sequence[str] = ("speech", "music", "noise")) -> list[NDArray[np.int64]]:
    """Return the AudioSet classes, by number, that belong to each class.

    Raises
    ------
    ConfigError
        If the table has no such class.
    """
    table = np.array([own or "" for _, own in class_table()])
    for name in classes:
        if name not in ("speech", "music", "noise"):
            raise ConfigError(f"yamnet: class {name!r} is not in the table, which has speech, music and noise")
    return [np.flatnonzero(table == name) for name in classes]


def to_classes(scores: Float32, classes: Sequence[str] = ("speech", "music", "noise")) -> Float32:
    """Return the share of each class in a clip, shape (classes,), summing to 1.

    Parameters
    ----------
    scores : np.ndarray, float32, shape (patches, 521)
        Of one clip.
    """
    shares = np.array([scores[:, own].max(axis=1).mean() for own in members(classes)], np.float32) + np.float32(1e-6)
    return shares / shares.sum()
