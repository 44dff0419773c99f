"""Every change that an agent makes on disk, as a handful of small operations.

Nothing else writes, so a test can stand between each two of them: kill the process, fail, or record them and replay
what a power cut would have left. A file's content is safe after `sync`, its name after `sync_folder`.
"""

from __future__ import annotations

import hashlib
import os

PIECE = 1 << 16


def write(path: str, data: bytes) -> None:
    """Write a new file, or over an old one. Never follows a link."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view[:PIECE]) :]
    finally:
        os.close(handle)


def sync(path: str) -> None:
    """Wait until a file's content is on the medium."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: str) -> None:
    """Wait until the names in a folder are on the medium."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(old: str, new: str) -> None:
    """Give a file or link another name; whatever had that name is gone, in one step."""
    os.replace(old, new)


def link(target: str, path: str) -> None:
    """Make a symbolic link."""
    os.symlink(target, path)


def remove(path: str) -> None:
    """Remove a file or link."""
    os.unlink(path)


def make_folder(path: str) -> None:
    """Make a folder."""
    os.mkdir(path, 0o755)


def put(path: str, data: bytes) -> None:
    """Write a file so that at every moment the old content or the new is there, and the new is safe at the end."""
    aside = path + ".part"
    write(aside, data)
    sync(aside)
    rename(aside, path)
    sync_folder(os.path.dirname(path))


def point(path: str, target: str) -> None:
    """Make a link point elsewhere in one step, safe at the end."""
    aside = path + ".part"
    if os.path.lexists(aside):
        remove(aside)
    link(target, aside)
    rename(aside, path)
    sync_folder(os.path.dirname(path))


def clear(folder: str) -> None:
    """Remove the files in a folder."""
    names = os.listdir(folder)
    for name in names:
        remove(os.path.join(folder, name))
    if names:
        sync_folder(folder)


def read(path: str, *, from_medium: bool = False) -> bytes:
    """Return a file's content; `from_medium` drops what the system remembers of it first, where it can."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if from_medium and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        parts = []
        while piece := os.read(handle, PIECE):
            parts.append(piece)
        return b"".join(parts)
    finally:
        os.close(handle)


def sha256(path: str, *, from_medium: bool = False) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(read(path, from_medium=from_medium)).hexdigest()


def free(path: str) -> int:
    """Return the bytes that may still be written."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
