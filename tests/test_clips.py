"""Clips: where every frame of a batch comes from, what is masked, and what the teachers say of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import CLASSES, noise, pool_of
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_bench.train import clips
from edge_bench.train.batches import ClipBatches, TeacherTracks
from edge_bench.train.fit_config import Masking
from edge_runtime import ConfigError, CorpusError, EdgeBenchError, FrontEnd, FrontEndConfig

PLAIN = FrontEndConfig()
UNIT = PLAIN.normalised(np.zeros(20), np.ones(20))
STILL = Masking(spans=0, level_db=0.0)


def numbered(lengths: list[int], labels: list[str] | None = None, **options: Any) -> Any:
    """A pool whose rows say where they are: column 0 the piece + 1, column 1 the frame, column 2 always 1."""
    pieces = []
    for i, n in enumerate(lengths):
        rows = np.zeros((n, 20))
        rows[:, 0], rows[:, 1], rows[:, 2] = i + 1, np.arange(n), 1
        pieces.append(((labels or CLASSES * len(lengths))[i], rows))
    return pool_of(pieces, **options)


def batches(pool: Any, config: FrontEndConfig = UNIT, **options: Any) -> Any:
    return ClipBatches(pool, config, CLASSES, **{"masking": STILL, "batch": 32, "steps": 6, **options})


def test_frames_of_the_clip_lengths() -> None:
    assert [clips.clip_frames(PLAIN, s) for s in (0.5, 1, 2.0)] == [48, 98, 198]


def test_shapes_of_batches() -> None:
    made = batches(numbered([400] * 6))
    assert len(made) == 6
    for i in range(6):
        x, y = made[i]
        # the longest length leads: 2 s by themselves, 1 s and 0.5 s mixed in batches of twice the size
        assert x.shape == ((32, 204, 20) if i % 3 == 0 else (64, 108, 20)) and x.dtype == y.dtype == np.float32
        assert y.shape == (len(x), 3) and np.array_equal(y.sum(axis=1), np.ones(len(x)))


@pytest.mark.parametrize("clip_s", [(2.0, 1.0, 0.5), (0.5,), (1.0,), (2.0,)])
def test_every_frame_of_a_clip(clip_s: tuple[float, ...]) -> None:
    """Zeros exactly before the clip and its context, then consecutive frames of one piece of the label's class."""
    lengths = [700, 250, 330, 205, 990, 198]
    made = batches(numbered(lengths), clip_s=clip_s, steps=12, batch=64)
    wanted = {clips.clip_frames(PLAIN, s) for s in clip_s}
    with_context = total = 0
    found_lengths = set()
    for i in range(12):
        x, y = made[i]
        size = x.shape[1]
        for clip, label in zip(x, y, strict=True):
            inside = clip[:, 2] == 1
            count = int(inside.sum())
            assert not clip[: size - count].any() and inside[size - count :].all(), "zeros come first and only there"
            rows = clip[size - count :]
            piece = int(rows[0, 0]) - 1
            assert (rows[:, 0] == piece + 1).all(), "one piece"
            assert np.array_equal(rows[:, 1], np.arange(rows[0, 1], rows[0, 1] + count)), "consecutive frames"
            assert label.argmax() == piece % 3
            frames = [n for n in wanted if n <= count]
            assert frames
            if count not in wanted:
                # real context: all that fits, or all that there is
                assert count == size or rows[0, 1] == 0
            with_context += count == size
            found_lengths.add(count)
            total += 1
    assert 0.25 < with_context / total < 0.55, "half of the time, unless the clip lies at the start of its piece"
    assert wanted <= found_lengths


