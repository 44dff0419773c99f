"""Labels of pictures: none lies over another, and none beyond its axis, where there is room."""

from __future__ import annotations

import itertools

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from edge_bench.train.pictures import move_labels_apart


def test_labels_of_near_points_are_moved_apart() -> None:
    figure, axis = plt.subplots(figsize=(6, 4))
    points = [(0.2, 0.5), (0.21, 0.5), (0.22, 0.51), (0.98, 0.5)]
    axis.set(xlim=(0, 1), ylim=(0, 1))
    for number, point in enumerate(points):
        axis.annotate(f"a long label {number}", point, (6, 3), textcoords="offset points", fontsize=8)
    before = [label.get_window_extent() for label in axis.texts]
    assert any(a.overlaps(b) for a, b in itertools.combinations(before, 2)), "the test has something to mend"
    move_labels_apart(axis)
    after = [label.get_window_extent() for label in axis.texts]
    frame = axis.get_window_extent()
    assert not any(a.overlaps(b) for a, b in itertools.combinations(after, 2))
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in after)
    plt.close(figure)
