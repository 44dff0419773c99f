"""Folders of recordings that `edge_bench.train.corpus.load` takes beside a corpus (``--extra``)."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edge_runtime import CorpusError

COLUMNS = ("file", "class", "split", "group", "seconds", "licence", "source_repo")


@contextmanager
def making(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` to write into, which becomes `out` in the end; after an error nothing is left of it.

    A training would take half a folder without a word.

    Raises
    ------
    CorpusError
        If `out` holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CorpusError(f"{out}: exists already; move it away, or name another folder with --out")
    aside = out.with_name(f"{out.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        yield aside
        aside.replace(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_table(folder: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write ``SOURCES.csv``; a row has a value for each of `COLUMNS`."""
    with (folder / "SOURCES.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
