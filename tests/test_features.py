"""Waveforms and features of a corpus: what is computed, copies, and the cache."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLASSES, RATE, SOUNDS, music, noise, pool_of, table_corpus, write_table

from edge_bench.train import corpus, features
from edge_bench.train.augment import Augmentation
from edge_bench.train.preprocess import remove_silence
from edge_runtime import CorpusError, EdgeBenchError, FrontEnd, FrontEndConfig, audio
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


def test_copies_differ_in_a_corpus_without_noise(tmp_path: Path, cache: Path) -> None:
    rows = []
    for label in ("speech", "music"):
        write_wav(tmp_path / f"{label}.wav", SOUNDS[label](1.0), RATE)
        rows.append({"file": f"{label}.wav", "class": label, "split": "train", "group": label})
    write_table(tmp_path, rows)
    pool = features.features(corpus.load(tmp_path, classes=["music", "speech"]), "train", PLAIN, copies=1)
    clean, changed = pool.only(copy=0), pool.only(copy=1)
    assert clean.lengths.sum() != changed.lengths.sum() or not np.array_equal(clean.piece(0), changed.piece(0))


def test_cache_entries_are_plain_files(small: Path, cache: Path) -> None:
    features.features(corpus.load(small), "validation", PLAIN)
    for folder in cache.iterdir():
        shape = json.loads((folder / "shape.json").read_text())
        index = np.load(folder / "index.npy", allow_pickle=False)
        assert index.dtype == np.int64 and index.shape == (3, 3)
        item = np.dtype(shape["dtype"]).itemsize * (shape["width"] or 1)
        assert (folder / "data").stat().st_size == index[:, 2].sum() * item
    shutil.rmtree(cache)