def test_phases_are_random() -> None:
    made = batches(numbered([2000] * 3), steps=40, batch=64, clip_s=(0.5,))
    last = np.concatenate([made[i][0][:, -1, 1] for i in range(40)]).astype(int)
    assert len(set(last % 48)) == 48
    counts = np.bincount(last // 250, minlength=8)[1:]
    assert counts.min() > 0.7 * counts.mean(), "uniform over the piece"


def test_the_first_and_the_last_frame_are_reached() -> None:
    made = batches(numbered([60] * 3), clip_s=(0.5,), steps=4, batch=64)
    last = {int(n) for i in range(4) for n in made[i][0][:, -1, 1]}
    assert last == set(range(47, 60))


def test_a_piece_shorter_than_the_clip_is_repeated() -> None:
    made = batches(numbered([30, 7, 1]), clip_s=(0.5,))
    x, _ = made[0]
    for clip in x:
        rows = clip[clip[:, 2] == 1]
        assert len(rows) == 48, "and has no context"
        n = (30, 7, 1)[int(rows[0, 0]) - 1]
        assert np.array_equal(rows[:, 1], np.arange(48) % n)


def test_empty_pieces_are_never_drawn() -> None:
    pool = numbered([0, 300, 300, 300, 0, 0], ["speech", "speech", "music", "noise", "music", "noise"])
    made = batches(pool, steps=20)
    assert {int(p) for i in range(20) for p in made[i][0][:, -1, 0]} == {2, 3, 4}


def test_a_class_without_frames() -> None:
    with pytest.raises(CorpusError, match="'noise' has no audio left"):
        batches(numbered([300, 300, 0]))
    with pytest.raises(CorpusError, match="'noise' has no audio left"):
        batches(numbered([300, 300], ["speech", "music"]))


def test_the_seed_and_the_epoch_decide() -> None:
    pool = numbered([500] * 6)
    a, b, c = batches(pool, seed=1), batches(pool, seed=1), batches(pool, seed=2)
    first = [a[i] for i in range(6)]
    assert all(np.array_equal(b[i][k], first[i][k]) for i in reversed(range(6)) for k in (0, 1)), "in any order"
    assert not np.array_equal(c[0][0], first[0][0])
    a.on_epoch_end()
    assert not np.array_equal(a[0][0], first[0][0])
    b.epoch = 1
    assert np.array_equal(a[0][0], b[0][0])
    assert len({batches(pool, seed=1)[i][0].tobytes() for i in range(6)}) == 6


def test_classes_are_balanced() -> None:
    pool = numbered([5000, 300, 700, 4000, 600], ["speech", "music", "noise", "speech", "noise"])
    made = batches(pool, steps=60)
    share = np.mean(np.concatenate([made[i][1] for i in range(60)]), axis=0)
    np.testing.assert_allclose(share, 1 / 3, atol=0.04)


def test_weights_of_sources() -> None:
    pool = numbered(
        [100, 300, 1600, 500, 900, 50],
        ["speech"] * 3 + ["music", "music", "noise"],
        sources=["a", "a", "b", "c", "c", "d"],
    )
    weights = clips.source_weights(pool, CLASSES)
    assert weights.sum() == pytest.approx(1)
    for places in ([0, 1, 2], [3, 4], [5]):
        assert weights[places].sum() == pytest.approx(1 / 3)
    # 400 and 1600 frames: twice as often, not four times; within a source by frames
    assert weights[2] / weights[:2].sum() == pytest.approx(2) and weights[1] / weights[0] == pytest.approx(3)
    by_frames = clips.source_weights(pool, CLASSES, power=1.0)
    assert by_frames[2] / by_frames[:2].sum() == pytest.approx(4)
    equal = clips.source_weights(pool, CLASSES, power=0.0)
    assert equal[2] == pytest.approx(equal[:2].sum())


def test_normalised_before_it_is_padded() -> None:
    rng = np.random.default_rng(0)
    mean, scale = rng.standard_normal(20), rng.uniform(0.5, 2, 20)
    plain = batches(numbered([300] * 3), clip_s=(0.5,))[0][0]
    x = batches(numbered([300] * 3), PLAIN.normalised(mean, scale), clip_s=(0.5,))[0][0]
    inside = plain[:, :, 2] == 1
    np.testing.assert_allclose(x[inside], (plain[inside] - mean) * scale, rtol=1e-4, atol=1e-4)
    assert not x[~inside].any() and (~inside).any()


def test_masked_spans_lie_in_the_clip() -> None:
    pool = numbered([600] * 6)
    still = batches(pool, clip_s=(1.0,), steps=20)
    masked = batches(pool, clip_s=(1.0,), steps=20, masking=Masking(spans=1, longest=25, level_db=0.0))
    widths = []
    for i in range(20):
        a, b = still[i][0], masked[i][0]
        gone = (a[:, :, 2] == 1) & (b[:, :, 2] == 0)
        assert np.array_equal(np.where(gone[:, :, None], a, b), a), "the rest stays"
        assert not gone[:, : 108 - 98].any(), "context and padding are not masked"
        for row in gone:
            places = np.flatnonzero(row)
            widths.append(len(places))
            assert len(places) == 0 or places[-1] - places[0] + 1 == len(places) <= 25
    assert 20 < max(widths) <= 25 and min(widths) == 0 and 8 < np.mean(widths) < 14


def test_a_shift_of_level_moves_only_the_zeroth_coefficient() -> None:
    scale = np.linspace(0.5, 2, 20)
    config = PLAIN.normalised(np.zeros(20), scale)
    pool = numbered([600] * 6)
    a = batches(pool, config, clip_s=(0.5,))[0][0]
    b = batches(pool, config, clip_s=(0.5,), masking=Masking(spans=0, level_db=6.0))[0][0]
    inside = a[:, :, 2] != 0
    assert np.array_equal(inside, b[:, :, 2] != 0) and not b[~inside].any()
    np.testing.assert_allclose(a[:, :, 1:], b[:, :, 1:], atol=1e-5)
    shifts = [(y - x)[keep] / (np.sqrt(32) * 0.5) for x, y, keep in zip(a[..., 0], b[..., 0], inside, strict=True)]
    assert all(np.ptp(s) < 1e-3 for s in shifts), "one shift for a clip"
    values = np.array([s[0] for s in shifts])
    assert np.abs(values).max() <= 6 and values.min() < -4 and values.max() > 4


def test_the_level_shift_is_what_a_gain_does() -> None:
    """The masking's formula and the front end agree."""
    x = 0.1 * noise(1.0)
    a, b = FrontEnd(PLAIN)(x), FrontEnd(PLAIN)(x * np.float32(10 ** (-6 / 20)))
    np.testing.assert_allclose(b[:, 0] - a[:, 0], -6 * np.sqrt(PLAIN.mel_bands), atol=0.01)


def test_a_shift_of_level_on_mel_bands() -> None:
    config = FrontEndConfig(kind="log_mel", mel_bands=20).normalised(np.zeros(20), np.ones(20))
    masking = Masking(spans=0, level_db=6.0)
    try:
        a, b = (batches(numbered([600] * 3), config, clip_s=(0.5,), masking=m)[0][0] for m in (STILL, masking))
    except ConfigError:
        return
    inside = a[:, :, 2] != 0
    moved = (b - a)[inside]
    np.testing.assert_allclose(moved, moved[:, :1].repeat(20, axis=1), atol=1e-4)


def test_smoothing_and_mixup() -> None:
    pool = numbered([600] * 6)
    _, y = batches(pool, smoothing=0.06)[0]
    np.testing.assert_allclose(np.unique(np.round(y, 4)), [0.02, 0.96], atol=1e-4)
    np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-6)
    plain_x, plain_y = batches(pool)[0]
    x, y = batches(pool, mixup=0.4)[0]
    np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-6)
    assert x.dtype == y.dtype == np.float32 and x.shape == plain_x.shape
    assert ((y * plain_y).sum(axis=1) >= 0.5 - 1e-6).all(), "a clip stays mostly itself"
    assert (y.max(axis=1) < 0.999).any()


