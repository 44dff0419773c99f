"""How many events of an annotation a segmentation finds: by whole seconds, by onset, and by onset and offset.

The definitions are sed_eval's (Mesaros, Heittola and Virtanen 2016, "Metrics for polyphonic sound event detection"),
and the tests hold the counts against it; it takes some 15 ms a file and score, which a search over smoothings feels.
Silence, and any label that is no class, is no event.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.segments import Segment

COLLAR_S = 0.5
SEGMENT_S = 1.0
OFFSET_SHARE = 0.5  # of an event, by which its offset may be wrong where that is more than the collar
EVENT_SCORES = ("segment_f1", "onset_f1", "onset_offset_f1")

Interval = tuple[float, float, str]
Float = NDArray[np.float64]


def event_counts(reference: Sequence[Interval], found: Sequence[Segment], classes: Sequence[str], name: str) -> Float:
    """Return how many events are correct, annotated and found, shape (3,), for one of `EVENT_SCORES`.

    Examples
    --------
    >>> found = [Segment(0.3, 2.0, "speech", 1.0), Segment(2.0, 3.0, "music", 1.0)]
    >>> event_counts([(0.0, 2.5, "speech"), (2.5, 4.0, "noise")], found, ("speech", "music", "noise"), "onset_f1")
    array([1., 2., 2.])
    """
    wanted = [interval for interval in reference if interval[2] in classes]
    given = [(s.start_s, s.end_s, s.label) for s in found if s.label in classes]
    if name == "segment_f1":
        length = math.ceil(max((stop for _, stop, _ in [*wanted, *given]), default=0.0) / SEGMENT_S)
        a, b = (_roll(x, classes, length) for x in (wanted, given))
        return np.array([(a & b).sum(), a.sum(), b.sum()], np.float64)
    correct = sum(
        _matched(
            np.array([x[:2] for x in wanted if x[2] == label]).reshape(-1, 2),
            np.array([x[:2] for x in given if x[2] == label]).reshape(-1, 2),
            offset=name == "onset_offset_f1",
        )
        for label in classes
    )
    return np.array([correct, len(wanted), len(given)], np.float64)


def _roll(intervals: Sequence[Interval], classes: Sequence[str], length: int) -> NDArray[np.bool_]:
    """Return which class sounds in which segment, shape (length, classes)."""
    out = np.zeros((length, len(classes)), bool)
    for start, stop, label in intervals:
        out[math.floor(start / SEGMENT_S) : math.ceil(stop / SEGMENT_S), list(classes).index(label)] = True
    return out


def _matched(wanted: Float, given: Float, *, offset: bool) -> int:
    """Return the size of the largest matching of events of one class, (n, 2) and (m, 2) of start and end."""
    fits = np.abs(wanted[:, None, 0] - given[None, :, 0]) <= COLLAR_S
    if offset:
        collar = np.maximum(COLLAR_S, OFFSET_SHARE * (wanted[:, 1] - wanted[:, 0]))
        fits &= np.abs(wanted[:, None, 1] - given[None, :, 1]) <= collar[:, None]
    if not fits.any():
        return 0
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    return int((maximum_bipartite_matching(csr_array(fits), perm_type="column") >= 0).sum())
