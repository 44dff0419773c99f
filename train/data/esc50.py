"""ESC-50, environmental sounds (Piczak, ACM Multimedia 2015; github.com/karolpiczak/ESC-50).

``meta/esc50.csv`` (``filename,fold,target,category,esc10,src_file,take``) and ``audio/FOLD-CLIP-TAKE-TARGET.wav``, 2000
clips of 5 s. The five folds keep clips of one Freesound recording together: folds 1 to 3 train, 4 validates, 5 tests.
For speech / music / noise every clip is noise, the human sounds too (none is speech); as classes one may also ask for
the five groups or for the categories themselves. ``LICENSE`` names author and licence of every clip.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from edge_runtime import CorpusError

from ..recording import Recording
from .files import first_of, text_of

SPLIT_OF_FOLD = {"1": "train", "2": "train", "3": "train", "4": "validation", "5": "test"}
# Ten categories each, in the order of their numbers (column target).
GROUPS = ("animals", "nature", "human", "interior", "exterior")
_COLUMNS = ("filename", "fold", "target", "category", "src_file")
_CREDIT = re.compile(r"\[?(\d-\d+-[A-Z])[^:\]]*\]?\s*:\s*clip derived from .*\) by (.+?) \[([^\]]+)\]\s*$")


def matches(root: Path) -> bool:
    """Say whether a folder holds ESC-50."""
    return (root / "meta" / "esc50.csv").is_file()


def read(root: Path, classes: Sequence[str]) -> list[Recording]:
    """Return ESC-50's clips: by category, by group, or as noise, whichever is among the classes.

    Raises
    ------
    CorpusError
        If a row makes no sense or its file is missing.
    """
    table = root / "meta" / "esc50.csv"
    credits = read_credits(root / "LICENSE")
    recordings = []
    for line, row in enumerate(csv.DictReader(text_of(table).splitlines()), start=2):
        if missing := [c for c in _COLUMNS if not row.get(c)]:
            raise CorpusError(f"{table} line {line}: column {missing[0]!r} is missing or empty")
        if row["fold"] not in SPLIT_OF_FOLD:
            raise CorpusError(f"{table} line {line}: fold {row['fold']!r} is not one of {', '.join(SPLIT_OF_FOLD)}")
        if not (row["target"].isdecimal() and int(row["target"]) < 50):
            raise CorpusError(f"{table} line {line}: target {row['target']!r} is not a number from 0 to 49")
        path = root / "audio" / row["filename"]
        if not path.is_file():
            raise CorpusError(f"{table} line {line}: audio/{row['filename']} does not exist; unpack ESC-50 again")
        label = first_of((row["category"], GROUPS[int(row["target"]) // 10], "noise"), classes)
        if label is None:
            continue
        author, licence = credits.get("-".join(path.stem.split("-")[:3]), ("", ""))
        whole = "CC BY 3.0" if row.get("esc10") == "True" else "CC BY-NC 3.0"
        recordings.append(
            Recording(
                path, label, SPLIT_OF_FOLD[row["fold"]], f"esc-50/{row['src_file']}", "ESC-50",
                f"{whole} (clip {licence})" if licence else whole, 5.0, f"audio/{row['filename']}", author,
            )
        )  # fmt: skip
    return recordings


def read_credits(path: Path) -> dict[str, tuple[str, str]]:
    """Return (author, licence) of each clip, keyed by ``FOLD-CLIP-TAKE``."""
    found = {}
    for line in text_of(path).splitlines() if path.is_file() else ():
        if entry := _CREDIT.search(line.lstrip(" -*")):
            found[entry[1]] = (entry[2], entry[3])
    return found
