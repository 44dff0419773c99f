"""Unpack a tar or zip archive that comes from elsewhere: regular files below the target, nothing else.

An entry with an absolute path or ``..`` refuses the whole archive; so do links out of it, devices and an archive that
unpacks to far more than was announced. Links inside are skipped: no collection needs them.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from edge_runtime import CorpusError

Progress = Callable[[str, int, int], None]
Files = dict[str, tuple[int, str]]  # bytes and sha256 by path
_BLOCK = 2**20


def unpack(archive: Path, target: Path, *, limit: int, progress: Progress | None = None) -> Files:
    """Write an archive's files below `target` and return bytes and sha256 of each by its path there.

    Parameters
    ----------
    limit : int
        Bytes that it may unpack to.

    Raises
    ------
    CorpusError
        If it is damaged, no archive, tries to write elsewhere, or is larger than `limit`.
    OSError
        If the disk is full.
    """
    written: Files = {}
    total = 0
    size = archive.stat().st_size
    try:
        for name, source, done in _entries(archive):
            path = _inside(archive, name)
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            digest, count = hashlib.sha256(), 0
            with place.open("xb") as file:
                while block := source.read(_BLOCK):
                    total += len(block)
                    if total > limit:
                        raise CorpusError(f"{archive}: unpacks to more than {limit:,} bytes; not the expected archive")
                    file.write(block)
                    digest.update(block)
                    count += len(block)
            written[path] = (count, digest.hexdigest())
            if progress:
                progress("unpacking", done, size)
        if progress:
            progress("unpacking", size, size)
    except FileExistsError as error:
        raise CorpusError(f"{archive}: holds {Path(error.filename).name} twice; not the expected archive") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CorpusError(f"{archive}: is damaged, or no tar or zip ({error}); delete and fetch it again") from None
    return written


def _entries(archive: Path) -> Iterator[tuple[str, IO[bytes], int]]:
    """Yield name, content and the position in the archive of each regular file."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            done = 0
            for entry in opened.infolist():
                done += entry.compress_size
                kind = stat.S_IFMT(entry.external_attr >> 16)
                _inside(archive, entry.filename)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                    raise CorpusError(f"{archive}: {entry.filename} is no regular file; not the expected archive")
                if not entry.is_dir() and kind != stat.S_IFLNK:
                    with opened.open(entry) as source:
                        yield entry.filename, source, done
        return
    with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|*") as tar:
        for member in tar:
            _inside(archive, member.name)
            if member.issym() or member.islnk():
                _inside(archive, os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname))
                        if member.issym() else member.linkname)  # fmt: skip
            elif member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                yield member.name, content, raw.tell()
            elif not member.isdir():
                raise CorpusError(f"{archive}: {member.name} is no regular file; not the expected archive")


def _inside(archive: Path, name: str) -> str:
    """Return the normal form of an entry's path, which must stay below the target."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts[:1] and path.parts[0][1:2] == ":"):
        raise CorpusError(f"{archive}: {name!r} would be written outside its folder; not the expected archive")
    return path.as_posix()