def test_without_normalisation() -> None:
    with pytest.raises(ConfigError):
        batches(numbered([300] * 3), PLAIN)[0]


# --- with a teacher ---------------------------------------------------------------------------


def teacher_of(lengths: list[int], window: int = 96, hop: int = 48) -> Any:
    """Tracks whose logits say where they are: (piece, row, 0)."""
    pieces = []
    for i, n in enumerate(lengths):
        rows = max(1, (n - window) // hop + 1)
        pieces.append((CLASSES[i % 3], np.column_stack([np.full(rows, i), np.arange(rows), np.zeros(rows)])))
    return TeacherTracks(pool_of(pieces), window, hop)


@settings(max_examples=100, deadline=None)
@given(piece=st.integers(0, 2), frames=st.sampled_from([48, 98, 198]), share=st.floats(0, 1))
def test_the_teachers_nearest_windows(piece: int, frames: int, share: float) -> None:
    lengths = [700, 60, 199]
    tracks = teacher_of(lengths)
    first = int(share * max(0, lengths[piece] - frames))
    (got,) = tracks.logits(np.array([piece]), np.array([first]), np.array([frames]))
    centres = np.arange(tracks.pool.lengths[piece]) * 48 + 48
    wanted = []
    for point in (0.25, 0.5, 0.75) if frames == 198 else (0.5,):
        away = np.abs(centres - (first + point * frames))
        wanted.append(np.flatnonzero(away <= away.min() + 1e-9))  # two, half-way between them
    assert got[0] == pytest.approx(piece) and got[2] == 0
    assert min(map(min, wanted)) <= got[1] <= max(map(max, wanted))
    low, high = (np.mean([pick(rows) for rows in wanted]) for pick in (min, max))
    assert low - 1e-9 <= got[1] <= high + 1e-9


def test_batches_with_a_teacher() -> None:
    lengths = [700, 300, 500, 400, 100, 30]
    pool, tracks = numbered(lengths), teacher_of(lengths)
    plain, taught = batches(pool), batches(pool, teacher=tracks, temperature=3.0)
    for i in range(6):
        (x, y), (tx, ty) = plain[i], taught[i]
        assert np.array_equal(x, tx) and ty.shape == (len(x), 6) and np.array_equal(ty[:, :3], y)
        np.testing.assert_allclose(ty[:, 3:].sum(axis=1), 1, atol=1e-6)
        ratio = np.log(ty[:, 3] / ty[:, 5])  # (logit of column 0 - logit of column 2) / temperature
        np.testing.assert_allclose(ratio, (x[:, -1, 0] - 1) / 3, atol=1e-4)
    mixed = batches(pool, teacher=tracks, temperature=3.0, mixup=0.5)[0][1]
    np.testing.assert_allclose(mixed[:, 3:].sum(axis=1), 1, atol=1e-6)


# --- clips for evaluation ---------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 450), min_size=1, max_size=5).filter(any), clip_s=st.sampled_from([0.5, 1.0, 2.0])
)
def test_evaluation_clips_overlap_by_half(lengths: list[int], clip_s: float) -> None:
    found = clips.evaluation_clips(numbered(lengths), UNIT, CLASSES, clip_s)
    frames = {0.5: 48, 1.0: 98, 2.0: 198}[clip_s]
    step = frames // 2
    wanted = []
    for piece, n in enumerate(lengths):
        if 0 < n < frames:
            wanted.append((piece, 0, n))
        wanted += [(piece, start, frames) for start in range(0, n - frames + 1, step)]
    assert found.x.shape == (len(wanted), frames, 20) and found.x.dtype == np.float32
    for clip, label, group, recording, (piece, start, n) in zip(
        found.x, found.labels, found.groups, found.recording, wanted, strict=True
    ):
        assert not clip[: frames - n].any(), "a short recording stands behind zeros"
        assert (
            np.array_equal(clip[frames - n :, 1], np.arange(start, start + n))
            and (clip[frames - n :, 0] == piece + 1).all()
        )
        assert (label, group, recording) == (piece % 3, f"group{piece}", piece)


def test_evaluation_clips_of_every_copy() -> None:
    pool = numbered([200, 200, 200], copies=[0, 1, 0])
    assert len(clips.evaluation_clips(pool, UNIT, CLASSES, 2.0).x) == 3
    assert clips.evaluation_clips(pool.only(copy=1), UNIT, CLASSES, 2.0).recording.tolist() == [1]
    assert len(clips.evaluation_clips(pool, UNIT, CLASSES, 0.5, hop=1.0).x) == 3 * 4


def test_evaluation_clips_are_normalised() -> None:
    config = PLAIN.normalised(np.full(20, 3.0), np.full(20, 2.0))
    found = clips.evaluation_clips(numbered([20]), config, CLASSES, 0.5)
    assert not found.x[0, :28].any() and (found.x[0, 28:, 2] == (1 - 3) * 2).all()


def test_no_evaluation_clip() -> None:
    with pytest.raises(EdgeBenchError):
        clips.evaluation_clips(numbered([0, 0, 0]), UNIT, CLASSES, 1.0)
