"""MUSAN, a music, speech and noise corpus (Snyder, Chen & Povey, arXiv 1510.08484; openslr.org/17).

``musan/{music,speech,noise}/SOURCE/CLASS-SOURCE-0000.wav``; a source's folder may hold

* ``ANNOTATIONS``: for music ``id genre[,genre] vocals(Y|N) artist``, for speech ``id gender language``;
* ``LICENSE``: blocks between lines of ``=``, each naming files and their licence, or one licence for all.

The corpus defines no splits. Music is grouped by artist across all sources. Speech and noise carry no speaker or
place, so each file is a group; neighbouring ``us-gov`` files may come from one hearing, which the corpus does not tell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edge_runtime import CorpusError

from ..recording import Recording, split_of
from .files import audio_files, slug, subfolders, text_of

CLASSES = ("speech", "music", "noise")
_NAME = re.compile(r"\b(?:music|speech|noise)-[a-z-]+-\d+\b")
_URL = re.compile(r"creativecommons\.org/licenses/([a-z-]+)/([\d.]+)", re.IGNORECASE)
_WORDS = (  # in a licence's written-out name, and in its short one
    ("NC", re.compile(r"non-?\s?commercial|\bnc\b|-nc\b", re.IGNORECASE)),
    ("ND", re.compile(r"no-?\s?deriv|\bnd\b|-nd\b", re.IGNORECASE)),
    ("SA", re.compile(r"share-?\s?alike|\bsa\b|-sa\b", re.IGNORECASE)),
)
_LINE = re.compile(r"licen[cs]e|creative commons|attribution|\bcc[ -]?by|\bcc0|public domain", re.IGNORECASE)


def matches(root: Path) -> bool:
    """Say whether a folder holds MUSAN: its files carry class and source in their names."""
    return any(_NAME.fullmatch(path.stem) for name in CLASSES for path in root.glob(f"{name}/*/{name}-*.wav"))


def read(root: Path, classes: Sequence[str] = CLASSES) -> list[Recording]:
    """Return MUSAN's recordings of the classes asked for.

    Raises
    ------
    CorpusError
        If no music folder has ANNOTATIONS, so that artists could not be kept together.
    """
    recordings = []
    for label in (c for c in CLASSES if c in classes and (root / c).is_dir()):
        sources = subfolders(root / label)
        if label == "music" and sources and not any((s / "ANNOTATIONS").is_file() for s in sources):
            raise CorpusError(
                f"{root / 'music'}: no SOURCE/ANNOTATIONS, so an artist could be in two splits; unpack MUSAN again"
            )
        for source in sources:
            artists = _artists(source / "ANNOTATIONS") if label == "music" else {}
            fallback, licences = read_licences(source / "LICENSE")
            for path in audio_files(source):
                artist = artists.get(path.stem, "")
                group = f"musan/{label}/{slug(artist) if artist else path.stem}"
                recordings.append(
                    Recording(
                        path, label, split_of(group), group, f"MUSAN {source.name}",
                        licences.get(path.stem, fallback) or "see LICENSE", 0.0, path.relative_to(root).as_posix(),
                        artist.replace("_", " "),
                    )
                )  # fmt: skip
    return recordings


def _artists(path: Path) -> dict[str, str]:
    rows = (line.split(maxsplit=3) for line in text_of(path).splitlines()) if path.is_file() else ()
    return {row[0]: row[3].strip() for row in rows if len(row) == 4}


def read_licences(path: Path) -> tuple[str, dict[str, str]]:
    """Return the licence of a whole source, '' if there is none, and those of single files by their names.

    A block that names files but no licence takes that of the last block that named no file.
    """
    if not path.is_file():
        return "", {}
    common, single = "", {}
    for block in re.split(r"(?m)^=+\s*$", text_of(path)):
        names, licence = _NAME.findall(block), licence_in(_NAME.sub("", block))
        if names:
            single.update(dict.fromkeys(names, licence or common))
        elif licence:
            common = licence
    return common, single


def licence_in(text: str) -> str:
    """Return the short name of the first licence that a text names, or ''.

    Examples
    --------
    >>> licence_in("http://creativecommons.org/licenses/by-nc-sa/3.0/us/")
    'CC BY-NC-SA 3.0'
    >>> licence_in("Attribution-ShareAlike 4.0 International")
    'CC BY-SA 4.0'
    >>> licence_in("This recording is in the public domain.")
    'Public domain'
    """
    if url := _URL.search(text):
        return f"CC {url[1].upper()} {url[2].rstrip('.')}"
    line = next((line for line in text.splitlines() if _LINE.search(line)), "")
    if re.search(r"\bcc0|creative commons zero", line, re.IGNORECASE):
        return "CC0"
    if re.search("public domain", line, re.IGNORECASE):
        return "Public domain"
    if re.search(r"attribution|\bcc[ -]?by|creative commons", line, re.IGNORECASE):
        version = re.search(r"\d\.\d", line)
        parts = [short for short, word in _WORDS if word.search(line)]
        # a licence's parts stand in this order in its name: BY-NC-ND, BY-NC-SA
        return f"CC {'-'.join(['BY', *parts])}" + (f" {version[0]}" if version else "")
    return line.strip()[:60]
