"""Find recordings for training that are, in part, those that a network will be judged on.

Collections borrow from each other: the rain of one game is the rain of another. Cepstra of one second, without the
level (c0) and each coefficient's mean, are compared with every second of the other recordings at every frame, by the
cosine. A copy lies near 1, also when it is quieter, later or filtered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import FrontEnd, FrontEndConfig, audio

from .recording import Recording

Float32 = NDArray[np.float32]
WINDOW = 98  # frames: 1 s
ABOVE = 0.9
_ROWS = 2048


@dataclass(frozen=True)
class Match:
    """Two recordings that sound alike.

    Attributes
    ----------
    similarity : float
        Cosine of the most alike second.
    held_out, split : str
        A recording of the validation or test split.
    at_s : float
        Where in it.
    training : str
        The recording that is like it.
    """

    similarity: float
    held_out: str
    split: str
    at_s: float
    training: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)


def fingerprints(samples: Float32, step: int) -> Float32:
    """Return one row of length 1 for each second that begins `step` frames after the last, (seconds, features)."""
    cepstra = FrontEnd(FrontEndConfig())(samples)[:, 1:]
    if len(cepstra) < WINDOW:
        return np.zeros((0, WINDOW * cepstra.shape[1]), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(cepstra, WINDOW, axis=0)[::step]
    rows = (windows - windows.mean(axis=2, keepdims=True)).reshape(len(windows), -1)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-3), np.float32)


def overlap(
    training: Sequence[Recording],
    held_out: Sequence[Recording],
    *,
    above: float = ABOVE,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Match]:
    """Return the pairs of recordings that share a second, the most alike first.

    Recordings shorter than a second are not compared.

    Raises
    ------
    AudioError
        If a recording cannot be read.
    """
    rows, owners, at = [], [], []
    for number, recording in enumerate(held_out):
        prints = fingerprints(audio.load(recording.path), WINDOW)
        rows.append(prints)
        owners += [number] * len(prints)
        at += [0.01 * WINDOW * i for i in range(len(prints))]
    if not owners:
        return []
    known, owner = np.concatenate(rows), np.array(owners)
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for number, recording in enumerate(training):
        prints = fingerprints(audio.load(recording.path), 1)
        alike = np.full(len(known), -1, np.float32)
        for i in range(0, len(prints), _ROWS):
            np.maximum(alike, (prints[i : i + _ROWS] @ known.T).max(axis=0), out=alike)
        for second in np.flatnonzero(alike >= above):
            pair = (int(owner[second]), number)
            best[pair] = max(best.get(pair, (-1.0, 0)), (float(alike[second]), int(second)))
        if progress:
            progress("comparing", number + 1, len(training))
    found = [
        Match(round(similarity, 3), held_out[a].name, held_out[a].split, round(at[second], 2), training[b].name)
        for (a, b), (similarity, second) in best.items()
    ]
    return sorted(found, key=lambda match: -match.similarity)
