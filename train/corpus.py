"""Recordings with labels and splits, read from a folder.

Two layouts are understood:

* a folder with ``SOURCES.csv``, whose columns are at least ``file, class, split, group`` (``seconds``,
  ``licence``, ``source_repo`` are used when present);
* a plain tree ``CLASS/anything/file.wav``. The group is the path below the class up to the file name,
  or, for files directly in the class folder, the file itself; groups go to train, validation or test by a
  hash of their name, so adding a recording never moves another one.

A split is made of whole groups, never of clips: a group that sits in two splits is an error.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from edge_runtime import CorpusError

SPLITS = ("train", "validation", "test")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True)
class Recording:
    """One labelled file.

    Attributes
    ----------
    path : Path
    label : str
        Class name.
    split : {'train', 'validation', 'test'}
    group : str
        Speaker, performer, track or original recording: whatever may not be cut apart.
    source : str
        Collection it came from; training samples by source so that none dominates.
    licence : str
    seconds : float
        0 when the table does not tell.
    name : str
        Path below the corpus folder.
    """

    path: Path
    label: str
    split: str
    group: str
    source: str = ""
    licence: str = ""
    seconds: float = 0.0
    name: str = ""


@dataclass(frozen=True)
class Corpus:
    """A set of recordings and the order of its classes."""

    root: Path
    recordings: tuple[Recording, ...]
    classes: tuple[str, ...]

    def split(self, name: str) -> tuple[Recording, ...]:
        """Return the recordings of one split.

        Raises
        ------
        CorpusError
            If the split is unknown or empty, or lacks a class.
        """
        if name not in SPLITS:
            raise CorpusError(f"split {name!r} is unknown, must be one of {', '.join(SPLITS)}")
        chosen = tuple(r for r in self.recordings if r.split == name)
        missing = set(self.classes) - {r.label for r in chosen}
        if missing:
            raise CorpusError(f"{self.root}: split {name!r} has no recording of {', '.join(sorted(missing))}")
        return chosen

    def thinned(self, share: float) -> Corpus:
        """Return this corpus with a part of each class' training groups: always the same, a larger part holds them.

        Raises
        ------
        CorpusError
            If `share` is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise CorpusError(f"train_share is {share}, must be above 0 and at most 1")
        if share == 1:
            return self
        kept: set[tuple[str, str]] = set()
        for label in self.classes:
            groups = {r.group for r in self.recordings if r.split == "train" and r.label == label}
            order = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())
            kept |= {(label, group) for group in order[: math.ceil(share * len(order))]}
        recordings = tuple(r for r in self.recordings if r.split != "train" or (r.label, r.group) in kept)
        return replace(self, recordings=recordings)

    def revision(self) -> str:
        """Return a short fingerprint of the files' contents, names, labels, splits and order (sha256, 12 digits)."""
        return self._revision

    @cached_property
    def _revision(self) -> str:
        whole = hashlib.sha256()
        for r in self.recordings:
            try:
                whole.update(f"{r.name},{r.label},{r.split},{r.group},".encode())
                whole.update(hashlib.sha256(r.path.read_bytes()).digest())
            except OSError as error:
                raise CorpusError(f"{r.path}: cannot be read: {error.strerror or error}") from None
        return whole.hexdigest()[:12]


def load(
    root: str | Path, *, classes: Sequence[str] = ("speech", "music", "noise"), extra: Sequence[Path] = ()
) -> Corpus:
    """Read a corpus folder and, if given, others that are added to it.

    Parameters
    ----------
    root : path
        Folder in one of the two layouts above.
    classes : sequence of str
        Class names in the order of the network's outputs; a plain tree may hold others, which are an error.
    extra : sequence of path
        More folders, such as the one that `edge_bench.train.midi` renders.

    Raises
    ------
    CorpusError
        For a missing folder, table or file, an unknown class or split, or a group in two splits.
    """
    root = Path(root)
    recordings = _read(root, extra)
    _check(root, recordings, classes)
    return Corpus(root, tuple(recordings), tuple(classes))


def labels(root: str | Path, *, extra: Sequence[Path] = ()) -> set[str]:
    """Return the names of all classes that a corpus folder has."""
    return {r.label for r in _read(Path(root), extra)}


def _read(root: Path, extra: Sequence[Path]) -> list[Recording]:
    recordings = []
    for folder in (root, *map(Path, extra)):
        if not folder.is_dir():
            raise CorpusError(f"{folder}: no such folder; give the corpus folder (EDGE_BENCH_CORPUS)")
        table = folder / "SOURCES.csv"
        found = _read_table(folder, table) if table.is_file() else _read_tree(folder)
        if not found:
            raise CorpusError(
                f"{folder}: no recordings; expected SOURCES.csv or CLASS/file.wav ({', '.join(AUDIO_SUFFIXES)})"
            )
        recordings += found
    return recordings


def _read_table(root: Path, table: Path) -> list[Recording]:
    try:
        # spreadsheets put a byte order mark in front
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{table}: cannot be read: {error}") from None
    recordings = []
    for line, row in enumerate(rows, start=2):
        missing = [c for c in ("file", "class", "split", "group") if not row.get(c)]
        if missing:
            raise CorpusError(f"{table} line {line}: column {missing[0]!r} is missing or empty")
        path = root / row["file"]
        if not path.is_file():
            raise CorpusError(f"{table} line {line}: {row['file']} does not exist")
        try:
            seconds = float(row.get("seconds") or 0)
        except ValueError:
            raise CorpusError(f"{table} line {line}: seconds is {row['seconds']!r}, not a number") from None
        recordings.append(
            Recording(
                path, row["class"], row["split"], row["group"],
                row.get("source_repo") or row["group"].split("/")[0], row.get("licence") or "", seconds, row["file"],
            )
        )
    return recordings


def _read_tree(root: Path) -> list[Recording]:
    recordings = []
    for path in sorted(root.glob("*/**/*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
            below = path.relative_to(root)
            group = below.parent.as_posix() if len(below.parts) > 2 else below.with_suffix("").as_posix()
            recordings.append(
                Recording(path, below.parts[0], split_of(group), group, below.parts[0], name=below.as_posix())
            )
    return recordings


def split_of(group: str) -> str:
    """Return the split of a group in a plain tree: 65 % train, 10 % validation, 25 % test (003, section III)."""
    place = int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") / 2**32
    return "train" if place < 0.65 else "validation" if place < 0.75 else "test"


def _check(root: Path, recordings: Iterable[Recording], classes: Sequence[str]) -> None:
    split_of_group: dict[str, str] = {}
    seen: set[Path] = set()
    for r in recordings:
        if r.path in seen:
            raise CorpusError(f"{r.path}: is listed twice")
        seen.add(r.path)
        if r.label not in classes:
            raise CorpusError(f"{r.path}: class {r.label!r} is not one of {', '.join(classes)}")
        if r.split not in SPLITS:
            raise CorpusError(f"{r.path}: split {r.split!r} is not one of {', '.join(SPLITS)}")
        if split_of_group.setdefault(r.group, r.split) != r.split:
            raise CorpusError(
                f"{root}: group {r.group!r} is in {split_of_group[r.group]} and in {r.split}; "
                "a group must not be cut apart"
            )


def attribution(recordings: Iterable[Recording]) -> list[tuple[str, str, int]]:
    """Return (source, licence, number of files), most files first: the table a model card needs."""
    counts = Counter((r.source, r.licence) for r in recordings)
    return [(source, licence, n) for (source, licence), n in counts.most_common()]
