"""Folders of streams: writing what `streams` plans, and reading them or any recordings with label files beside them.

A folder holds ``stream-0000.wav``, ``stream-0000.lab`` (start, end and label separated by tabs: what ``mir_eval`` reads
and Audacity imports) and ``streams.json`` with seed, split, corpus revision, and each file's recordings and sha256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime import CorpusError, EdgeBenchError
from edge_runtime.files import write_aside
from edge_runtime.wav import write_wav

from . import streams
from .corpus import AUDIO_SUFFIXES, Corpus

SCHEMA = "edge-bench/streams/1"
VERSION = 1  # raise when the same seed gives other bytes
MANIFEST = "streams.json"
LABEL_SUFFIXES = (".lab", ".txt")

Interval = tuple[float, float, str]


@dataclass(frozen=True)
class Annotated:
    """A recording and who sounds when in it: (start_s, end_s, label), in order."""

    audio: Path
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class StreamSet:
    """Annotated recordings and where they come from.

    Attributes
    ----------
    files : tuple of Annotated
    split : str or None
        Split of the corpus that they were made of; None for a user's own.
    corpus : str or None
        That corpus' revision.
    seed : int or None
    """

    files: tuple[Annotated, ...]
    split: str | None = None
    corpus: str | None = None
    seed: int | None = None


def write_streams(
    corpus: Corpus,
    split: str,
    out: Path,
    *,
    count: int = 500,
    seed: int = 0,
    workers: int | None = None,
    progress: streams.Progress | None = None,
) -> dict[str, Any]:
    """Write `count` streams of a split to a folder and return the manifest; what is there already is kept.

    Raises
    ------
    CorpusError
        If the folder holds other streams, the corpus cannot be used, or the disk is full.
    """
    if count < 1 or seed < 0:
        raise CorpusError(f"count is {count} and seed {seed}: at least 1 and 0 are needed")
    settings = {
        "schema": SCHEMA, "version": VERSION, "split": split, "seed": seed, "corpus": corpus.revision(),
        "classes": list(corpus.classes), "sample_rate": streams.RATE, "mean_s": streams.MEAN_S,
    }  # fmt: skip
    before = _manifest(out)
    if before is not None and {k: before.get(k) for k in settings} != settings:
        raise CorpusError(f"{out}: holds streams of another seed, split, corpus or version; give an empty folder")
    _write_json(out / MANIFEST, {**settings, "files": (before or {}).get("files", [])})
    sources = streams.read_sources(corpus, split, workers=workers, progress=progress)
    known = {entry["file"]: entry for entry in (before or {}).get("files", [])}
    files = []
    for number in range(count):
        name = f"stream-{number:04d}"
        entry = known.get(f"{name}.wav")
        if entry is None or entry["sha256"] != _sha256(out / f"{name}.wav") or not (out / f"{name}.lab").is_file():
            entry = _write_stream(sources, out, seed, number)
        files.append(entry)
        if progress:
            progress("streams", number + 1, count)
        if number % 50 == 49:  # so that an interrupted run need not begin again
            _write_json(out / MANIFEST, {**settings, "files": files})
    manifest = {**settings, "files": files}
    _write_json(out / MANIFEST, manifest)
    return manifest


def _write_stream(
    sources: dict[str, tuple[streams.Source, ...]], out: Path, seed: int, number: int
) -> dict[str, Any]:
    stretches = streams.plan(sources, seed, number)
    samples, intervals = streams.render(stretches, sources)
    name = f"stream-{number:04d}"
    with write_aside(out / f"{name}.lab") as aside:
        aside.write_text("".join(f"{a:.4f}\t{b:.4f}\t{label}\n" for a, b, label in intervals))
    try:
        write_wav(out / f"{name}.wav", samples, streams.RATE)
    except EdgeBenchError as error:
        raise CorpusError(str(error)) from None
    return {
        "file": f"{name}.wav", "labels": f"{name}.lab", "seconds": round(len(samples) / streams.RATE, 4),
        "sha256": _sha256(out / f"{name}.wav"),
        "segments": [
            {"start_s": a, "end_s": b, "label": label,
             "recordings": [sources[label][p.source].name for p in stretch.pieces]}
            for (a, b, label), stretch in zip(intervals, stretches, strict=True)
        ],
    }  # fmt: skip


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with write_aside(path) as aside:
        aside.write_text(json.dumps(value, indent=1) + "\n")


def _manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: cannot be read: {error}") from None
    if not isinstance(value, dict) or value.get("schema") != SCHEMA or not isinstance(value.get("files"), list):
        raise CorpusError(f"{path}: is no manifest of streams ({SCHEMA}); make them with edge-bench streams")
    return value


def read_labels(path: Path, labels: Sequence[str]) -> tuple[Interval, ...]:
    """Return the intervals of a label file: start, end and label in seconds, separated by white space, in order.

    Raises
    ------
    CorpusError
        If a line is no interval, has an unknown label, or overlaps the one before it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found: list[Interval] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(("#", "\\")):  # Audacity writes frequencies after a backslash
            continue
        fields = line.split(None, 2)
        try:
            start, end, label = float(fields[0]), float(fields[1]), fields[2].strip()
        except (IndexError, ValueError):
            raise CorpusError(f"{path} line {number}: expected start, end and label, found {line[:60]!r}") from None
        if label not in labels:
            raise CorpusError(f"{path} line {number}: label {label!r} is not one of {', '.join(labels)}")
        if not (found[-1][1] - 1e-3 if found else 0) <= start < end < 1e7:
            raise CorpusError(f"{path} line {number}: {start} to {end} s is empty or overlaps what came before")
        found.append((start, end, label))
    if not found:
        raise CorpusError(f"{path}: holds no interval")
    return tuple(found)


def read_folder(folder: Path, labels: Sequence[str]) -> StreamSet:
    """Read a folder of streams, or of a user's recordings that each have a .lab or .txt beside them.

    Raises
    ------
    CorpusError
        If there are none, one is missing or was altered, or its labels make no sense.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder; make one with edge-bench streams")
    manifest = _manifest(folder)
    if manifest is None:
        pairs = [
            (audio, next((p for s in LABEL_SUFFIXES if (p := audio.with_suffix(s)).is_file()), None))
            for audio in sorted(folder.iterdir())
            if audio.suffix.lower() in AUDIO_SUFFIXES
        ]
        files = tuple(Annotated(audio, read_labels(beside, labels)) for audio, beside in pairs if beside)
        if not files:
            raise CorpusError(f"{folder}: no streams.json, and no recording with a .lab or .txt beside it")
        return StreamSet(files)
    if not manifest["files"]:
        raise CorpusError(f"{folder}: its streams are not finished; run edge-bench streams again")
    found = []
    for entry in manifest["files"]:
        audio = folder / str(entry["file"])
        if _sha256(audio) != entry["sha256"]:
            raise CorpusError(f"{audio}: is missing or was altered; run edge-bench streams again")
        found.append(Annotated(audio, read_labels(folder / str(entry["labels"]), labels)))
    return StreamSet(tuple(found), manifest["split"], manifest["corpus"], manifest["seed"])
