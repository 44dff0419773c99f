"""Archives in the ``newc`` format of cpio, which Linux unpacks as its first root.

Source: Linux' Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO


class Archive:
    """Writes entries to a stream; folders above an entry are made."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._number = 0
        self._folders: set[str] = set()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._entry("TRAILER!!!", b"", 0, 0)

    def folder(self, name: str) -> None:
        """Add a folder unless it is there."""
        if name and name not in self._folders:
            self.folder(name.rpartition("/")[0])
            self._folders.add(name)
            self._entry(name, b"", stat.S_IFDIR | 0o755, 0)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self.folder(name.rpartition("/")[0])
        self._entry(name, target.encode(), stat.S_IFLNK | 0o777, 0)

    def text(self, name: str, text: str, *, mode: int = 0o644) -> None:
        """Add a file with a text."""
        self.folder(name.rpartition("/")[0])
        self._entry(name, text.encode(), stat.S_IFREG | mode, 0)

    def add(self, name: str, file: Path) -> None:
        """Add a file or a link of this machine, with its time: Python trusts its compiled files by it."""
        if file.is_symlink():
            self.link(name, os.readlink(file))
            return
        about = file.stat()
        self.folder(name.rpartition("/")[0])
        self._entry(name, file.read_bytes(), stat.S_IFREG | stat.S_IMODE(about.st_mode), int(about.st_mtime))

    def _entry(self, name: str, data: bytes, mode: int, time: int) -> None:
        self._number += 1
        path = name.encode() + b"\0"
        fields = (self._number, mode, 0, 0, 1, time, len(data), 0, 0, 0, 0, len(path), 0)
        head = b"070701" + "".join(f"{field:08X}" for field in fields).encode() + path
        self._stream.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))
