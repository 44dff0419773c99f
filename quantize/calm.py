"""Scales with which every interpreter rounds alike.

An int8 kernel multiplies a sum of products with ``scale of the products / scale of the output`` and rounds. TFLite's
reference and optimised kernels round twice, after a 31-bit mantissa and after a shift, XNNPACK rounds once: one sum in
some hundreds comes out one step apart, and eight layers later a probability differs by several steps. Which sums these
are depends on the factor's bits alone. Some factors have none, and one of these mostly lies within 3 %, so a step of
the weights that is a little wider than it need be buys that a bundle says the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.fixedpoint import Multiplier, RoundedOnce

ROOM = 0.03  # of a scale: a quarter of a decibel of resolution at most
CANDIDATES = 1600  # by all scales of a kernel
MOST = 64  # scales of one kernel that are chosen so: a large network would take minutes
_AROUND = np.arange(-3, 4)  # sums on either side of the middle of two steps: no others are rounded differently
_MIDDLES = np.arange(-128, 128) + 0.5


def mismatches(scales: NDArray[np.float32], source: float, result: float) -> NDArray[np.int64]:
    """Return by scale of a kernel how many sums of products the two ways of rounding bring to different int8 steps.

    Parameters
    ----------
    scales : np.ndarray, float32, shape (n,)
    source, result : float
        Scales of what the kernel is multiplied with and of the output.

    Examples
    --------
    >>> mismatches(np.array([1 / 126.0, 1 / 128], np.float32), 1 / 256, 1 / 64).tolist()
    [8, 256]
    """
    exact = (float(source) * scales.astype(np.float64) / float(result))[:, None]  # as TFLite has it
    single = (np.float32(source) * scales / np.float32(result))[:, None]  # as XNNPACK has it
    sums = (np.rint(_MIDDLES / exact).astype(np.int64)[:, :, None] + _AROUND).reshape(len(scales), -1)
    found: NDArray[np.int64] = (Multiplier.nearest(exact)(sums) != RoundedOnce(single)(sums)).sum(axis=1)
    return found


def calm(scale: float, uses: Sequence[tuple[float, float]], *, candidates: int = CANDIDATES) -> np.float32:
    """Return a scale, 1 to 1 + `ROOM` as wide, with the fewest sums of products that interpreters round differently.

    Parameters
    ----------
    scale : float
        Of a kernel.
    uses : sequence of (source, result)
        For each use of the kernel the scales of what it is multiplied with and of the output.
    """
    wider = np.linspace(scale, (1 + ROOM) * scale, candidates).astype(np.float32)
    total = sum((mismatches(wider, *use) for use in uses), np.zeros(len(wider), np.int64))
    chosen: np.float32 = wider[int(total.argmin())]
    return chosen
