"""The two GTZAN collections of George Tzanetakis (marsyas.info): music/speech, and genres.

Music/speech: 64 files of 30 s in ``music_wav/`` and as many in ``speech_wav/``. Files whose names differ in a trailing
number only (``dialogue1``, ``dialogue2``) are taken for parts of one recording and kept together.

Genres: ``GENRE/GENRE.00000.wav`` (or ``.au``), ten genres of 100 files of 30 s. Artists repeat and are not named in the
files (Sturm, arXiv 1306.1461), so a split by file is optimistic about genres. One file, jazz.00054, is damaged in
most copies; it is left out where it cannot be read. Neither collection defines splits or states a licence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_runtime import AudioError, audio

from ..recording import Recording, split_of
from .files import audio_files, first_of

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
LICENCE = "not stated (research use)"
DAMAGED = "jazz.00054"
_FOLDERS = {"music_wav": "music", "speech_wav": "speech"}


def matches_music_speech(root: Path) -> bool:
    """Say whether a folder holds the music/speech collection."""
    return any((root / name).is_dir() for name in _FOLDERS)


def read_music_speech(root: Path, classes: Sequence[str]) -> list[Recording]:
    """Return the recordings of music/speech whose class is asked for."""
    recordings = []
    for name, label in _FOLDERS.items():
        if label in classes and (root / name).is_dir():
            for path in audio_files(root / name):
                group = f"gtzan-music-speech/{label}/{re.sub(r'[_-]?[0-9]+$', '', path.stem) or path.stem}"
                recordings.append(_recording(root, path, label, group, "GTZAN music/speech"))
    return recordings


def matches_genres(root: Path) -> bool:
    """Say whether a folder holds the genres."""
    return any(True for _ in _genre_files(root))


def read_genres(root: Path, classes: Sequence[str]) -> list[Recording]:
    """Return the genre recordings: as genres if their names are among the classes, else as music."""
    recordings = []
    for genre, path in _genre_files(root):
        label = first_of((genre, "music"), classes)
        if label is not None and (path.stem != DAMAGED or _opens(path)):
            recordings.append(_recording(root, path, label, f"gtzan-genres/{path.stem}", "GTZAN genres"))
    return recordings


def _genre_files(root: Path) -> Iterator[tuple[str, Path]]:
    for genre in GENRES:
        if (root / genre).is_dir():
            for path in audio_files(root / genre):
                if re.fullmatch(rf"{genre}\.\d{{5}}", path.stem):
                    yield genre, path


def _recording(root: Path, path: Path, label: str, group: str, source: str) -> Recording:
    return Recording(path, label, split_of(group), group, source, LICENCE, 0.0, path.relative_to(root).as_posix())


def _opens(path: Path) -> bool:
    try:
        audio.load(path)
    except AudioError:
        return False
    return True
