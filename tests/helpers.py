"""Stand-ins shared by the tests: sounds, corpora in both layouts, a pool without files, edits of a bundle.

Nothing here is a recording: speech is a pulse train through formants, music is chords, noise is filtered noise.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from edge_runtime.wav import write_wav

RATE = 16000
CLASSES = ("speech", "music", "noise")
COPIES = {"train": 3, "validation": 1, "test": 1}  # recordings of a class in each split of a stand-in corpus


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """A gliding pulse train through three formants, with a pause of 0.1 s after every 0.4 s."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    pitch = rng.uniform(90, 220) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(1, 4) * np.arange(n) / RATE))
    x = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0.0)
    for formant, width in ((rng.uniform(300, 800), 90), (rng.uniform(1000, 2200), 120), (2700, 200)):
        radius = np.exp(-np.pi * width / RATE)
        x = lfilter([1.0], [1.0, -2 * radius * np.cos(2 * np.pi * formant / RATE), radius**2], x)
    x = x * np.where(np.arange(n) % (RATE // 2) < 0.4 * RATE, 1.0, 0.02)
    return (0.3 * x / np.abs(x).max()).astype(np.float32)


def music(seconds: float, seed: int = 0) -> np.ndarray:
    """Chords of three notes with six harmonics each, struck anew every 0.5 s."""
    rng = np.random.default_rng(seed)
    t = np.arange(RATE // 2) / RATE
    chords = []
    for _ in range(int(np.ceil(seconds * 2))):
        root = 110 * 2 ** (rng.integers(24) / 12)
        notes = [root * 2 ** (step / 12) for step in (0, 4, 7)]
        tone = sum(np.sin(2 * np.pi * f * h * t) / h for f in notes for h in range(1, 7))
        chords.append(tone * np.exp(-3 * t))
    x = np.concatenate(chords)[: round(seconds * RATE)]
    return (0.3 * x / np.abs(x).max()).astype(np.float32)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """White noise through a one-pole filter."""
    rng = np.random.default_rng(seed)
    x = lfilter([1.0], [1.0, -rng.uniform(-0.5, 0.9)], rng.standard_normal(round(seconds * RATE)))
    return (0.2 * x / np.abs(x).max()).astype(np.float32)


SOUNDS = {"speech": speech, "music": music, "noise": noise}


def write_table(root: Path, rows: list[dict[str, Any]]) -> None:
    """Write SOURCES.csv."""
    with (root / "SOURCES.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def table_corpus(root: Path, seconds: float = 2.5) -> list[dict[str, Any]]:
    """Write a corpus in the SOURCES.csv layout and return the rows of its table."""
    rows, seed = [], 0
    for label in CLASSES:
        for split, count in COPIES.items():
            for i in range(count):
                seed += 1
                name = f"{label}/{split}{i}.wav"
                (root / label).mkdir(parents=True, exist_ok=True)
                write_wav(root / name, SOUNDS[label](seconds, seed), RATE)
                rows.append(
                    {
                        "file": name, "class": label, "split": split, "group": f"{label}{i % 2}/{split}{i}",
                        "seconds": seconds, "licence": "CC0-1.0", "source_repo": f"stand-in/{label}{i % 2}",
                    }
                )  # fmt: skip
    write_table(root, rows)
    return rows


def tree_corpus(root: Path, seconds: float = 1.0, files: int = 12) -> None:
    """Write a corpus in the CLASS/file layout: some files in folders of their own, others directly below the class."""
    for label in CLASSES:
        for i in range(files):
            folder = root / label / f"session{i}" if i % 2 else root / label
            folder.mkdir(parents=True, exist_ok=True)
            write_wav(folder / f"take{i}.wav", SOUNDS[label](seconds, i), RATE)


def pool_of(
    pieces: list[tuple[str, np.ndarray]], *, sources: list[str] | None = None, copies: list[int] | None = None
) -> Any:
    """Return a pool without files: a piece for each (label, rows), each of its own recording and group."""
    from edge_bench.train.corpus import Recording
    from edge_bench.train.features import Pool

    lengths = np.array([len(rows) for _, rows in pieces])
    recordings = tuple(
        Recording(Path(f"{label}/{i}.wav"), label, "train", f"group{i}", sources[i] if sources else label)
        for i, (label, _) in enumerate(pieces)
    )
    return Pool(
        np.concatenate([rows for _, rows in pieces]).astype(np.float32), np.cumsum(lengths) - lengths, lengths,
        np.arange(len(pieces)), np.array(copies or [0] * len(pieces)), recordings,
    )  # fmt: skip


def parts_of(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return the flatbuffer of a bundle and the content of its zip."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    return data[: json.loads(parts["bundle.json"])["model_bytes"]], parts


def assemble(flatbuffer: bytes, parts: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a flatbuffer with `parts` zipped behind it, whatever they say."""
    file = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(file, "a", compression) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)  # with a fixed date, not the time of day
    return file.getvalue()


def with_info(data: bytes, **changes: Any) -> bytes:
    """Return a bundle whose bundle.json says something else."""
    flatbuffer, parts = parts_of(data)
    info = {**json.loads(parts["bundle.json"]), **changes}
    return assemble(flatbuffer, {**parts, "bundle.json": json.dumps(info).encode()})


def python(code: str, *arguments: str, timeout: float = 120) -> str:
    """Run Python code in a fresh process, outside the working tree, and return what it printed on standard output."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, *arguments], capture_output=True, text=True, timeout=timeout,
        env=environment, cwd="/", check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr[-4000:]}"
    return done.stdout


def librosa() -> Any:
    """Import librosa, whose compiled loops are then compiled when they are called.

    Its import compiles them for a dozen types, which takes 40 s in a fresh environment; we call none of them.
    """
    if "librosa" not in sys.modules:
        numba = pytest.importorskip("numba")
        before = numba.guvectorize, numba.vectorize
        numba.guvectorize = lambda _types, layout, **options: before[0](layout, nopython=True)
        numba.vectorize = lambda _types, **options: before[1](nopython=True)
        try:
            import librosa.beat
            import librosa.core
            import librosa.feature
            import librosa.util.utils
        finally:
            numba.guvectorize, numba.vectorize = before
    import librosa

    return librosa
