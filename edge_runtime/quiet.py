"""Keeping what C++ libraries print on standard error ("INFO: Created ...") from the user."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO


@contextmanager
def quiet_stderr() -> Iterator[Callable[[], str]]:
    """Collect what is written to file descriptor 2; the value is a function that returns it so far."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # a service may have closed it
        yield lambda: ""
        return
    try:
        file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    except OSError:  # a board's file system may be read-only
        file = open(os.devnull, "r+b")  # noqa: SIM115
    with file:
        os.dup2(file.fileno(), 2)

        def said() -> str:
            file.seek(0)
            return file.read().decode(errors="replace").strip()

        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)
