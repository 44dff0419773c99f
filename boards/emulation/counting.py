"""Exact instruction counts on an emulated board: QEMU's user mode with a plugin of ours.

The plugin (``tcg_count.c``) needs Debian's dynamic ``qemu-user`` and is compiled on first use. It notes the number of
aarch64 instructions at every ``getppid`` of `edge_bench.benchmarks.instructions_worker`; nothing of the host's load,
clock or caches is in them. One thread only: threads that wait for each other spin.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import edge_runtime
from edge_bench.benchmarks import instructions
from edge_bench.benchmarks.instructions import Instructions
from edge_runtime import bundle as bundles
from edge_runtime.errors import ConfigError, EdgeBenchError

from .. import kept
from . import host, userland

SOURCE = Path(__file__).with_name("tcg_count.c")
GETPPID = 173  # aarch64's number
CALLS = 4
PATIENCE_S = 900.0


def plugin(cache: Path | None = None) -> Path:
    """Return the compiled plugin, which is made when its source has changed.

    Raises
    ------
    ConfigError
        If gcc or the dynamic QEMU is missing.
    EdgeBenchError
        If it cannot be compiled.
    """
    host.require(host.COUNT, "counting instructions on an emulated board")
    cache = cache or kept.cache_folder()
    library = cache / f"tcg_count-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}.so"
    with kept.locked(cache, library.name):
        if not library.is_file():
            aside = library.with_suffix(".part")
            done = subprocess.run(
                ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-fvisibility=hidden", "-o", str(aside), str(SOURCE)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise EdgeBenchError(f"{SOURCE.name} cannot be compiled: {done.stderr.strip().splitlines()[-1]}")
            aside.replace(library)
    return library


def _our_runtime(aside: Path) -> Path:
    """Return a folder with the `edge_runtime` that is here, to be counted in place of the board's older one."""
    shutil.copytree(Path(edge_runtime.__file__).parent, aside / "tree" / "edge_runtime")
    return aside / "tree"


def qemu_version() -> str:
    """Return the version of the QEMU that counts, such as ``7.2.22``."""
    done = subprocess.run(["qemu-aarch64", "--version"], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return words[2] if len(words) > 2 else "unknown"


def count(
    folder: str | Path, bundle: str | Path, *, clip_s: float = 2.0, source: str = "auto", backend: str = "auto",
    plant: Mapping[str, int] | None = None, tree: str | Path | None = None, cache: Path | None = None,
) -> Instructions:  # fmt: skip
    """Count a bundle's instructions with the userland of an emulated board, which need not be running.

    Parameters
    ----------
    folder : path
        The board's; see `edge_bench.boards.emulation.board`.
    bundle : path or str
        A bundle here, or the name of a shipped one.
    clip_s : float
        Seconds.
    source : {'auto'}
        There is one here; `edge_bench.benchmarks.instructions.count` has others.
    backend, plant, tree
        See there.

    Raises
    ------
    ConfigError
        If the folder holds no board, or a program is missing here.
    EdgeBenchError
        If the bundle does not run there.
    """
    from .board import read

    if source != "auto":
        raise ConfigError(f"source {source!r} cannot count on an emulated board, only its plugin can: leave it out")
    folder = Path(folder)
    board = read(folder)
    root = (folder / "root").resolve()
    library = plugin(cache)
    path = bundles.read(bundle).path
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as aside:
        # the guest finds its own files first where a path exists in both, so what we give it lies in a new folder
        worker = Path(shutil.copy2(instructions.WORKER, aside))
        given = Path(shutil.copy2(path, aside))
        out = Path(aside) / "marks"
        guest = [
            str(root / userland.PYTHON), str(worker),
            *instructions.arguments(given, clip_s=clip_s, calls=CALLS, backend=backend, plant=plant),
        ]  # fmt: skip
        # without randomised addresses: numpy and malloc take other turns on other alignments
        command = [
            "setarch", "-R", "qemu-aarch64", "-L", str(root), "-cpu", board.cpu,
            "-plugin", f"{library},mark={GETPPID},out={out}", *guest,
        ]  # fmt: skip
        if tree is None and not userland.is_ours(root):
            tree = _our_runtime(Path(aside))
        environment = {**instructions.environment(tree), "PATH": os.environ.get("PATH", os.defpath)}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, cwd=aside, check=False, timeout=PATIENCE_S
            )
        except subprocess.TimeoutExpired:
            raise EdgeBenchError(f"counting took over {PATIENCE_S:g} s: is the machine overloaded?") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            why = last.partition("Error: ")[2] or last
            raise EdgeBenchError(f"{board.profile} (emulated): the counted process failed: {why}")
        counts = [int(line) for line in out.read_text().split()]
    found = instructions.from_marks(done.stdout, counts, f"qemu {board.cpu}")
    return replace(found, context={**found.context, "qemu": qemu_version()})


