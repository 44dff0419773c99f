"""Wheels for another machine: what a board needs, fetched here, and our own.

pip evaluates a requirement's markers for the machine it runs on, so what a board gets is pinned in ``runtime.txt`` and
fetched without dependencies.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from edge_runtime.errors import ConfigError, EdgeBenchError

REQUIREMENTS = Path(__file__).with_name("runtime.txt")
MARK = Path(__file__).with_name("fingerprint.txt")  # in our wheel only: of the source that it was built from
# The C libraries that a wheel may want, newest first; Raspberry Pi OS 12 has 2.36.
_LIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")


def requirements() -> list[str]:
    """Return the pinned requirements of a board."""
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def for_board(python: tuple[int, int], architecture: str) -> list[str]:
    """Return what a board with a Python and a processor needs.

    Raises
    ------
    ConfigError
        If there are no wheels for it; it says what to do.
    """
    if architecture not in ("aarch64", "x86_64"):
        raise ConfigError(
            f"there are no wheels of numpy for {architecture}: install the system's python3-numpy and "
            "tflite-runtime there, and run edge-bench there"
        )
    if python < (3, 10):
        raise ConfigError(f"Python {python[0]}.{python[1]} is too old: the runtime needs 3.10 or later there")
    # the pins are those of Python 3.11; older ones get what pip finds
    return requirements() if python >= (3, 11) else [re.split("[=<>]", line)[0] for line in requirements()]


def download(folder: Path, wanted: Sequence[str], *, python: str = "3.11", architecture: str = "aarch64") -> None:
    """Fetch wheels for another machine into a folder, without their dependencies.

    Raises
    ------
    EdgeBenchError
        If pip cannot get one.
    """
    platforms = [part for libc in _LIBC for part in ("--platform", f"{libc}_{architecture}")]
    _pip(
        ["download", "-q", "--no-deps", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}",
         *platforms, "--dest", str(folder), *wanted],
        f"the wheels for Python {python} on {architecture} cannot be fetched",
    )  # fmt: skip


def _source() -> Path | None:
    """Return the source tree that this module belongs to, or None when it was installed."""
    source = Path(__file__).resolve().parent.parent
    return source if (source / "setup.cfg").is_file() and (source / "edge_runtime").is_dir() else None


def _sources(source: Path) -> list[Path]:
    """Return what our wheel is built from."""
    files = [source / name for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE")]
    for name in ("edge_runtime", "train", "quantize", "benchmarks", "boards"):
        files += (f for f in (source / name).rglob("*") if "__pycache__" not in f.parts and ".egg-info" not in str(f))
    return sorted(f for f in files if f.is_file())


def fingerprint() -> str:
    """Return a text that changes whenever `own` would give another wheel."""
    source = _source()
    if source is None:
        try:
            return MARK.read_text(encoding="utf-8").strip()
        except OSError:
            return metadata.version("edge-bench")
    digest = hashlib.sha256()
    for file in _sources(source):
        digest.update(f"{file.relative_to(source)} {file.stat().st_size}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def own(folder: Path) -> Path:
    """Put our own wheel into a folder and return its path: built from the source tree, else from what is installed.

    Raises
    ------
    EdgeBenchError
        If it cannot be built.
    """
    source = _source()
    return _from_installed(folder) if source is None else _built(source, folder)


def _built(source: Path, folder: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as aside:
        copy, out = Path(aside) / "source", Path(aside) / "wheel"
        for file in _sources(source):
            target = copy / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        (copy / "boards" / MARK.name).write_text(fingerprint() + "\n", encoding="utf-8")
        # with setuptools at hand nothing has to be fetched to build
        isolation = ["--no-build-isolation"] if _setuptools() >= 77 else []
        _pip(["wheel", "-q", "--no-deps", *isolation, "--wheel-dir", str(out), str(copy)], "our wheel cannot be built")
        (wheel,) = out.glob("*.whl")
        return Path(shutil.copy2(wheel, folder / wheel.name))


def _setuptools() -> int:
    try:
        return int(metadata.version("setuptools").partition(".")[0])
    except (metadata.PackageNotFoundError, ValueError):
        return 0


def _from_installed(folder: Path) -> Path:
    """Return a wheel of the files that pip recorded when it installed us."""
    installed = metadata.distribution("edge-bench")
    version = installed.version
    inside = [
        f for f in installed.files or () if ".." not in f.parts and "__pycache__" not in f.parts
        and f.name not in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
    ]  # fmt: skip
    information = f"edge_bench-{version}.dist-info"
    if not any(str(f) == f"{information}/WHEEL" for f in inside):
        raise EdgeBenchError("our own wheel cannot be made from this installation: run from a source tree")
    wheel = folder / f"edge_bench-{version}-py3-none-any.whl"
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in inside:
            archive.write(str(file.locate()), str(file))
            writer.writerow((str(file), f"{file.hash.mode}={file.hash.value}" if file.hash else "", file.size or ""))
        writer.writerow((f"{information}/RECORD", "", ""))
        archive.writestr(f"{information}/RECORD", table.getvalue())
    return wheel


def unpack(files: Sequence[Path], site: Path, *, python: str = "3.11", architecture: str = "aarch64") -> None:
    """Install wheels for another machine into a folder, by this machine's pip.

    Raises
    ------
    EdgeBenchError
        If pip refuses.
    """
    platforms = [part for libc in _LIBC for part in ("--platform", f"{libc}_{architecture}")]
    _pip(
        ["install", "-q", "--no-deps", "--no-index", "--no-compile", "--no-warn-script-location", "--only-binary=:all:",
         "--implementation=cp", f"--python-version={python}", *platforms, "--upgrade", "--root-user-action=ignore",
         "--target", str(site), *map(str, files)],
        "wheels cannot be unpacked for the board",
    )  # fmt: skip


def _pip(arguments: list[str], failure: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except subprocess.TimeoutExpired:
        raise EdgeBenchError(f"{failure}: pip took over 10 minutes; is the network up?") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
        raise EdgeBenchError(f"{failure}: {(lines or ['pip failed'])[0].removeprefix('ERROR: ')}; is the network up?")
