"""Emulated boards, for real: made, reached through SSH, installed on, benchmarked, gated by instructions, ended.

`pytest -m slow tests/test_emulate.py -k pi4` and `-k zero` can run side by side: a board each. Skipped where QEMU or
the network is missing, but not where ``CI`` is set: there they must be.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import board_bench
import board_groups
import pytest
from click.testing import CliRunner

from edge_bench.benchmarks.cli import group
from edge_bench.boards import counted, kept, profile
from edge_bench.boards.emulation import board as boards
from edge_bench.boards.emulation import host, userland
from edge_bench.boards.emulation.boot import ABOUT, boot, described
from edge_bench.boards.targets import emulated
from edge_bench.boards.transport import Transport
from edge_runtime.bundle import read
from edge_runtime.errors import EdgeBenchError

pytestmark = pytest.mark.slow
SERVE = """
(sleep 3000 </dev/null 2>/dev/null | python3 "$1/server.py" "$1/check" >"$1/said" 2>&1 &)
for i in $(seq 600); do grep -q ready "$1/said" && exit 0; sleep 0.2; done; cat "$1/said" >&2; exit 1
"""
NEEDED = bool(os.environ.get("CI"))


@dataclass(frozen=True)
class Emulated:
    """A running board, its folder and a connection to it."""

    board: boards.Board
    folder: Path
    transport: Transport

    def run(self, *argv: str, code: int = 0) -> str:
        """Return what a command there writes."""
        done = self.transport.run(argv, timeout_s=600)
        assert done.code == code, done.stderr.decode()
        return done.stdout.decode().strip()


@contextmanager
def emulate(name: str, mode: str | None = None) -> Iterator[Emulated]:
    """Make, start and reach a board; stop it and see that nothing of it is left."""
    wanted = [*host.BUILD, *host.COUNT, *(["proot"] if mode == host.PROOT else [])]
    if (absent := host.missing(wanted)) and not NEEDED:
        pytest.skip(f"needs {', '.join(absent)}: apt-get install " + " ".join(host.PACKAGES[a] for a in absent))
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-")).resolve()
    try:
        board = boards.make(name, folder)
        with emulated(folder).connect() as transport:
            yield Emulated(board, folder, transport)
        assert not boards.stop(folder).running
        assert str(folder) not in Path("/proc/mounts").read_text()
        assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(folder).encode() in _content(p)]
    except EdgeBenchError as error:
        if "is the network up" in str(error) and not NEEDED:
            pytest.skip(str(error))
        raise
    finally:
        if (folder / "board.json").is_file():
            boards.stop(folder)
        shutil.rmtree(folder)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def pi4() -> Iterator[Emulated]:
    with emulate("pi4") as found:
        yield found


@pytest.fixture(scope="module")
def zero() -> Iterator[Emulated]:
    with emulate("pi-zero-2w") as found:
        yield found


def edge_bench(*arguments: str, code: int = 0) -> dict[str, object]:
    """Run our command line here and return its JSON."""
    done = CliRunner().invoke(group, [*arguments, "--json", "-"], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout[done.stdout.index('{"schema"') :].splitlines()[0])  # type: ignore[no-any-return]


def check_userland(there: Emulated) -> None:
    wanted = profile.load(there.board.profile)
    assert there.run("uname", "-m") == "aarch64"
    assert json.loads(there.run("edge-bench", "boards", "detect", "--json", "-"))["name"] == wanted.name
    assert there.run("python3", "-c", "import os; print(os.cpu_count())") == str(wanted.processor.cores)
    assert there.run("sh", "-c", "echo $QEMU_CPU") == there.board.cpu
    # a second time it is only looked up
    assert boards.make(wanted.name, there.folder) == there.board


def check_golden_vectors(there: Emulated) -> None:
    for name in ("swishnet-slim-int8", "swishnet-wide-int8"):
        assert "fine" in there.run("edge-bench", "verify", name)


def check_benchmark_and_gate(there: Emulated, tmp_path: Path) -> None:
    """Benchmark over SSH, and compare instructions with those in the repository."""
    name = there.board.profile
    file = tmp_path / "run.json"
    arguments = ["run", "--board", name, "--emulated", str(there.folder), "--json", str(file)]
    done = CliRunner().invoke(group, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "instructions are exact" in done.output
    result = json.loads(file.read_text())
    assert result["context"]["machine"]["board"].startswith(profile.load(name).device_tree[0])
    assert result["context"]["emulated"]["cpu"] == there.board.cpu and result["context"]["trust"] == "doubtful"
    assert result["model"]["backend"] == "litert" and result["model"]["delegated_nodes"] > 0
    assert result["instructions"]["model"] > result["instructions"]["invoke"] > 0
    assert there.run("sh", "-c", "ls -d /tmp/edge-bench-* 2>/dev/null | wc -l") == "0"
    found = edge_bench("gate", str(file), "--baseline", str(counted.SHIPPED), "--instructions")
    assert found["verdict"] == "pass"


def test_userland_of_a_pi4(pi4: Emulated) -> None:
    check_userland(pi4)


def test_userland_of_a_zero(zero: Emulated) -> None:
    check_userland(zero)


def test_golden_vectors_on_a_pi4(pi4: Emulated) -> None:
    check_golden_vectors(pi4)


def test_golden_vectors_on_a_zero(zero: Emulated) -> None:
    check_golden_vectors(zero)


def test_benchmark_and_gate_on_a_pi4(pi4: Emulated, tmp_path: Path) -> None:
    check_benchmark_and_gate(pi4, tmp_path)


def test_benchmark_and_gate_on_a_zero(zero: Emulated, tmp_path: Path) -> None:
    check_benchmark_and_gate(zero, tmp_path)


def test_a_planted_loop_fails_the_gate_of_a_pi4(pi4: Emulated) -> None:
    shipped = counted.lookup(read("swishnet-slim-int8").sha256, profile.load("pi4"))
    assert shipped is not None, "count again: edge-bench boards instructions (see results/README.md)"
    arguments = ["gate", "swishnet-slim-int8", "--baseline", str(counted.SHIPPED), "--board", "pi4", "--emulated"]
    found = edge_bench(*arguments, str(pi4.folder), "--plant", "model=1.01", code=1)
    assert found["verdict"] == "regress" and found["stage"] == "model"
    assert 1.005 < found["ratio"] < 1.015  # type: ignore[operator]


def test_pip_installs_our_wheel_on_a_zero_without_a_compiler(zero: Emulated) -> None:
    there = zero
    assert there.run("sh", "-c", "command -v gcc cc clang || echo none") == "none"
    home = there.folder / "root/home" / userland.USER
    shutil.copytree(there.folder / "wheels", home / "wheels")
    there.run("python3", "-m", "venv", "--without-pip", "fresh")
    options = ("--no-index", "--find-links", "wheels", "--no-compile", "-q")
    there.run("python3", "-m", "pip", "--python", "fresh/bin/python", "install", *options, "edge-bench")
    assert "edge-bench, version" in there.run("fresh/bin/edge-bench", "--version")
    label = "import numpy as np, edge_runtime as e; print(e.Classifier().classify(np.zeros(32000))[0].label)"
    assert there.run("fresh/bin/python", "-c", label) in ("speech", "music", "noise")
    assert "fresh" in there.run("fresh/bin/python", "-c", "import edge_runtime; print(edge_runtime.__file__)")


def test_a_whole_zero_boots_with_its_memory(zero: Emulated) -> None:
    if (absent := host.missing(host.BOOT)) and not NEEDED:
        pytest.skip(f"needs {absent[0]}: apt-get install {host.PACKAGES[absent[0]]}")
    about = described(boot(zero.folder, ABOUT))
    assert about["model"] == "Raspberry Pi Zero 2 W Rev 1.0"
    assert 0.85 * (512 << 20) < about["memory"] < 512 << 20


def test_without_root_a_pi4_runs_through_proot(tmp_path_factory: pytest.TempPathFactory) -> None:
    """As nobody, from a wheel of ours that is unpacked for it."""
    nobody, python = 65534, "/usr/bin/python3"
    if os.geteuid() != 0 or host.missing(("proot", "setpriv")) or not Path(python).is_file():
        pytest.skip("needs root to become nobody, proot, setpriv and the system's Python")
    probe = [python, "-c", "import click, numpy, pip"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("the system's Python has no click, numpy and pip")
    folder = Path(tempfile.mkdtemp(prefix="nobody-"))
    try:
        site = folder / "site"
        from edge_bench.boards import wheels

        wheels.unpack([kept.own_wheel(kept.cache_folder())], site, architecture="x86_64")
        shutil.copytree(kept.cache_folder(), folder / "cache/boards")
        subprocess.run(["chown", "-R", f"{nobody}:{nobody}", str(folder)], check=True)
        command = [
            "setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups", "env", f"PYTHONPATH={site}",
            f"HOME={folder}", f"EDGE_BENCH_CACHE={folder}/cache", python, "-c",
            "from edge_bench.benchmarks.cli import main; main()", "emulate", "pi4", "--dir", str(folder / "board"),
        ]  # fmt: skip
        subprocess.run(command, check=True, cwd=folder)
        try:
            assert boards.read(folder / "board").mode == host.PROOT
            with emulated(folder / "board").connect() as transport:
                assert transport.run(["edge-bench", "boards", "detect"]).stdout.startswith(b"pi4: Raspberry Pi 4B")
        finally:
            subprocess.run([*command, "--stop"], check=True, cwd=folder)
    finally:
        shutil.rmtree(folder)


def test_a_bundle_is_flashed_onto_a_zero(zero: Emulated, tmp_path: Path) -> None:
    key = board_bench.make_key(tmp_path / "signer")
    where = ("--board", "pi-zero-2w", "--emulated", str(zero.folder), "--key")
    enrolled = edge_bench("board", "enrol", *where, f"{key}.pub")
    assert enrolled["slot"] is None
    flashed = edge_bench("flash", "swishnet-slim-int8", *where, str(key))
    assert (flashed["state"], flashed["version"]) == ("confirmed", 1)
    assert flashed["sha256"] == read("swishnet-slim-int8").sha256


def test_twelve_faults_of_a_flash_on_a_pi4(pi4: Emulated, tmp_path: Path) -> None:
    there = pi4.run("mktemp", "-d")
    # the agents are processes of their own; only importing numpy again and again is saved
    pi4.transport.put(Path(board_bench.__file__).with_name("board_check_server.py"), f"{there}/server.py")
    pi4.run("sh", "-c", SERVE, "sh", there)
    bench = board_bench.Bench(
        pi4.transport, profile.load("pi4"), tmp_path, there, "/usr/bin/python3", server=f"{there}/check"
    )
    assert board_groups.representative(bench) == 12
