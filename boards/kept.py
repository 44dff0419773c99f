"""What was fetched or built for boards and is kept for the next time, each folder whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.errors import ConfigError

from . import wheels


def cache_folder() -> Path:
    """Return where downloads are kept: ``EDGE_BENCH_CACHE`` or ``~/.cache/edge-bench``, and ``boards`` in it."""
    base = os.environ.get("EDGE_BENCH_CACHE")
    return (Path(base) if base else Path.home() / ".cache" / "edge-bench") / "boards"


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Keep two processes from making `name` in a folder at a time; names do not wait for each other."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f".{name}.lock").open("w")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kept(folder: Path, fill: Callable[[Path], None]) -> list[Path]:
    """Return the files of a folder of the cache, which `fill` fills when it is not there: whole or not at all."""
    with locked(folder.parent, folder.name):
        if not folder.is_dir():
            aside = folder.with_name(folder.name + ".partial")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            try:
                fill(aside)
                aside.rename(folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return sorted(path for path in folder.iterdir() if path.is_file())


def named(prefix: str, *what: str) -> str:
    """Return a name for a folder of the cache that changes with what is wanted."""
    return f"{prefix}-{hashlib.sha256(' '.join(what).encode()).hexdigest()[:12]}"


def own_wheel(cache: Path) -> Path:
    """Return our own wheel, built unless it is there; those of earlier sources go."""
    ours = cache / named("own", wheels.fingerprint())
    (wheel,) = kept(ours, _build)
    for old in cache.glob("own-*"):
        if old != ours:
            shutil.rmtree(old, ignore_errors=True)
    return wheel


def _build(folder: Path) -> None:
    wheels.own(folder)


def wheels_for(cache: Path, wanted: list[str], *, python: str = "3.11", architecture: str = "aarch64") -> list[Path]:
    """Return wheels for another machine, fetched unless they are there; see `wheels.download`."""
    folder = cache / named("wheels", python, architecture, *wanted)
    return kept(folder, lambda f: wheels.download(f, wanted, python=python, architecture=architecture))
