"""Read a Debian package: an ``ar`` archive whose member ``data.tar.*`` holds the files (deb(5))."""

from __future__ import annotations

import itertools
import lzma
import posixpath
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO

from edge_runtime import CorpusError

_MAGIC = b"!<arch>\n"
_HEADER = 60
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, NotImplementedError, RuntimeError,
)  # fmt: skip


def extract(
    package: Path, folder: Path, wanted: Callable[[str], bool], *, limit: int = 4 * 10**9
) -> dict[str, Path | None]:
    """Write the wanted files of a package, and of zip archives in it, below `folder` under numbers for names.

    Parameters
    ----------
    wanted : callable
        Whether to take a file, by its path: ``usr/share/...``, in a zip ``usr/share/NAME.zip/path``.
    limit : int
        Bytes that may be written.

    Returns
    -------
    dict
        Files by their paths. A link stands for the file that it points to, or None where that is not in the package.

    Raises
    ------
    CorpusError
        If the package is damaged, or holds more than `limit`.
    """
    files: dict[str, Path | None] = {}
    links: dict[str, str] = {}
    numbers = itertools.count()
    room = limit

    def keep(source: IO[bytes], size: int, suffix: str) -> Path:
        nonlocal room
        room -= size
        if room < 0:
            raise CorpusError(f"{package}: holds more than {limit:,} bytes; not the expected package")
        place = folder / f"{next(numbers)}{suffix}"
        with place.open("xb") as target:
            shutil.copyfileobj(source, target)
        return place

    try:
        with package.open("rb") as raw:
            _seek_data(raw, package)
            with tarfile.open(fileobj=raw, mode="r|*") as tar:
                for member in tar:
                    name = posixpath.normpath(member.name)
                    if member.issym() or member.islnk():
                        links[name] = _target(name, member)
                    content = tar.extractfile(member) if member.isfile() else None
                    if content is None:
                        continue
                    if name.endswith(".zip"):
                        inner = keep(content, member.size, ".zip")
                        with zipfile.ZipFile(inner) as opened:
                            for entry in opened.infolist():
                                path = f"{name}/{entry.filename}"
                                if not entry.is_dir() and wanted(path):
                                    with opened.open(entry) as source:
                                        files[path] = keep(source, entry.file_size, Path(entry.filename).suffix)
                        inner.unlink()
                    elif wanted(name):
                        files[name] = keep(content, member.size, Path(name).suffix)
    except _DAMAGED as error:
        raise CorpusError(f"{package}: is damaged, or no Debian package ({error}); delete and fetch it again") from None
    return {**files, **{name: files.get(target) for name, target in links.items() if wanted(name)}}


def _target(name: str, member: tarfile.TarInfo) -> str:
    """Return the path in the package that a link means."""
    if member.islnk():
        return posixpath.normpath(member.linkname)
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname)).lstrip("/")


def _seek_data(raw: BinaryIO, package: Path) -> None:
    """Go to the first byte of ``data.tar.*``."""
    if raw.read(len(_MAGIC)) != _MAGIC:
        raise CorpusError(f"{package}: is no Debian package; delete and fetch it again")
    while len(header := raw.read(_HEADER)) == _HEADER:
        size = header[48:58].strip()
        if not size.isdigit() or header[58:] != b"`\n":
            break
        if header.startswith(b"data.tar"):
            return
        raw.seek(int(size) + int(size) % 2, 1)
    raise CorpusError(f"{package}: is damaged, has no data.tar; delete and fetch it again")
