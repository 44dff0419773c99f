"""Waveforms, features and clips: the cache, augmentation, and where every frame of a batch comes from."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLASSES, RATE, SOUNDS, music, noise, pool_of, speech, table_corpus, write_table
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_bench.train import augment as augment_module
from edge_bench.train import corpus, features
from edge_bench.train.augment import Augmentation
from edge_bench.train.preprocess import remove_silence
from edge_runtime import ConfigError, CorpusError, EdgeBenchError, FrontEnd, FrontEndConfig, audio
from edge_runtime.wav import write_wav

PLAIN = FrontEndConfig()
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A corpus that a test may spoil, 0.6 s a recording."""
    root = tmp_path / "small"
    root.mkdir()
    table_corpus(root, seconds=0.6)
    return root


def entries(cache: Path) -> list[str]:
    """Names in the cache, without the hash."""
    return sorted(p.name.partition("-")[0] for p in cache.iterdir()) if cache.is_dir() else []


# --- what is computed -------------------------------------------------------------------------


def test_waveforms_are_the_recordings_without_silence(corpus_root: Path, cache: Path) -> None:
    told: list[tuple[str, int, int]] = []
    pool = features.waveforms(corpus.load(corpus_root), "validation", progress=lambda *a: told.append(a))
    assert told == [("reading validation", i, 3) for i in (1, 2, 3)]
    assert pool.data.dtype == np.int16 and pool.data.ndim == 1 and len(pool.recordings) == 3
    for i in range(3):
        recording = pool.recordings[pool.recording[i]]
        x = remove_silence(audio.load(recording.path))
        assert len(pool.piece(i)) == len(x) == pool.lengths[i]
        assert np.abs(pool.piece(i) / 32767 - x).max() <= 0.51 / 32767


def test_16_bit_recordings_stay_what_they_are(small: Path, cache: Path) -> None:
    for label in CLASSES:
        write_wav(small / label / "validation0.wav", 3 * SOUNDS[label](0.6), RATE)
    pool = features.waveforms(corpus.load(small), "validation")
    for i in range(3):
        x = remove_silence(audio.load(pool.recordings[pool.recording[i]].path))
        assert np.array_equal(pool.piece(i).astype(np.float32) / np.float32(32768), x)


def test_clean_features_are_the_boards(corpus_root: Path, cache: Path) -> None:
    c = corpus.load(corpus_root)
    pool = features.features(c, "validation", PLAIN)
    waves = features.waveforms(c, "validation")
    assert pool.data.dtype == np.float32 and pool.data.shape[1] == 20 and not pool.copy.any()
    for i in range(3):
        assert np.array_equal(pool.piece(i), FrontEnd(PLAIN)(waves.piece(i)))
    assert pool.recordings == c.split("validation")


def test_copies(corpus_root: Path, cache: Path) -> None:
    c = corpus.load(corpus_root)
    pool = features.features(c, "validation", PLAIN, copies=2)
    clean = features.features(c, "validation", PLAIN)
    assert sorted(zip(pool.recording.tolist(), pool.copy.tolist(), strict=True)) == [
        (r, k) for r in range(3) for k in range(3)
    ]
    assert pool.lengths.sum() == len(pool.data) and pool.starts[0] == 0
    only = pool.only(copy=0)
    for i in range(3):
        assert np.array_equal(only.piece(i), clean.piece(i)), "copy 0 is clean"
        a, b = (pool.only(copy=k).piece(i) for k in (1, 2))
        assert np.isfinite(a).all() and len(a) > 100
        assert a.shape != b.shape or np.abs(a - b).max() > 1, "the copies differ"
        n = min(len(a), clean.lengths[i])
        assert np.abs(a[:n] - clean.piece(i)[:n]).max() > 1, "and they are changed"


def test_the_seed_decides(corpus_root: Path, tmp_path: Path, cache: Path) -> None:
    c = corpus.load(corpus_root)
    made = [
        features.features(c, "validation", PLAIN, copies=1, seed=seed, cache=tmp_path / folder)
        for seed, folder in ((3, "a"), (3, "b"), (4, "a"))
    ]
    assert np.array_equal(made[0].data, made[1].data), "the same seed, computed twice"
    assert np.array_equal(made[0].lengths, made[1].lengths)
    assert made[0].data.shape != made[2].data.shape or not np.array_equal(made[0].data, made[2].data)


