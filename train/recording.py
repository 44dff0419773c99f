"""A labelled recording and the split that it belongs to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "validation", "test")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".au")


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
    credit : str
        Author or artist, for the model card.
    """

    path: Path
    label: str
    split: str
    group: str
    source: str = ""
    licence: str = ""
    seconds: float = 0.0
    name: str = ""
    credit: str = ""


def split_of(group: str) -> str:
    """Return the split of a group in a plain tree: 65 % train, 10 % validation, 25 % test (003, section III)."""
    place = int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") / 2**32
    return "train" if place < 0.65 else "validation" if place < 0.75 else "test"
