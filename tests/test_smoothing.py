"""Median, hysteresis, silence and minimum durations: against plain definitions, and equal for any chunking."""

from __future__ import annotations

import doctest
import json
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter as scipy_median

from edge_runtime import ConfigError, level, median, segments, smoothing
from edge_runtime.level import levels_dbfs
from edge_runtime.segments import SILENCE, Segment, Smoother, frame_labels
from edge_runtime.smoothing import Smoothing, hysteresis, smooth

CLASSES = ("speech", "music", "noise")
SETTINGS = (
    Smoothing(median=1),
    Smoothing(median=7, delay=5),
    Smoothing(median=20, enter=0.5, leave=0.3, minimum_s={"speech": 0.1, "music": 0.3, "noise": 0.2}),
    Smoothing(delay=9, median=6, silence_dbfs=-50.0, minimum_silence_s=0.08),
    Smoothing(
        delay=3, median=9, enter=0.6, leave=0.2, minimum_s={"speech": 0.15, "noise": 0.4}, silence_dbfs=-50.0,
        minimum_silence_s=0.1,
    ),
)  # fmt: skip


def posteriors(seed: int, frames: int, hold: int = 12) -> np.ndarray:
    """Random probabilities, (frames, 3), that favour a class for `hold` frames on average."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (frames, 3))
    logits[np.arange(frames), np.cumsum(rng.random(frames) < 1 / hold) % 3] += 2
    e = np.exp(logits)
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


def levels_of(seed: int, frames: int) -> np.ndarray:
    """Random levels in dBFS, (frames,), silent in stretches."""
    rng = np.random.default_rng([seed, 1])
    return np.where(np.cumsum(rng.random(frames) < 0.08) % 3 == 0, -70.0, -30.0).astype(np.float32)


def plain_labels(smoothed: np.ndarray, dbfs: np.ndarray, s: Smoothing) -> list[int]:
    """Steps 3 to 5 as their docstring tells them, on smoothed levels (frames, classes); -1 is silence."""
    present, labels = int(smoothed[0].argmax()), []
    for row in smoothed:
        best = int(row.argmax())
        if row[best] >= s.enter * 100 or row[present] < s.leave * 100:
            present = best
        labels.append(present)
    out: list[int] = []
    quiet = [s.silence_dbfs is not None and bool(level < s.silence_dbfs) for level in dbfs]
    place = 0
    for is_quiet, group in groupby(quiet):
        length = len(list(group))
        if is_quiet and length * 0.01 >= s.minimum_silence_s - 1e-9:
            labels[place : place + length] = [-1] * length
        place += length
    for is_silent, frames in groupby(labels, key=lambda label: label == -1):
        island = list(frames)
        if is_silent:
            out += island
            continue
        runs = [(label, len(list(group))) for label, group in groupby(island)]
        long = [i for i, (label, n) in enumerate(runs) if n * 0.01 >= s.minimum_s.get(CLASSES[label], 0) - 1e-9]
        if not long:
            out += [int(np.bincount(island).argmax())] * len(island)
            continue
        label = runs[long[0]][0]
        for i, (own, n) in enumerate(runs):
            label = own if i in long else label
            out += [label] * n
    return out


def plain(p: np.ndarray, dbfs: np.ndarray, s: Smoothing) -> list[tuple[float, float, str, float]]:
    """All five steps; segments as plain values."""
    delayed = p[np.minimum(np.arange(len(p)) + s.delay, len(p) - 1)]
    q = np.floor(delayed * np.float32(100) + np.float32(0.5)).astype(int)
    half = s.median // 2
    windows = [np.sort(q[max(0, i - half) : i - half + s.median], axis=0) for i in range(len(q))]
    # of two middle frames the upper; of an odd window that the recording's end cuts the lower
    ranks = [len(w) // 2 - (s.median % 2 and i + half >= len(q) and len(w) % 2 == 0) for i, w in enumerate(windows)]
    smoothed = np.array([w[rank] for w, rank in zip(windows, ranks, strict=True)])
    found, place = [], 0
    for label, group in groupby(plain_labels(smoothed, dbfs, s)):
        end = place + len(list(group))
        confidence = 1.0 if label < 0 else smoothed[place:end, label].mean() / 100
        found.append((place / 100, end / 100, SILENCE if label < 0 else CLASSES[label], confidence))
        place = end
    return found


def values(found: tuple[Segment, ...]) -> list[tuple[Any, ...]]:
    return [(s.start_s, s.end_s, s.label, s.confidence) for s in found]


@pytest.mark.parametrize("module", [level, median, segments])
def test_examples_in_the_docstrings_run(module: Any) -> None:
    failed, tried = doctest.testmod(module)
    assert tried and not failed


@pytest.mark.parametrize("length", [1, 2, 3, 200, 201, 255, 256, 301])
def test_median_equals_scipy_inside_and_a_middle_frame_at_the_ends(length: int) -> None:
    p = posteriors(length, 5000)
    q = median.to_levels(p)
    found = np.rint(median.median_filter(p, length) * 100).astype(int)
    half = length // 2
    inside = slice(half, len(q) - half)
    assert np.array_equal(found[inside], scipy_median(q, size=(length, 1))[inside])
    for i in (0, 1, half // 2, len(q) - 1 - half // 2, len(q) - 1):
        window = np.sort(q[max(0, i - half) : i - half + length], axis=0)
        assert (window[(len(window) - 1) // 2] <= found[i]).all() and (found[i] <= window[len(window) // 2]).all()


@pytest.mark.parametrize(("length", "frames"), [(200, 1), (200, 2), (200, 150), (201, 7), (9, 8)])
def test_median_of_a_recording_shorter_than_the_window_lies_in_the_middle(length: int, frames: int) -> None:
    q = median.to_levels(posteriors(3, frames))
    found = np.rint(median.median_filter(q / 100, length) * 100)
    for i, row in enumerate(found):
        window = np.sort(q[max(0, i - length // 2) : i - length // 2 + length], axis=0)
        assert (window[(len(window) - 1) // 2] <= row).all() and (row <= window[len(window) // 2]).all()


def test_median_of_nothing_is_nothing() -> None:
    assert median.median_filter(np.zeros((0, 3)), 200).shape == (0, 3)


@settings(max_examples=60, deadline=None)
@given(
    length=st.sampled_from([2, 5, 200, 300]), frames=st.integers(64, 700), seed=st.integers(0, 99),
    cuts=st.lists(st.integers(0, 700), max_size=12),
)  # fmt: skip
def test_few_frames_and_many_in_any_order_give_the_same_medians(
    length: int, frames: int, seed: int, cuts: list[int]
) -> None:
    """Few move a median step by step, many are counted at once; a stream may have both."""
    levels = np.random.default_rng(seed).integers(0, 101, (frames, 3)).astype(np.uint8)
    whole, pieces, single = (median.StreamingMedian(length, 3) for _ in range(3))
    edges = [0, *sorted(min(c, frames) for c in cuts), frames]
    parts = [pieces.push(levels[start:stop]) for start, stop in pairwise(edges)]
    wanted = [single.push(levels[i : i + 1]) for i in range(frames)]
    for stream, found in ((pieces, parts), (single, wanted)):
        got = np.concatenate([*found, stream.flush()])
        assert np.array_equal(got, np.concatenate([whole.push(levels), whole.flush()]))


@pytest.mark.parametrize("s", SETTINGS)
def test_hysteresis_frame_by_frame_is_that_of_many(s: Smoothing) -> None:
    levels = median.to_levels(posteriors(4, 500))
    for present in (None, 0, 2):
        assert smoothing.held(levels.tolist(), s, present) == hysteresis(levels, s, present).tolist()


@pytest.mark.parametrize(
    ("bad", "says"),
    [([[np.nan, 0.5]], "from 0 to 1"), ([[1.5, 0]], "from 0 to 1"), ([0.5, 0.5], "shape"), (np.zeros((4, 0)), "shape")],
)
def test_what_is_no_probability_is_refused(bad: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        median.median_filter(bad, 3)


@pytest.mark.parametrize("s", SETTINGS)
@pytest.mark.parametrize("seed", range(6))
def test_segments_are_those_of_the_plain_definition(s: Smoothing, seed: int) -> None:
    p, dbfs = posteriors(seed, 400), levels_of(seed, 400)
    found = values(segments.segments(p, CLASSES, s, dbfs=dbfs))
    wanted = plain(p, dbfs, s)
    assert [f[:3] for f in found] == [w[:3] for w in wanted]
    assert [f[3] for f in found] == pytest.approx([w[3] for w in wanted])


@settings(max_examples=120, deadline=None)
@given(
    s=st.sampled_from(SETTINGS), seed=st.integers(0, 10_000), frames=st.integers(0, 500),
    cuts=st.lists(st.integers(0, 500), max_size=12),
)  # fmt: skip
def test_any_chunking_gives_the_same_segments(s: Smoothing, seed: int, frames: int, cuts: list[int]) -> None:
    p, dbfs = posteriors(seed, frames), levels_of(seed, frames)
    whole = segments.segments(p, CLASSES, s, dbfs=dbfs)
    smoother = Smoother(CLASSES, s)
    for _ in range(2):  # twice: finish() begins a new stream
        edges = [0, *sorted(min(c, frames) for c in cuts), frames]
        parts: tuple[Segment, ...] = ()
        for start, stop in pairwise(edges):
            parts += smoother.push(p[start:stop], dbfs[start:stop])
        assert parts + smoother.finish() == whole
    ends = [0.0, *(x.end_s for x in whole)]
    assert [x.start_s for x in whole] == ends[:-1] and ends[-1] == pytest.approx(frames / 100)
    assert all(a.label != b.label for a, b in pairwise(whole))
    assert all(0 <= x.confidence <= 1 for x in whole)


@pytest.mark.parametrize("s", SETTINGS)
def test_one_frame_at_a_time_gives_the_same_smoothed_posteriors(s: Smoothing) -> None:
    p = posteriors(9, 300)
    stream = smoothing.SmoothLevels(s, 3)
    parts = [stream.push(median.to_levels(p[i : i + 1])) for i in range(300)]
    assert np.array_equal(np.concatenate([*parts, stream.finish()]) / np.float32(100), smooth(p, s))


@pytest.mark.parametrize("s", SETTINGS)
def test_a_segment_is_given_no_later_than_the_look_ahead_says(s: Smoothing) -> None:
    """The end of a segment is given once as many frames followed it as the look-ahead says."""
    p, dbfs = np.repeat(np.eye(3, dtype=np.float32)[[0, 1, 2]], 300, axis=0), np.full(900, -20.0)
    smoother, given_at = Smoother(CLASSES, s), {}
    for i in range(900):
        for x in smoother.push(p[i : i + 1], dbfs[i : i + 1]):
            given_at[x.end_s] = i + 1
    assert len(given_at) == 2
    for end_s, frame in given_at.items():
        assert frame - round(end_s * 100) <= s.look_ahead(0.01) + 1


def test_the_delay_moves_answers_back() -> None:
    p = np.repeat(np.eye(3, dtype=np.float32)[[0, 1]], 100, axis=0)
    found = segments.segments(p, CLASSES, Smoothing(median=1, delay=30))
    assert [(x.start_s, x.end_s, x.label) for x in found] == [(0, 0.7, "speech"), (0.7, 2, "music")]


def test_hysteresis_holds_a_class_until_another_is_sure_or_it_is_lost() -> None:
    rows = np.array([[90, 10], [40, 60], [20, 70], [60, 40], [95, 5], [15, 30], [40, 35]], np.uint8)
    assert hysteresis(rows, Smoothing(enter=0.7, leave=0.1)).tolist() == [0, 0, 1, 1, 0, 0, 0]
    assert hysteresis(rows, Smoothing(enter=0.99, leave=0.3)).tolist() == [0, 0, 1, 1, 0, 1, 1]
    assert hysteresis(rows, Smoothing()).tolist() == [0, 1, 1, 0, 0, 1, 0]


def test_a_lone_short_sound_between_silences_keeps_its_class() -> None:
    p = np.repeat(np.eye(3, dtype=np.float32)[[0]], 100, axis=0)
    dbfs = np.where((np.arange(100) >= 40) & (np.arange(100) < 50), -20.0, -80.0)
    s = Smoothing(median=1, minimum_s={"speech": 0.5}, silence_dbfs=-60.0, minimum_silence_s=0.2)
    found = segments.segments(p, CLASSES, s, dbfs=dbfs)
    assert [x.label for x in found] == [SILENCE, "speech", SILENCE]


def test_frame_labels_undo_segments() -> None:
    p = posteriors(2, 500)
    found = segments.segments(p, CLASSES, Smoothing(median=21))
    assert np.array_equal(frame_labels(found, CLASSES, 500), smooth(p, Smoothing(median=21)).argmax(axis=1))
    assert frame_labels(found[:1], CLASSES, 501)[-1] == -1


def test_levels_are_those_of_a_sine_and_of_nothing() -> None:
    x = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(1600) / 16000)
    assert levels_dbfs(x, 160) == pytest.approx(np.full(10, 20 * np.log10(0.5) - 3.0103), abs=1e-3)
    assert levels_dbfs(np.zeros(170), 160).tolist() == pytest.approx([-120.0])
    assert np.array_equal(levels_dbfs(x[160:480], 160), levels_dbfs(x, 160)[1:3])


def test_a_choice_survives_json() -> None:
    for s in SETTINGS:
        assert Smoothing.from_dict(json.loads(json.dumps(s.to_dict()))) == s


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"median": 0}, "median length"), ({"median": 2.5}, "median length"), ({"delay": -1}, "delay"),
        ({"pool": 0}, "pool"), ({"enter": 1.5}, "enter"), ({"enter": 0.2, "leave": 0.3}, "leave 0.3 is above"),
        ({"enter": "high"}, "must be a number"), ({"minimum_s": {"speech": -1}}, "speech"),
        ({"minimum_s": 3}, "seconds by class"), ({"minimum_silence_s": float("nan")}, "minimum_silence_s"),
        ({"silence_dbfs": "low"}, "silence_dbfs"), ({"colour": 1}, "unknown key 'colour'"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Smoothing.from_dict(values)


def test_a_smoother_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="'jingle'"):
        Smoother(CLASSES, Smoothing(minimum_s={"jingle": 1.0}))
    with pytest.raises(ConfigError, match="must differ"):
        Smoother(("a", "a"), Smoothing())
    with pytest.raises(ConfigError, match="2 columns for 3"):
        Smoother(CLASSES, Smoothing()).push(np.full((4, 2), 0.5))
    with pytest.raises(ConfigError, match="needs one for each"):
        Smoother(CLASSES, Smoothing(silence_dbfs=-60.0)).push(np.full((4, 3), 0.3))
    with pytest.raises(ConfigError, match="hop is 0"):
        Smoother(CLASSES, Smoothing(), hop_s=0)