def test_normalisation_weighs_classes_alike() -> None:
    rng = np.random.default_rng(0)
    pool = pool_of(
        [
            ("speech", rng.normal(5, 1, (1000, 20))), ("music", rng.normal(-1, 2, (100, 20))),
            ("noise", rng.normal(0, 1, (50, 20))), ("music", rng.normal(-1, 2, (100, 20))),
        ]
    )  # fmt: skip
    mean, scale = features.normalisation(pool)
    by_class = [np.concatenate([pool.piece(i) for i in places]).astype(float) for places in ((0,), (1, 3), (2,))]
    np.testing.assert_allclose(mean, np.mean([rows.mean(axis=0) for rows in by_class], axis=0), rtol=1e-6)
    spread = np.sqrt(np.mean([(rows**2).mean(axis=0) for rows in by_class], axis=0) - mean**2)
    np.testing.assert_allclose(scale, 1 / spread, rtol=1e-6)
    constant = pool_of([("speech", np.ones((10, 20)))])
    assert np.isfinite(features.normalisation(constant)[1]).all()


def test_normalised_features(corpus_root: Path, cache: Path) -> None:
    c = corpus.load(corpus_root)
    pool = features.features(c, "validation", PLAIN)
    mean, scale = features.normalisation(pool)
    normalised = features.features(c, "validation", PLAIN.normalised(mean, scale))
    np.testing.assert_allclose(normalised.data, (pool.data - mean) * scale, atol=1e-3)
    again, one = features.normalisation(normalised)
    np.testing.assert_allclose(again, 0, atol=1e-3)
    np.testing.assert_allclose(one, 1, atol=1e-3)


# --- the cache --------------------------------------------------------------------------------


def test_default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_BENCH_CACHE", str(tmp_path))
    assert features.default_cache() == tmp_path
    monkeypatch.setenv("EDGE_BENCH_CACHE", "")
    assert features.default_cache() == Path.home() / ".cache" / "edge-bench"


def test_the_second_call_computes_nothing(corpus_root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    c = corpus.load(corpus_root)
    first = features.features(c, "validation", PLAIN, copies=1)
    files = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in cache.rglob("*") if p.is_file()}
    assert entries(cache) == ["features", "waves"] and len(files) == 6

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(features, "worker_pool", never)
    second = features.features(corpus.load(corpus_root), "validation", PLAIN, copies=1)
    assert np.array_equal(first.data, second.data) and np.array_equal(first.starts, second.starts)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in cache.rglob("*") if p.is_file()} == files
    assert isinstance(second.data, np.memmap) or isinstance(second.data.base, np.memmap)
    assert not second.data.flags.writeable, "nobody changes the cache by accident"


def test_the_key_follows_everything(small: Path, cache: Path) -> None:
    c = corpus.load(small)

    def count(**options: Any) -> int:
        config = options.pop("config", PLAIN)
        features.features(c, "validation", config, **options)
        return entries(cache).count("features")

    assert count() == 1
    assert count() == 1
    assert count(config=FrontEndConfig(fmin=60.0)) == 2
    assert count(config=PLAIN.normalised(np.zeros(20), np.ones(20))) == 3
    assert count(copies=1) == 4
    assert count(copies=1, seed=1) == 5
    assert count(copies=1, augmentation=Augmentation(reverb=0.0)) == 6
    assert count(seed=1, augmentation=Augmentation(reverb=0.0)) == 6, "without copies neither matters"
    assert entries(cache).count("waves") == 1
    features.features(c, "test", PLAIN)
    assert (entries(cache).count("features"), entries(cache).count("waves")) == (7, 2)


def test_a_corrupt_recording_is_named_and_nothing_is_left(small: Path, cache: Path) -> None:
    (small / "music" / "train1.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt nonsense")
    with pytest.raises(CorpusError, match=r"music/train1\.wav") as caught:
        features.features(corpus.load(small), "train", PLAIN)
    assert "\n" not in str(caught.value) and entries(cache) == []


@pytest.mark.parametrize("content", [b"", b"text, no sound", b"fLaC" + bytes(40)])
def test_files_that_are_no_recordings(small: Path, cache: Path, content: bytes) -> None:
    (small / "noise" / "validation0.wav").write_bytes(content)
    with pytest.raises(CorpusError, match=r"noise/validation0\.wav"):
        features.waveforms(corpus.load(small), "validation")
    assert entries(cache) == []


