"""Our runtime on a board: what is there, and installing it from here when it is missing or another one.

The board needs Python, tar and a shell: no network, no pip, no compiler. Wheels for its Python and processor are
fetched here, unpacked here, and copied there as one archive into a folder whose name changes with its content.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import BoardError

from . import kept, wheels
from .transport import Transport

FOLDER = ".cache/edge-bench/runtime"  # there, below the home folder
_ABOUT = """
import json, os, platform, sys
try:
    from edge_bench.boards.wheels import fingerprint
    ours = fingerprint()
except Exception:
    ours = None
print(json.dumps({"python": list(sys.version_info[:2]), "architecture": platform.machine(), "ours": ours,
                  "home": os.path.expanduser("~")}))
"""


@dataclass(frozen=True)
class Runtime:
    """Our runtime on a board.

    Attributes
    ----------
    home : str
        The home folder there.
    site : str or None
        The folder of our packages; None where they are the system's own.
    installed : bool
        Whether this call put them there.
    """

    home: str
    site: str | None
    installed: bool

    def python(self, *arguments: str) -> list[str]:
        """Return the command that runs Python there with our packages."""
        variables = ["env", f"PYTHONPATH={self.site}"] if self.site else []
        return [*variables, "python3", *arguments]

    def edge_bench(self, *arguments: str) -> list[str]:
        """Return the command that runs ``edge-bench`` there."""
        return self.python("-c", "from edge_bench.benchmarks.cli import main; main()", *arguments)


def ensure(
    transport: Transport, *, cache: Path, say: Callable[[str], None] = lambda _: None, patience_s: float = 600.0
) -> Runtime:  # fmt: skip
    """Return the runtime on a board, the same as here, installed if need be.

    Parameters
    ----------
    cache : path
        Where wheels are kept here.

    Raises
    ------
    BoardError
        If Python is missing there, or what is sent does not run.
    ConfigError
        If there are no wheels for the board.
    """
    about = _ask(transport, ["python3", "-c", _ABOUT], patience_s)
    home = str(about["home"])
    mark = wheels.fingerprint()
    if about["ours"] == mark:
        return Runtime(home, None, False)
    python, architecture = (int(about["python"][0]), int(about["python"][1])), str(about["architecture"])
    wanted = wheels.for_board(python, architecture)
    name = hashlib.sha256(" ".join([mark, architecture, *map(str, python), *wanted]).encode()).hexdigest()[:16]
    site = f"{home}/{FOLDER}/{name}"
    there = Runtime(home, site, False)
    if transport.run(["test", "-f", f"{site}/complete"], timeout_s=patience_s).code == 0:
        return there
    say(f"installing the runtime for Python {python[0]}.{python[1]} on {architecture}")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as aside:
        archive = _archive(Path(aside), cache, wanted, python, architecture)
        part = f"{home}/{FOLDER}/{name}.tar.gz"
        _do(transport, ["mkdir", "-p", f"{home}/{FOLDER}"], patience_s)
        try:
            transport.put(archive, part)
            script = 'rm -rf "$1.new" && mkdir "$1.new" && tar -xzf "$2" -C "$1.new" && rm -rf "$1" && mv "$1.new" "$1"'
            _do(transport, ["sh", "-c", script, "sh", site, part], patience_s)
        finally:
            transport.run(["rm", "-f", part], timeout_s=patience_s)
    done = transport.run(there.python("-c", "import edge_runtime, edge_bench.benchmarks.run"), timeout_s=patience_s)
    if done.code:
        transport.run(["rm", "-rf", site], timeout_s=patience_s)
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.code}"])[-1]
        raise BoardError(f"{transport.name}: the runtime does not run there: {last}")
    _do(transport, ["touch", f"{site}/complete"], patience_s)
    return Runtime(home, site, True)


def remove(transport: Transport, runtime: Runtime, *, patience_s: float = 600.0) -> None:
    """Take from the board what `ensure` put there, now or before."""
    if runtime.site:
        transport.run(["rm", "-rf", runtime.site], timeout_s=patience_s)


def _archive(aside: Path, cache: Path, wanted: list[str], python: tuple[int, int], architecture: str) -> Path:
    """Return an archive of everything for a board, from wheels that are fetched unless they are kept."""
    version = f"{python[0]}.{python[1]}"
    files = kept.wheels_for(cache, wanted, python=version, architecture=architecture)
    site = aside / "site"
    wheels.unpack([*files, kept.own_wheel(cache)], site, python=version, architecture=architecture)
    archive = aside / "runtime.tar.gz"
    pack = ["tar", "-czf", str(archive), "-C", str(site), "."]
    done = subprocess.run(pack, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BoardError(f"the runtime cannot be packed: {done.stderr.strip()}")
    return archive


def _ask(transport: Transport, command: list[str], patience_s: float) -> dict[str, Any]:
    done = transport.run(command, timeout_s=patience_s)
    try:
        if done.code:
            raise ValueError
        return json.loads(done.stdout.decode().strip().splitlines()[-1])
    except (ValueError, IndexError, UnicodeDecodeError):
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.code}"])[-1]
        raise BoardError(f"{transport.name}: needs Python 3.10 or later as python3: {last}") from None


def _do(transport: Transport, command: list[str], patience_s: float) -> None:
    done = transport.run(command, timeout_s=patience_s)
    if done.code:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.code}"])[-1]
        raise BoardError(f"{transport.name}: {command[0]} failed there: {last}")
