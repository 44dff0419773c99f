"""The baseline of a gate out of git: the file as it is at a ref, or what a build command makes there."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_runtime import BundleError, ConfigError
from edge_runtime.bundle import resolve

_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class AtRef:
    """Where a baseline came from: the ref as it was given, the commit it means, the file's path in the repository."""

    ref: str
    commit: str
    path: str


@contextmanager
def baseline_file(baseline: str, candidate: str, *, build: str | None = None) -> Iterator[tuple[str, AtRef | None]]:
    """Yield the path of a baseline, and where in git it came from (None: it is a file or a shipped name already).

    Parameters
    ----------
    baseline : str
        A file or a shipped name, else ``REF`` or ``REF:PATH``: a branch, tag or commit of the repository that the
        candidate lies in; PATH is where the candidate lies unless it is given.
    candidate : str
        A file or a shipped name.
    build : str, optional
        A shell command that makes the candidate's file; it is run in a worktree of REF, which is removed again.

    Raises
    ------
    ConfigError
        If `baseline` is neither, or REF has no such file, or the build fails.
    """
    if _is_there(baseline):
        if build:
            raise ConfigError(f"{baseline} is there already: --build makes the baseline of a git ref, give one")
        yield baseline, None
        return
    ref, _, wanted = baseline.partition(":")
    folder = _folder(candidate, baseline)
    root = Path(_git(folder, "rev-parse", "--show-toplevel", error=_no_ref(baseline, "no git repository")).strip())
    if not ref or ref.startswith("-"):
        raise ConfigError(_no_ref(baseline, f"repository {root}"))
    commit = _git(
        root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}",
        error=_no_ref(baseline, f"repository {root}") + " (in a shallow clone fetch it first: git fetch origin REF)",
    ).strip()  # fmt: skip
    path = wanted or _git(folder, "rev-parse", "--show-prefix", error=str(folder)).strip() + resolve(candidate).name
    if build:
        with _built(root, ref, commit, path, build) as file:
            yield str(file), AtRef(ref, commit, path)
        return
    done = subprocess.run(["git", "-C", str(root), "cat-file", "blob", f"{commit}:{path}"], capture_output=True)
    if done.returncode:
        raise ConfigError(
            f"{path} is not in the repository at {ref} ({commit[:12]}): give REF:PATH, or --build COMMAND that makes it"
        )
    if done.stdout.startswith(_POINTER):
        raise ConfigError(f"{path} at {ref} is a pointer of Git LFS, not the file: give the file itself as --baseline")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as temporary:
        file = Path(temporary) / Path(path).name
        file.write_bytes(done.stdout)
        yield str(file), AtRef(ref, commit, path)


def _is_there(name: str) -> bool:
    try:
        return resolve(name).exists()
    except BundleError:
        return False


def _no_ref(baseline: str, where: str) -> str:
    return f"--baseline {baseline}: no such file, no shipped bundle, and no git ref of the candidate's place: {where}"


def _folder(candidate: str, baseline: str) -> Path:
    """Return the folder in which the candidate lies; the baseline's error comes first when that is not there."""
    try:
        return resolve(candidate).absolute().parent
    except BundleError:
        raise ConfigError(f"{candidate}: no such file, so {baseline!r} can be no git ref of its repository") from None


def _git(folder: Path, *arguments: str, error: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    except OSError:
        raise ConfigError(f"{error} (git is not installed)") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ConfigError(f"{error}: {said[-1]}" if said else error)
    return done.stdout


@contextmanager
def _built(root: Path, ref: str, commit: str, path: str, build: str) -> Iterator[Path]:
    """Run the build in a worktree of `commit` and yield its file."""
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as temporary:
        tree = Path(temporary) / "tree"
        _git(root, "worktree", "add", "--detach", str(tree), commit, error=f"{ref}: no worktree can be made")
        try:
            done = subprocess.run(build, shell=True, cwd=tree, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
                raise ConfigError(f"--build failed at {ref} with exit status {done.returncode}: {last}")
            if not (tree / path).is_file():
                raise ConfigError(f"--build ran at {ref} and made no {path}: give REF:PATH with what it makes")
            yield tree / path
        finally:
            subprocess.run(["git", "-C", str(root), "worktree", "remove", "--force", str(tree)], capture_output=True)
