"""Recognise the layout of a known collection by what lies in a folder, and read it as recordings.

A layout is recognised in the folder itself or in its only subfolder, which is what unpacking an archive often leaves.
Unlike a plain tree, a known collection may hold classes that are not asked for: those are left out, so MUSAN trains
speech against music with ``classes = ["speech", "music"]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime import CorpusError

from ..recording import Recording
from . import annotated, esc50, gtzan, musan


@dataclass(frozen=True)
class Layout:
    """How one collection lies on disk.

    Attributes
    ----------
    name : str
    looks_like : str
        For people: what is looked for.
    offers : tuple of str
        Sets of classes that it can give, for people.
    matches : callable
        Whether a folder is one.
    read : callable
        Recordings whose class is among those asked for.
    """

    name: str
    looks_like: str
    offers: tuple[str, ...]
    matches: Callable[[Path], bool]
    read: Callable[[Path, Sequence[str]], list[Recording]]


LAYOUTS = (
    Layout(
        "musan", "{music,speech,noise}/SOURCE/music-SOURCE-0000.wav", ("speech, music, noise",), musan.matches,
        musan.read,
    ),
    Layout(
        "gtzan-music-speech", "music_wav/, speech_wav/", ("speech, music",), gtzan.matches_music_speech,
        gtzan.read_music_speech,
    ),
    Layout(
        "gtzan-genres", "GENRE/GENRE.00000.wav or .au", ("music", ", ".join(gtzan.GENRES)), gtzan.matches_genres,
        gtzan.read_genres,
    ),
    Layout(
        "esc-50", "meta/esc50.csv, audio/", ("noise", ", ".join(esc50.GROUPS), "its 50 categories"), esc50.matches,
        esc50.read,
    ),
)  # fmt: skip


def recognise(root: Path) -> tuple[Layout, Path] | None:
    """Return the layout of a folder and the folder where it begins, or None for an unknown one."""
    for folder in places(root):
        for layout in LAYOUTS:
            if layout.matches(folder):
                return layout, folder
    return None


def places(root: Path) -> tuple[Path, ...]:
    """Return the folder and, if it holds nothing else, its only subfolder."""
    inside = [p for p in root.iterdir() if not p.name.startswith(".") and p.name != "__MACOSX"]
    folders = [p for p in inside if p.is_dir()]
    return (root, folders[0]) if len(folders) == len(inside) == 1 else (root,)


def read(root: Path, classes: Sequence[str]) -> list[Recording] | None:
    """Return the recordings of a known collection, or None when the folder is none.

    Raises
    ------
    CorpusError
        If the collection is damaged, holds none of the classes, or is one for segmentation.
    """
    found = recognise(root)
    if found is None:
        if any(annotated.matches(folder) for folder in places(root)):
            raise CorpusError(
                f"{root}: holds long recordings with annotated segments, which segmentation is scored on; "
                "training and evaluate need one class a file"
            )
        return None
    layout, folder = found
    recordings = layout.read(folder, classes)
    if not recordings:
        raise CorpusError(
            f"{root}: {layout.name} has no recording of {', '.join(classes)}; it offers {' or '.join(layout.offers)}"
        )
    return recordings
