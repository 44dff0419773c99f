"""Long recordings whose segments are annotated, as in MIREX' music and speech detection (2015, 2018).

Beside ``NAME.wav`` (or .mp3, .flac, ...) lies ``NAME.csv``, ``.txt``, ``.tsv`` or ``.lab`` with a line for each
segment: ``onset duration label``, in seconds, separated by tabs (the task's page), commas (the published examples) or
spaces. Labels are ``m`` and ``s``; ``music``, ``speech`` and 2018's ``fg-music``, ``bg-music`` are read too. Music and
speech may overlap. ``NAME_v2.csv`` is a corrected annotation (some examples have one) and wins over ``NAME.csv``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from edge_runtime import CorpusError

from ..recording import AUDIO_SUFFIXES
from .files import audio_files, text_of

LABELS = {"m": "music", "music": "music", "fg-music": "music", "bg-music": "music", "s": "speech", "speech": "speech"}
_SUFFIXES = (".csv", ".txt", ".tsv", ".lab")


@dataclass(frozen=True)
class AnnotatedRecording:
    """A recording and its reference segments.

    Attributes
    ----------
    path : Path
    intervals : tuple of (float, float, str)
        Start and end in seconds, and class, by start; those of different classes may overlap.
    name : str
        Path below the folder.
    source : str
    licence : str
    """

    path: Path
    intervals: tuple[tuple[float, float, str], ...]
    name: str = ""
    source: str = ""
    licence: str = ""


def load(root: str | Path, *, source: str = "", licence: str = "") -> tuple[AnnotatedRecording, ...]:
    """Read all annotated recordings below a folder, by name.

    Raises
    ------
    CorpusError
        If there is none, a recording lacks its annotation, or an annotation makes no sense (with its line).
    """
    root = Path(root)
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder")
    found = []
    for path in _audio_below(root):
        annotation = annotation_of(path)
        if annotation is None:
            raise CorpusError(
                f"{path}: has no annotation; expected {path.stem}.csv (or .txt, .tsv, .lab) beside it with "
                "lines of onset, duration, label"
            )
        found.append(
            AnnotatedRecording(
                path, read_intervals(annotation), path.relative_to(root).as_posix(), source or root.name, licence
            )
        )
    if not found:
        raise CorpusError(f"{root}: no audio with annotations (NAME.wav and NAME.csv)")
    return tuple(found)


def matches(root: Path) -> bool:
    """Say whether a folder holds annotated recordings: audio directly in it has lines of segments beside it."""
    annotations = (annotation_of(path) for path in audio_files(root))
    first = next((a for a in annotations if a is not None), None)
    if first is None:
        return False
    line = next((line for line in text_of(first).splitlines() if _is_content(line)), "")
    return re.match(r"\s*[\d.]+\s*[\t, ]\s*[\d.]+\s*[\t, ]", line) is not None


def _audio_below(root: Path) -> list[Path]:
    return sorted(
        p for p in root.rglob("*")
        if p.suffix.lower() in AUDIO_SUFFIXES and not p.name.startswith("._") and p.is_file()
    )  # fmt: skip


def annotation_of(path: Path) -> Path | None:
    """Return the annotation beside a recording, the corrected one first."""
    for stem in (f"{path.stem}_v2", path.stem):
        for suffix in _SUFFIXES:
            if (candidate := path.with_name(stem + suffix)).is_file():
                return candidate
    return None


def read_intervals(path: Path) -> tuple[tuple[float, float, str], ...]:
    """Return (start, end, class) of each line of an annotation, by start.

    Raises
    ------
    CorpusError
        For a line that is not ``onset duration label``, an unknown label, a negative onset or an empty duration.
    """
    intervals = []
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if not _is_content(line):
            continue
        fields = _fields(line)
        where = f"{path} line {number}"
        if len(fields) != 3:
            raise CorpusError(f"{where}: {len(fields)} fields, expected onset, duration, label")
        try:
            onset, duration = float(fields[0]), float(fields[1])
        except ValueError:
            raise CorpusError(f"{where}: {fields[0]!r}, {fields[1]!r} are not two numbers of seconds") from None
        if not (math.isfinite(onset) and math.isfinite(duration) and onset >= 0 and duration > 0):
            raise CorpusError(f"{where}: onset {onset:g} and duration {duration:g}; expected 0 or more, and above 0")
        label = LABELS.get(fields[2].casefold())
        if label is None:
            raise CorpusError(f"{where}: label {fields[2]!r} is not one of {', '.join(LABELS)}")
        intervals.append((onset, onset + duration, label))
    return tuple(sorted(intervals))


def _is_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _fields(line: str) -> list[str]:
    separator = "\t" if "\t" in line else "," if "," in line else None
    return [f.strip().strip('"') for f in (line.split(separator) if separator else re.split(r"\s+", line.strip()))]