def test_a_full_disk_leaves_nothing(small: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    c = corpus.load(small)
    for owner, name in ((features.np, "save"), (Path, "write_text"), (Path, "rename")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with pytest.raises(EdgeBenchError, match="the cache cannot be written: No space left"):
                features.waveforms(c, "validation")
        assert entries(cache) == []
    assert len(features.waveforms(c, "validation").starts) == 3


def test_an_interrupted_run_leaves_nothing(small: Path, cache: Path) -> None:
    def interrupted(_: str, done: int, __: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    c = corpus.load(small)
    with pytest.raises(KeyboardInterrupt):
        features.waveforms(c, "validation", progress=interrupted)
    assert entries(cache) == []


def test_what_a_killed_run_left_is_not_read(small: Path, cache: Path) -> None:
    c = corpus.load(small)
    wanted = features.waveforms(c, "validation")
    (folder,) = cache.iterdir()
    half = folder.with_name(folder.name + ".abcdefgh")
    folder.rename(half)  # as SIGKILL leaves it: beside the entry, with less in it
    (half / "index.npy").unlink()
    again = features.waveforms(c, "validation")
    assert np.array_equal(again.data, wanted.data) and folder.is_dir()


def test_the_faster_of_two_runs_wins(tmp_path: Path) -> None:
    folder = tmp_path / "features-x"
    for value in (1.0, 2.0):
        features._write_pool(folder, [(0, 0, np.full((3, 2), value))], "<f4", 2)
    pool = features._read_pool(folder, [])
    assert (pool.data == 1).all() and [p.name for p in tmp_path.iterdir()] == ["features-x"]


def test_trainings_that_start_together_compute_once(tmp_path: Path) -> None:
    computed: list[int] = []

    def pieces() -> Iterator[tuple[int, int, np.ndarray]]:
        computed.append(1)
        time.sleep(0.3)
        yield 0, 0, np.ones((3, 2))

    def compute(_: int) -> float:
        return float(features.stored("features", {}, [], pieces, "<f4", 2, cache=tmp_path).data.sum())

    with ThreadPoolExecutor(4) as workers:
        assert list(workers.map(compute, range(4))) == [6.0] * 4
    assert len(computed) == 1 and len(list(tmp_path.iterdir())) == 1, "and no lock is left"


def test_a_cache_that_cannot_be_made(small: Path, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EdgeBenchError):
        features.waveforms(corpus.load(small), "validation", cache=tmp_path / "file")


def test_another_order_of_the_table_keeps_the_labels(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "c"
    root.mkdir()
    rows = table_corpus(root, seconds=0.3)

    def labelled() -> dict[str, bytes]:
        pool = features.features(corpus.load(root), "validation", PLAIN)
        return {pool.recordings[pool.recording[i]].label: pool.piece(i).tobytes() for i in range(3)}

    before = labelled()
    write_table(root, rows[::-1])
    assert labelled() == before


def test_a_replaced_recording_is_read_again(small: Path, cache: Path) -> None:
    before = features.features(corpus.load(small), "validation", PLAIN)
    write_wav(small / "music" / "validation0.wav", noise(0.6, 55), RATE)
    after = features.features(corpus.load(small), "validation", PLAIN)
    assert before.data.shape != after.data.shape or not np.array_equal(before.data, after.data)


def test_two_corpora_with_equal_names(tmp_path: Path, cache: Path) -> None:
    pools = []
    for seed in (1, 2):
        root = tmp_path / f"corpus{seed}"
        rows = []
        for label in CLASSES:
            (root / label).mkdir(parents=True)
            write_wav(root / label / "take1.wav", SOUNDS[label](0.5, seed), RATE)
            rows.append({"file": f"{label}/take1.wav", "class": label, "split": "test", "group": label})
        write_table(root, rows)
        pools.append(features.features(corpus.load(root), "test", PLAIN))
    assert not np.array_equal(pools[0].data, pools[1].data)


def test_recordings_shorter_than_a_frame(tmp_path: Path, cache: Path) -> None:
    rows = []
    for label in CLASSES:
        write_wav(tmp_path / f"{label}.wav", noise(0.02), RATE)
        rows.append({"file": f"{label}.wav", "class": label, "split": "test", "group": label})
    write_table(tmp_path, rows)
    try:
        assert len(features.features(corpus.load(tmp_path), "test", PLAIN).data) == 0
    except EdgeBenchError:
        pass


def test_one_recording_shorter_than_a_frame(small: Path, cache: Path) -> None:
    write_wav(small / "music" / "validation0.wav", music(0.02), RATE)
    pool = features.features(corpus.load(small), "validation", PLAIN, copies=1)
    assert sorted(pool.lengths[pool.copy == 0].tolist())[0] == 0 and len(pool.data) == pool.lengths.sum()


# --- augmentation -----------------------------------------------------------------------------

CHANGES = {
    "change_speed": lambda rng, x: augment_module.change_speed(rng, x, 0.85, 1.18),
    "equalise": lambda rng, x: augment_module.equalise(rng, x, 9.0),
    "limit_band": augment_module.limit_band,
    "reverberate": augment_module.reverberate,
    "mix": lambda rng, x: augment_module.mix(rng, x, noise(0.3), 5.0),
    "pass_codec": augment_module.pass_codec,
    "set_level": lambda rng, x: augment_module.set_level(rng, x, -45.0, -12.0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change(name: str) -> None:
    change = CHANGES[name]
    for x in (speech(1.0), music(0.3), noise(0.026), np.zeros(3000, np.float32), np.ones(2000, np.float32)):
        kept = x.copy()
        for seed in range(6):
            y = change(np.random.default_rng(seed), x)
            assert y.dtype == np.float32 and y.ndim == 1 and np.isfinite(y).all()
            if name == "change_speed":
                assert 0.84 * len(x) - 2 <= len(y) <= 1.19 * len(x) + 2
            else:
                assert len(y) == len(x)
            assert np.array_equal(y, change(np.random.default_rng(seed), x)), "the generator decides"
        assert np.array_equal(x, kept), "the recording itself stays"
    x = speech(1.0)
    results = [change(np.random.default_rng(seed), x)[:10000] for seed in range(4)]
    assert any(not np.array_equal(results[0][: len(r)], r[: len(results[0])]) for r in results[1:])


def test_mixing_keeps_the_ratio() -> None:
    x, other = speech(1.0), noise(0.37)
    for snr in (-10.0, 0.0, 20.0):
        added = augment_module.mix(np.random.default_rng(0), x, other, snr) - x
        assert 20 * np.log10(augment_module.rms(x) / augment_module.rms(added)) == pytest.approx(snr, abs=0.1)


def test_levels() -> None:
    for seed in range(20):
        y = augment_module.set_level(np.random.default_rng(seed), speech(0.5), -45.0, -12.0)
        assert -46 < 20 * np.log10(augment_module.rms(y)) < -11.9 and np.abs(y).max() <= 1


def test_speed_moves_the_pitch() -> None:
    x = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    for seed in range(5):
        y = augment_module.change_speed(np.random.default_rng(seed), x, 0.5, 2.0)
        peak = np.abs(np.fft.rfft(y)).argmax() * RATE / len(y)
        assert peak == pytest.approx(1000 * len(x) / len(y), rel=0.01)


def test_band_limits_cut_where_they_say() -> None:
    x = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    lost = 0
    for seed in range(12):
        y = augment_module.limit_band(np.random.default_rng(seed), x)
        power = np.abs(np.fft.rfft(y)) ** 2
        assert power[800:2000].mean() > 0.5 * (np.abs(np.fft.rfft(x)) ** 2)[800:2000].mean(), (
            "400 to 2500 Hz always passes"
        )
        lost += power[:50].mean() < 0.1 * power[800:2000].mean() or power[7900:].mean() < 0.1 * power[800:2000].mean()
    assert lost >= 10


def test_augment_is_deterministic_and_at_a_usable_level() -> None:
    def noises(rng: np.random.Generator) -> np.ndarray:
        return noise(0.5, int(rng.integers(5)))

    different = set()
    for label, make in SOUNDS.items():
        for seed in range(8):
            made = [
                augment_module.augment(np.random.default_rng(seed), make(0.7), label, how=Augmentation(), noise=noises)
                for _ in range(2)
            ]
            assert np.array_equal(*made) and np.abs(made[0]).max() <= 1
            assert -50 < 20 * np.log10(augment_module.rms(made[0])) < -11
            different.add(made[0].tobytes())
    assert len(different) == 24


NOTHING = Augmentation(
    speed=0, equaliser=0, band_limit=0, reverb=0, loudness=0, noise=0, background=0, codec=0, clip=0,
    level_dbfs=(-20.0, -20.0),
)  # fmt: skip


def test_nothing_happens_at_probability_zero() -> None:
    x = speech(0.5)
    y = augment_module.augment(np.random.default_rng(0), x, "speech", how=NOTHING, noise=lambda _: x)
    np.testing.assert_allclose(y, x * (0.1 / augment_module.rms(x)), atol=1e-6)


def test_noise_may_have_speeds_of_its_own() -> None:
    x = speech(0.5)
    same = replace(NOTHING, speed=1.0, speed_range=(1.0, 1.0))
    half = replace(same, noise_speed_range=(0.5, 0.5))

    def length(label: str, how: Augmentation) -> int:
        return len(augment_module.augment(np.random.default_rng(0), x, label, how=how, noise=lambda _: x))

    assert [length(label, half) for label in ("speech", "music", "noise")] == [len(x), len(x), 2 * len(x)]
    assert length("noise", same) == len(x), "the speeds of all, when it has none of its own"
    assert half.key() == {**same.key(), "noise_speed_range": (0.5, 0.5)}, "what is not set does not name a cache"


def test_coloured_noise_falls_by_up_to_12_db_an_octave() -> None:
    steepest = 0.0
    for seed in range(40):
        power = np.abs(np.fft.rfft(augment_module.coloured_noise(np.random.default_rng(seed), RATE))) ** 2
        steepest = max(steepest, 10 * np.log10(power[200:400].mean() / power[3200:6400].mean()) / 4)
    assert 10 < steepest < 13


def test_copies_differ_in_a_corpus_without_noise(tmp_path: Path, cache: Path) -> None:
    rows = []
    for label in ("speech", "music"):
        write_wav(tmp_path / f"{label}.wav", SOUNDS[label](1.0), RATE)
        rows.append({"file": f"{label}.wav", "class": label, "split": "train", "group": label})
    write_table(tmp_path, rows)
    pool = features.features(corpus.load(tmp_path, classes=["music", "speech"]), "train", PLAIN, copies=1)
    clean, changed = pool.only(copy=0), pool.only(copy=1)
    assert clean.lengths.sum() != changed.lengths.sum() or not np.array_equal(clean.piece(0), changed.piece(0))


# --- clips ------------------------------------------------------------------------------------

clips = pytest.importorskip("edge_bench.train.clips")
UNIT = PLAIN.normalised(np.zeros(20), np.ones(20))
STILL = clips.Masking(spans=0, level_db=0.0)


def numbered(lengths: list[int], labels: list[str] | None = None, **options: Any) -> Any:
    """A pool whose rows say where they are: column 0 the piece + 1, column 1 the frame, column 2 always 1."""
    pieces = []
    for i, n in enumerate(lengths):
        rows = np.zeros((n, 20))
        rows[:, 0], rows[:, 1], rows[:, 2] = i + 1, np.arange(n), 1
        pieces.append(((labels or CLASSES * len(lengths))[i], rows))
    return pool_of(pieces, **options)


def batches(pool: Any, config: FrontEndConfig = UNIT, **options: Any) -> Any:
    return clips.ClipBatches(pool, config, CLASSES, **{"masking": STILL, "batch": 32, "steps": 6, **options})


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
    masked = batches(pool, clip_s=(1.0,), steps=20, masking=clips.Masking(spans=1, longest=25, level_db=0.0))
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
    b = batches(pool, config, clip_s=(0.5,), masking=clips.Masking(spans=0, level_db=6.0))[0][0]
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
    masking = clips.Masking(spans=0, level_db=6.0)
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
    return clips.TeacherTracks(pool_of(pieces), window, hop)


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


def test_cache_entries_are_plain_files(small: Path, cache: Path) -> None:
    features.features(corpus.load(small), "validation", PLAIN)
    for folder in cache.iterdir():
        shape = json.loads((folder / "shape.json").read_text())
        index = np.load(folder / "index.npy", allow_pickle=False)
        assert index.dtype == np.int64 and index.shape == (3, 3)
        item = np.dtype(shape["dtype"]).itemsize * (shape["width"] or 1)
        assert (folder / "data").stat().st_size == index[:, 2].sum() * item
    shutil.rmtree(cache)
