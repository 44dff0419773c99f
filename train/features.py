"""Waveforms and features of a split, computed once and memory-mapped afterwards.

A cache entry is a folder named by everything that its content depends on: the corpus revision, the front end's
key, the augmentation, the number of copies and the seed. It is written aside and renamed, so a killed run leaves
nothing half-written. Copy 0 of a recording is clean; copies 1 ... K are augmented.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime import CorpusError, EdgeBenchError, FrontEnd, FrontEndConfig
from edge_runtime import audio as audio_io

from .augment import Augmentation, augment, coloured_noise
from .corpus import Corpus, Recording
from .preprocess import remove_silence
from .workers import worker_pool

Float32 = NDArray[np.float32]
PREPROCESSING = 2  # raise when remove_silence or augment changes, so that old caches are not read


@dataclass(frozen=True)
class Pool:
    """Rows of a split laid end to end, with the piece that each recording's copy occupies.

    Attributes
    ----------
    data : np.ndarray, shape (rows, ...)
        Samples (int16) or frames (float32), memory-mapped.
    starts, lengths : np.ndarray, int64, shape (pieces,)
    recording : np.ndarray, int64, shape (pieces,)
        Number of the recording in `recordings`.
    copy : np.ndarray, int64, shape (pieces,)
    recordings : tuple of Recording
    """

    data: NDArray[Any]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    recording: NDArray[np.int64]
    copy: NDArray[np.int64]
    recordings: tuple[Recording, ...]

    def piece(self, index: int) -> NDArray[Any]:
        """Return the rows of one piece."""
        return self.data[self.starts[index] : self.starts[index] + self.lengths[index]]

    def only(self, *, copy: int) -> Pool:
        """Return the pieces of one copy."""
        return self.where(self.copy == copy)

    def where(self, keep: NDArray[np.bool_]) -> Pool:
        """Return the pieces that are marked, shape (pieces,)."""
        return Pool(
            self.data, self.starts[keep], self.lengths[keep], self.recording[keep], self.copy[keep], self.recordings
        )


def default_cache() -> Path:
    """Return the cache folder: ``EDGE_BENCH_CACHE`` or ``~/.cache/edge-bench``."""
    return Path(os.environ.get("EDGE_BENCH_CACHE") or Path.home() / ".cache" / "edge-bench")


def _name(kind: str, parts: dict[str, Any]) -> str:
    text = json.dumps({**parts, "preprocessing": PREPROCESSING}, sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _write_pool(
    folder: Path, pieces: Iterable[tuple[int, int, NDArray[Any]]], dtype: str, width: int
) -> None:
    """Write pieces to a new cache entry; the folder appears only when it is complete."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
    except OSError as error:
        raise EdgeBenchError(f"{folder.parent}: the cache cannot be written: {error.strerror or error}") from None
    try:
        index = []
        with (aside / "data").open("wb") as file:
            for recording, copy, rows in pieces:
                file.write(np.ascontiguousarray(rows, dtype).tobytes())
                index.append((recording, copy, len(rows)))
            file.flush()
            os.fsync(file.fileno())
        np.save(aside / "index.npy", np.array(index, np.int64).reshape(-1, 3))
        (aside / "shape.json").write_text(json.dumps({"dtype": dtype, "width": width}))
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster and wrote the same
                raise
    except OSError as error:
        raise EdgeBenchError(f"{folder}: the cache cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _read_pool(folder: Path, recordings: Sequence[Recording]) -> Pool:
    shape = json.loads((folder / "shape.json").read_text())
    index = np.load(folder / "index.npy", allow_pickle=False)
    width = int(shape["width"])
    data = np.zeros(0, shape["dtype"])
    if (folder / "data").stat().st_size:
        data = np.memmap(folder / "data", dtype=shape["dtype"], mode="r")
    lengths = index[:, 2]
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1])) if len(lengths) else lengths
    return Pool(
        data.reshape(-1, width) if width else data, starts, lengths, index[:, 0], index[:, 1], tuple(recordings)
    )


