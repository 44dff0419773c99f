"""What the readers of collections share: listing audio, reading small text files, choosing a class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_runtime import CorpusError

from ..recording import AUDIO_SUFFIXES


def audio_files(folder: Path) -> Iterator[Path]:
    """Yield the audio files directly in a folder, by name; not macOS' ``._`` companions, which some archives carry."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("._") and path.is_file():
            yield path


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def text_of(path: Path) -> str:
    """Return a text file's content; bytes that are not UTF-8 are taken as Latin-1.

    Raises
    ------
    CorpusError
        If it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def first_of(candidates: Sequence[str], classes: Sequence[str]) -> str | None:
    """Return the first candidate that is among the classes.

    Examples
    --------
    >>> first_of(("dog", "animals", "noise"), ("speech", "music", "noise"))
    'noise'
    """
    return next((c for c in candidates if c in classes), None)


def slug(text: str) -> str:
    """Return a name that does not depend on case, spaces or underscores.

    Examples
    --------
    >>> slug("Quiet_Music for Tiny_Robots")
    'quiet-music-for-tiny-robots'
    """
    return re.sub(r"[\s_-]+", "-", text.strip().casefold()).strip("-")
