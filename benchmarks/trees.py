"""An older `edge_runtime` out of git, so that a gate's baseline can be what was committed."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_runtime import ConfigError


@dataclass(frozen=True)
class Tree:
    """A folder that holds the `edge_runtime` of a commit; put it in front of Python's path."""

    folder: Path
    commit: str

    def bundle(self, name: str) -> str:
        """Return the path of a shipped bundle as it was then; any other name or path is returned as it is."""
        then = self.folder / "edge_runtime" / "models" / f"{name}.tflite"
        return str(then) if then.is_file() else name


def commit_of(ref: str, *, where: Path | None = None) -> str | None:
    """Return the full hash of a branch, tag or commit of the repository in `where`; None if git knows no such."""
    if not re.fullmatch(r"[\w][\w./@{}^~+-]*", ref):
        return None
    done = _git(["rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"], where)
    return done.decode().strip() if done else None


def has_runtime(commit: str, *, where: Path | None = None) -> bool:
    """Return whether a commit holds an `edge_runtime`."""
    return bool(_git(["cat-file", "-t", f"{commit}:edge_runtime/__init__.py"], where))


@contextmanager
def tree(ref: str, *, where: Path | None = None) -> Iterator[Tree]:
    """Give the `edge_runtime` of a commit in a folder that goes when the block ends.

    Parameters
    ----------
    ref : str
        Branch, tag or commit.
    where : Path, optional
        A folder of the repository; this process' own by default.

    Raises
    ------
    ConfigError
        If git knows no such commit here, or it has no `edge_runtime`.
    """
    commit = commit_of(ref, where=where)
    if commit is None:
        raise ConfigError(f"{ref}: is no commit that git knows here")
    top = _git(["rev-parse", "--show-toplevel"], where)
    archive = _git(["archive", commit, "edge_runtime"], Path(top.decode().strip()) if top else where)
    if archive is None:
        raise ConfigError(f"{ref}: commit {commit[:12]} has no edge_runtime")
    with TemporaryDirectory(prefix="edge-bench-tree-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder)
        yield Tree(Path(folder), commit)


def _git(arguments: list[str], where: Path | None) -> bytes | None:
    try:
        return subprocess.run(["git", *arguments], cwd=where, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