def stored(
    kind: str,
    parts: dict[str, Any],
    recordings: Sequence[Recording],
    pieces: Callable[[], Iterable[tuple[int, int, NDArray[Any]]]],
    dtype: str,
    width: int,
    *,
    cache: Path | None = None,
) -> Pool:
    """Return the cache entry that `parts` name, written first if it is not there yet.

    Parameters
    ----------
    kind : str
        Beginning of the folder's name.
    parts : dict
        Everything that the content depends on, in values that JSON can hold.
    pieces : callable
        Yields (number of the recording, copy, rows); called only to write.
    dtype, width
        Of a row; width 0 for samples.
    """
    folder = (cache or default_cache()) / _name(kind, parts)
    if not folder.is_dir():
        with _held(folder):
            if not folder.is_dir():  # another process wrote it while this one waited
                _write_pool(folder, pieces(), dtype, width)
    return _read_pool(folder, recordings)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a cache entry that is not there yet, so that trainings that start together compute it once."""
    file = folder.with_name(folder.name + ".lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise EdgeBenchError(f"{folder.parent}: the cache cannot be written: {error.strerror or error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        file.unlink(missing_ok=True)  # whoever waits holds the old file and finds the entry, or writes it, too
        os.close(descriptor)


def waveforms(
    corpus: Corpus, split: str, *, cache: Path | None = None, progress: Callable[[str, int, int], None] | None = None
) -> Pool:
    """Return the split's recordings at 16 kHz without their silence, int16.

    Raises
    ------
    CorpusError
        If a file cannot be read; the message names it.
    """
    recordings = corpus.split(split)

    def pieces() -> Iterator[tuple[int, int, NDArray[np.int16]]]:
        with worker_pool() as workers:
            waves = workers.map(_read_wave, [str(r.path) for r in recordings], chunksize=8)
            for i, wave in enumerate(waves):
                if progress:
                    progress(f"reading {split}", i + 1, len(recordings))
                yield i, 0, wave

    return stored("waves", {"corpus": corpus.revision(), "split": split}, recordings, pieces, "<i2", 0, cache=cache)


def _read_wave(path: str) -> NDArray[np.int16]:
    try:
        samples = audio_io.load(path)
    except EdgeBenchError as error:
        raise CorpusError(str(error)) from None
    return np.clip(np.round(remove_silence(samples) * 32768), -32768, 32767).astype(np.int16)


class Extractor(Protocol):
    """What turns samples into rows beside a front end: a teacher that gives logits, for one.

    It is sent to other processes, so it must be picklable; `open` is called there.
    """

    @property
    def features(self) -> int:
        """Values in a row."""

    def key(self) -> str:
        """Name of the rows that it gives, for the cache."""

    def open(self) -> Callable[[Float32], Float32]:
        """Return a function from samples (n,) to rows (rows, features)."""


_worker: tuple[Pool, Pool | None, Callable[[Float32], Float32], Augmentation, int, float] | None = None


def _start_worker(
    waves: Pool,
    noises: Pool | None,
    config: FrontEndConfig | Extractor,
    how: Augmentation,
    seed: int,
    gain_db: float,
) -> None:
    global _worker  # a process pool hands its state to its tasks this way
    extract = FrontEnd(config) if isinstance(config, FrontEndConfig) else config.open()
    _worker = (waves, noises, extract, how, seed, gain_db)


def _features_of(task: tuple[int, int]) -> tuple[int, int, Float32]:
    assert _worker is not None
    waves, noises, extract, how, seed, gain_db = _worker
    piece, copy = task
    number = int(waves.recording[piece])
    recording = waves.recordings[number]
    x = waves.piece(piece).astype(np.float32) * np.float32(10 ** (gain_db / 20) / 32768)
    if copy and len(x) > 400:
        name = zlib.crc32(f"{recording.group}/{recording.path.name}".encode())
        rng = np.random.default_rng([seed, name, copy])

        def noise(rng: np.random.Generator) -> Float32:
            if noises is None:
                return coloured_noise(rng, len(x))
            return noises.piece(int(rng.integers(len(noises.starts)))).astype(np.float32) / np.float32(32768)

        x = augment(rng, x, recording.label, how=how, noise=noise)
    return number, copy, extract(x)


def features(
    corpus: Corpus,
    split: str,
    config: FrontEndConfig | Extractor,
    *,
    copies: int = 0,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    gain_db: float = 0.0,
    cache: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Pool:
    """Return the split's features, clean (copy 0) and augmented (copies 1 ... `copies`).

    Parameters
    ----------
    config : FrontEndConfig or Extractor
        A front end's normalisation is used as it is: pass one without to learn the normalisation.
    copies : int
        Augmented copies of each recording. Noise for mixing comes from the same split, so validation never meets
        the training noises.
    gain_db : float
        Level change of the clean copy, to see how a network stands it; augmented copies get a level of their own.
        Nothing is clipped.
    """
    how = augmentation or Augmentation()
    waves = waveforms(corpus, split, cache=cache, progress=progress)
    parts = {
        "corpus": corpus.revision(), "split": split, "front_end": config.key(), "copies": copies,
        "augmentation": how.key() if copies else None, "seed": seed if copies else 0,
        **({"gain_db": gain_db} if gain_db else {}),
    }

    def pieces() -> Iterator[tuple[int, int, Float32]]:
        noises = noises_of(waves)
        tasks = [(piece, copy) for copy in range(copies + 1) for piece in range(len(waves.starts))]
        with worker_pool(start=_start_worker, arguments=(waves, noises, config, how, seed, gain_db)) as workers:
            for i, done in enumerate(workers.map(_features_of, tasks, chunksize=16)):
                if progress:
                    progress(f"features of {split}", i + 1, len(tasks))
                yield done

    return stored("features", parts, waves.recordings, pieces, "<f4", config.features, cache=cache)


def noises_of(waves: Pool) -> Pool | None:
    """Return the noise recordings among waveforms that are long enough to mix with; None where there is none."""
    noisy = np.array([waves.recordings[i].label == "noise" for i in waves.recording], bool)
    noisy &= waves.lengths > 1600
    return waves.where(noisy) if noisy.any() else None


def normalisation(pool: Pool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and scale (one over the standard deviation) of each feature, shape (features,) each.

    Every class weighs the same, so a corpus with more speech does not shift the zero.
    """
    labels = np.array([pool.recordings[i].label for i in pool.recording])
    means, squares = [], []
    for label in sorted(set(labels)):
        rows = np.concatenate([pool.piece(int(i)) for i in np.flatnonzero(labels == label)]).astype(np.float64)
        means.append(rows.mean(axis=0))
        squares.append((rows**2).mean(axis=0))
    mean = np.mean(means, axis=0)
    return mean, 1 / np.sqrt(np.maximum(np.mean(squares, axis=0) - mean**2, 1e-6))
