"""Writing files in one step: a reader sees the old file or all of the new one, of a log whole lines."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import EdgeBenchError


@contextmanager
def write_aside(path: str | Path, *, parents: bool = True) -> Iterator[Path]:
    """Give a name beside `path` to write to; on success it is flushed to disk and renamed, else removed.

    Missing folders above it are made, unless `parents` is False. A device or a pipe, such as /dev/null, is written to
    itself: a rename would put a file in its place.

    Raises
    ------
    EdgeBenchError
        If the folder cannot be written to or the disk is full.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            yield path
            return
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        aside = Path(name)
        try:
            yield aside
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            aside.chmod(0o666 & ~mask)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise EdgeBenchError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_text(path: str | Path, text: str, *, parents: bool = True) -> None:
    """Write a file of UTF-8 text in one step; see `write_aside`."""
    with write_aside(path, parents=parents) as aside:
        aside.write_text(text, encoding="utf-8")


def append_json(path: str | Path, value: Any) -> None:
    """Add a line of JSON to a log and see it on the disk; what a kill left of an unfinished line goes.

    Raises
    ------
    EdgeBenchError
        If it cannot be written.
    """
    import fcntl

    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # several processes may share the file
            file.seek(0)
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
            file.write(json.dumps(value).encode() + b"\n")
            file.flush()
            if path.is_file():  # and not a device
                os.fsync(file.fileno())
    except OSError as error:
        raise EdgeBenchError(f"{path}: cannot be written: {error.strerror or error}") from None
