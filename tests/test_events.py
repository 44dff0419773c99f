"""Counts of events against sed_eval, whose definitions they follow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_bench.train.events import EVENT_SCORES, event_counts
from edge_runtime.segments import SILENCE, Segment

CLASSES = ("speech", "music", "noise")
# many events closer than the collar, so that one has several that could be its own
STRETCHES = st.lists(
    st.tuples(st.floats(0.05, 2.5), st.sampled_from([*CLASSES, SILENCE])), min_size=1, max_size=14
)


def intervals(stretches: list[tuple[float, str]]) -> list[tuple[float, float, str]]:
    edges = np.round(np.cumsum([0.0, *(seconds for seconds, _ in stretches)]), 2)
    return [
        (float(a), float(b), label) for a, b, (_, label) in zip(edges, edges[1:], stretches, strict=False) if a < b
    ]


@settings(max_examples=40)
@given(STRETCHES, STRETCHES)
def test_counts_are_those_of_sed_eval(annotated: list[tuple[float, str]], taken: list[tuple[float, str]]) -> None:
    containers = pytest.importorskip("dcase_util").containers
    import sed_eval

    wanted, given_ = intervals(annotated), intervals(taken)
    lists = [
        containers.MetaDataContainer(
            [{"filename": "a", "onset": a, "offset": b, "event_label": label} for a, b, label in x if label != SILENCE]
        )
        for x in (wanted, given_)
    ]
    kinds = sed_eval.sound_event
    metrics = (
        kinds.SegmentBasedMetrics(list(CLASSES), time_resolution=1.0),
        kinds.EventBasedMetrics(list(CLASSES), evaluate_offset=False, t_collar=0.5, percentage_of_length=0.5),
        kinds.EventBasedMetrics(list(CLASSES), evaluate_offset=True, t_collar=0.5, percentage_of_length=0.5),
    )
    found = [Segment(a, b, label, 1.0) for a, b, label in given_]
    for name, metric in zip(EVENT_SCORES, metrics, strict=True):
        counts = event_counts(wanted, found, CLASSES, name).tolist()
        if not all(lists):  # which sed_eval refuses
            assert counts[0] == 0 and (counts[1] == 0) == (not lists[0])
            continue
        metric.evaluate(*lists)
        assert counts == [metric.overall[k] for k in ("Ntp", "Nref", "Nsys")], name
