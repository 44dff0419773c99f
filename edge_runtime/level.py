"""How loud sound is: mean squares, and decibels of full scale."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NOTHING = 1e-12  # added to mean squares, for nothing has no logarithm


def levels_dbfs(samples: ArrayLike, hop_length: int) -> NDArray[np.float32]:
    """Return the level of each whole hop, shape (n // hop_length,): mean square in decibels, 0 for full scale.

    Parameters
    ----------
    samples : array_like, shape (n,)
        Within [-1, 1].

    Examples
    --------
    >>> levels_dbfs([0.1] * 320, 160).tolist()
    [-20.0, -20.0]
    """
    return decibels(mean_squares(np.asarray(samples, np.float32), hop_length))


def mean_squares(samples: NDArray[np.float32], hop_length: int) -> NDArray[np.float32]:
    """Return the mean square of each whole hop, shape (n // hop_length,)."""
    hops = samples[: len(samples) // hop_length * hop_length].reshape(-1, hop_length)
    return np.multiply(np.matmul(hops[:, None], hops[..., None]).ravel(), np.float32(1 / hop_length))


def decibels(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return mean squares in decibels, 0 for full scale and -120 for nothing."""
    level = power.astype(np.float64)
    level += _NOTHING
    np.log10(level, out=level)
    level *= 10
    return level.astype(np.float32)


def level_dbfs(samples: NDArray[np.float32]) -> float:
    """Return the level of all samples together, as `decibels`; -inf for none."""
    n = len(samples)
    return 10 * math.log10(float(np.dot(samples, samples)) / n + _NOTHING) if n else -math.inf


def power_of(dbfs: float) -> np.float32:
    """Return the mean square of a level; the inverse of `decibels`."""
    return np.float32(10 ** (min(dbfs, 300) / 10) - _NOTHING)  # more than any recording has
