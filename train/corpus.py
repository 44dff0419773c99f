"""Recordings with labels and splits, read from a folder.

Three kinds of folder are understood:

* a folder with ``SOURCES.csv``, whose columns are at least ``file, class, split, group`` (``seconds``,
  ``licence``, ``source_repo`` are used when present);
* a plain tree ``CLASS/anything/file.wav``. The group is the path below the class up to the file name,
  or, for files directly in the class folder, the file itself; groups go to train, validation or test by a
  hash of their name, so adding a recording never moves another one;
* a known collection (MUSAN, GTZAN, ESC-50) as its archive unpacks; see `edge_bench.train.data.layouts`.

A split is made of whole groups, never of clips: a group that sits in two splits is an error.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from edge_runtime import CorpusError

from .data import layouts
from .recording import AUDIO_SUFFIXES, SPLITS, Recording, split_of

__all__ = ["AUDIO_SUFFIXES", "SPLITS", "Corpus", "Recording", "attribution", "credits", "load", "split_of"]
DEFAULT_CLASSES = ("speech", "music", "noise")


@dataclass(frozen=True)
class Corpus:
    """A set of recordings and the order of its classes.

    Attributes
    ----------
    root : Path
    recordings : tuple of Recording
    classes : tuple of str
    complete : bool
        Whether every class must occur in every split that is used: training needs it, evaluation does not.
    """

    root: Path
    recordings: tuple[Recording, ...]
    classes: tuple[str, ...]
    complete: bool = True

    def split(self, name: str) -> tuple[Recording, ...]:
        """Return the recordings of one split.

        Raises
        ------
        CorpusError
            If the split is unknown or empty, or lacks a class that must occur.
        """
        if name not in SPLITS:
            raise CorpusError(f"split {name!r} is unknown, must be one of {', '.join(SPLITS)}")
        chosen = tuple(r for r in self.recordings if r.split == name)
        missing = sorted(set(self.classes) - {r.label for r in chosen})
        if missing and (self.complete or not chosen):
            there = [c for c in self.classes if any(r.label == c for r in self.recordings)]
            hint = "" if len(there) == len(self.classes) or len(there) < 2 else (
                f"; the corpus holds {', '.join(there)} only: put classes = {json.dumps(there)} into the recipe, "
                "or add a folder with --extra"
            )
            raise CorpusError(f"{self.root}: split {name!r} has no recording of {', '.join(missing)}{hint}")
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
    root: str | Path,
    *,
    classes: Sequence[str] = DEFAULT_CLASSES,
    extra: Sequence[Path] = (),
    leave_out: Sequence[str] = (),
    complete: bool = True,
) -> Corpus:
    """Read a corpus folder and, if given, others that are added to it.

    Parameters
    ----------
    root : path
        Folder of one of the kinds above.
    classes : sequence of str
        Class names in the order of the network's outputs. Others in a table or a plain tree are an error; others
        in a known collection are left out.
    extra : sequence of path
        More folders, such as the one that `edge_bench.train.midi` renders, or another collection.
    leave_out : sequence of str
        Classes of the corpus that do not concern a network, such as noise in music against speech.
    complete : bool
        See `Corpus`.

    Raises
    ------
    CorpusError
        For a missing folder, table or file, an unknown class or split, or a group in two splits.
    """
    root = Path(root)
    recordings = [r for r in _read(root, extra, classes) if r.label not in leave_out]
    _check(root, recordings, classes)
    return Corpus(root, tuple(recordings), tuple(classes), complete)


def labels(root: str | Path, *, extra: Sequence[Path] = ()) -> set[str]:
    """Return the names of all classes that a corpus folder has; of a known collection, those of the three it has."""
    return {r.label for r in _read(Path(root), extra, DEFAULT_CLASSES)}


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not there.

    Raises
    ------
    CorpusError
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder; give the corpus folder (EDGE_BENCH_CORPUS)")


def _read(root: Path, extra: Sequence[Path], classes: Sequence[str]) -> list[Recording]:
    recordings = []
    for folder in (root, *map(Path, extra)):
        check_folder(folder)
        table = folder / "SOURCES.csv"
        found = _read_table(folder, table) if table.is_file() else layouts.read(folder, classes) or _read_tree(folder)
        if not found:
            raise CorpusError(
                f"{folder}: no recordings; expected SOURCES.csv or CLASS/file.wav ({', '.join(AUDIO_SUFFIXES)}), "
                f"or {', '.join(x.name for x in layouts.LAYOUTS)} as it unpacks"
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
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("._") and path.is_file():
            below = path.relative_to(root)
            group = below.parent.as_posix() if len(below.parts) > 2 else below.with_suffix("").as_posix()
            recordings.append(
                Recording(path, below.parts[0], split_of(group), group, below.parts[0], name=below.as_posix())
            )
    return recordings


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


def credits(recordings: Iterable[Recording]) -> dict[str, list[str]]:
    """Return the authors and artists of each source, by name, where the corpus names them."""
    found: dict[str, set[str]] = {}
    for r in recordings:
        if r.credit:
            found.setdefault(r.source, set()).add(r.credit)
    return {source: sorted(names, key=str.casefold) for source, names in sorted(found.items())}
