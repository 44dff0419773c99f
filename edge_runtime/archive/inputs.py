"""FILE, DIR and GLOB arguments to recordings, each once, with a name that its outputs are called by."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

SUFFIXES = frozenset(
    (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64",
     ".rf64", ".wv", ".m4a", ".webm")
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A recording.

    Attributes
    ----------
    path : str
        As it is opened and as it is reported.
    name : str
        Relative path without suffix for its outputs; no two are alike.
    """

    path: str
    name: str


@dataclass(frozen=True)
class Refused:
    """An argument, or a folder in one, that gives no recordings, and why."""

    path: str
    message: str


def find(arguments: Sequence[str]) -> tuple[list[Source], list[Refused]]:
    """Return the recordings that arguments mean, in order and each once, and what cannot be used.

    A file is taken whatever it is called; in a folder, and below it, what has the suffix of a recording (`SUFFIXES`).
    What is neither file nor folder may be a pattern with ``*``, ``?``, ``[...]`` and ``**``.
    """
    found: dict[str, str] = {}  # real path to path
    names: dict[str, PurePath] = {}
    refused: list[Refused] = []

    def add(path: str, name: PurePath) -> None:
        real = os.path.realpath(path)
        if real not in found:
            found[real], names[real] = path, name

    for argument in arguments:
        paths = [argument]
        if not os.path.lexists(argument):
            paths = sorted(glob.glob(argument, recursive=True))
            if not paths:
                kind = "no file matches" if glob.has_magic(argument) else "no such file or folder"
                refused.append(Refused(argument, f"{argument}: {kind}; check the path"))
        for path in paths:
            if not os.path.isdir(path):
                add(path, PurePath(os.path.basename(path)))
                continue
            before = len(found), len(refused)
            for inner in _walk(path, refused):
                add(inner, PurePath(os.path.relpath(inner, path)))
            if (len(found), len(refused)) == before:
                refused.append(Refused(path, f"{path}: holds no recordings; name a folder with some"))
    return [Source(found[real], name) for real, name in _unique(names)], refused


def _walk(folder: str, refused: list[Refused]) -> Iterator[str]:
    def cannot(error: OSError) -> None:
        where = error.filename or folder
        refused.append(Refused(where, f"{where}: cannot be read ({error.strerror}); check its permissions"))

    for root, folders, files in os.walk(folder, onerror=cannot):
        folders.sort()
        for file in sorted(files):
            if Path(file).suffix.lower() in SUFFIXES and not file.startswith("."):
                yield os.path.join(root, file)


def _unique(names: dict[str, PurePath]) -> Iterator[tuple[str, str]]:
    """Yield real paths with names: without suffix; where two would be alike, with it; then numbered."""
    stems: dict[str, int] = {}
    for name in names.values():
        stem = str(name.with_suffix(""))
        stems[stem] = stems.get(stem, 0) + 1
    taken: set[str] = set()
    for real, name in names.items():
        stem = str(name.with_suffix(""))
        wanted = stem if stems[stem] == 1 else str(name)
        unique, number = wanted, 2
        while unique in taken:
            unique, number = f"{wanted}-{number}", number + 1
        taken.add(unique)
        yield real, unique
