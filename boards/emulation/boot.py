"""The full-system variant: QEMU's ``virt`` machine with Debian's kernel, a board's memory, and a clock that counts.

The clock of the guest advances by a nanosecond an instruction (``-icount shift=0``), so unmodified timing code measures
instructions and gives the same on every host, and memory is a real kernel's. The root is an initramfs made of the
board's own userland; there is no disk and no network. What is not emulated: the board's caches, clock and devices.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime import bundle as bundles
from edge_runtime.errors import BoardError, EdgeBenchError

from .. import kept, wheels
from ..profile import Profile, load
from . import board as boards
from . import host, machines, packages, userland
from .cpio import Archive

KERNEL = "linux-image-cloud-arm64"  # small: it has virt's devices and few others
OPTIONS = ("--clips", "2", "--rounds", "20", "--cold", "1", "--budget", "2")  # seconds of the guest
REMARK = "emulated: a microsecond is 1,000 instructions of the whole system, never the board's time; memory is real"
PATIENCE_S = 900.0
BEGIN, END = "-----edge-bench result-----", "-----edge-bench end-----"
# What a board needs to run Python, ours and a shell; the rest of the userland would only fill its memory.
_PARTS = ("usr/lib/aarch64-linux-gnu", "usr/lib/python3.11", userland.SITE, "usr/lib/ld-linux-aarch64.so.1", "etc")
_PROGRAMS = ("python3.11", "python3", "busybox")
_LEAVE = ("/pip/", "/pip-", "/tests/", "/test/", "/idlelib/", "/lib2to3/", "/perl", "/gconv/", "/include/", "WebGpu")
_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /tmp /run
hostname {name}
mount --bind /board-model /sys/firmware/devicetree/base/model
export PATH=/bin:/usr/bin HOME=/ PYTHONPATH=/ours OPENBLAS_NUM_THREADS=1
cd /tmp
( {command} ) >/tmp/said 2>&1
code=$?
echo "{begin}"
[ $code = 0 ] && cat /tmp/result || tail -n 3 /tmp/said
echo
echo "{end} $code"
poweroff -f
"""


ABOUT = "(uname -r; grep MemTotal /proc/meminfo; cat /proc/device-tree/model) > /tmp/result"


@dataclass(frozen=True)
class Booted:
    """What a booted board said: the exit code of its command, and its result or last words."""

    code: int
    text: str


def kernel(cache: Path, *, mirror: str = packages.MIRROR, say: Callable[[str], None] = lambda _: None) -> Path:
    """Return Debian's arm64 kernel, from the cache or from Debian.

    Raises
    ------
    EdgeBenchError
        If it cannot be fetched.
    """

    def fetch(folder: Path) -> None:
        (meta,) = packages.debs((KERNEL,), cache=cache, mirror=mirror, say=say)
        depends = subprocess.run(["dpkg-deb", "-f", str(meta), "Depends"], capture_output=True, text=True, check=True)
        name = depends.stdout.split()[0]
        (deb,) = packages.debs((name,), cache=cache, mirror=mirror, say=say)
        with tempfile.TemporaryDirectory() as aside:
            packages.unpack([deb], Path(aside))
            for image in Path(aside).glob("boot/vmlinuz-*"):
                shutil.move(image, folder / image.name)
        shutil.rmtree(deb.parent, ignore_errors=True)  # 100 MB of modules that nobody loads

    (image,) = kept.kept(cache / kept.named("kernel", packages.SUITE, KERNEL), fetch)
    return image


def boot(
    folder: str | Path, command: str, files: dict[str, Path] | None = None, *, cache: Path | None = None,
    mirror: str = packages.MIRROR, say: Callable[[str], None] = lambda _: None,
) -> Booted:  # fmt: skip
    """Boot a board, run a shell command there, and return what it wrote to ``/tmp/result``.

    Parameters
    ----------
    folder : path
        Of `edge-bench emulate`; its sshd need not run.
    command : str
    files : dict
        More files for the board: path there, without a leading slash, to a file here.

    Raises
    ------
    ConfigError
        If there is no board, or QEMU is missing.
    EdgeBenchError
        If it does not boot, or takes too long.
    """
    host.require(host.BOOT, "booting a board")
    cache = cache or kept.cache_folder()
    board = boards.read(folder)
    profile = load(board.profile)
    image = kernel(cache, mirror=mirror, say=say)
    root = Path(folder).resolve() / "root"
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as aside:
        initramfs = Path(aside) / "initramfs"
        extra = dict(files or {})
        if not userland.is_ours(root):
            wheels.unpack([kept.own_wheel(cache)], Path(aside) / "ours")
            extra |= {f"ours/{f.relative_to(Path(aside) / 'ours')}": f for f in _tree(Path(aside) / "ours")}
        say("making the initramfs")
        _pack(initramfs, root, profile, command, extra)
        say(f"booting with {profile.memory.ram >> 20} MiB")
        return _boot(image, initramfs, profile)


def _boot(image: Path, initramfs: Path, profile: Profile) -> Booted:
    argv = [
        "qemu-system-aarch64", "-M", "virt", "-cpu", machines.machine(profile.name).qemu_cpu, "-smp", "1",
        "-m", str(profile.memory.ram >> 20), "-icount", "shift=0,sleep=off", "-nic", "none", "-nodefaults",
        "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", str(image), "-initrd", str(initramfs),
        "-append", "console=ttyAMA0 quiet panic=-1 norandmaps rootfstype=ramfs rdinit=/init",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EdgeBenchError(f"the booted board took over {PATIENCE_S:g} s: is the machine overloaded?") from None
    lines = done.stdout.replace("\r", "").splitlines()
    if BEGIN not in lines or not any(line.startswith(END) for line in lines):
        panic = [line for line in lines if "panic" in line or "failed" in line]
        last = (done.stderr.strip().splitlines() or panic or lines or [f"exit status {done.returncode}"])[-1]
        raise EdgeBenchError(f"the board does not boot: {last}")
    end = next(i for i, line in enumerate(lines) if line.startswith(END))
    return Booted(int(lines[end].removeprefix(END)), "\n".join(lines[lines.index(BEGIN) + 1 : end]).strip())


def _pack(out: Path, root: Path, profile: Profile, command: str, files: dict[str, Path]) -> None:
    """Write the initramfs: what is needed of the userland, the files given, and an init that runs the command."""
    with out.open("wb") as stream, Archive(stream) as archive:
        for name in ("dev", "proc", "sys", "tmp", "run", "bin"):
            archive.folder(name)
        archive.link("lib", "usr/lib")
        for part in _PARTS:
            for file in _tree(root / part):
                name = str(file.relative_to(root))
                if not any(word in f"/{name}" for word in _LEAVE):
                    archive.add(name, file)
        for name in _PROGRAMS:
            archive.add(f"usr/bin/{name}", root / "usr/bin" / name)
        archive.link("bin/busybox", "/usr/bin/busybox")
        for name, file in files.items():
            archive.add(name, file)
        archive.text("board-model", machines.machine(profile.name).model + "\0")
        archive.text("init", _INIT.format(name=profile.name, command=command, begin=BEGIN, end=END), mode=0o755)


def _tree(top: Path) -> Iterator[Path]:
    """Yield the files and links below a folder, or the file itself."""
    if top.is_symlink() or not top.is_dir():
        yield top
        return
    for file in sorted(top.rglob("*")):
        if file.is_symlink() or file.is_file():
            yield file


def run(
    folder: str | Path, bundle: str | Path, options: tuple[str, ...] = (), *, cache: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Benchmark a bundle on a booted board: ``edge-bench run``, unchanged.

    Returns
    -------
    dict
        ``edge-bench/run/1``, marked in ``context.emulated``: times are instructions of the whole system in units of
        1,000, the same on every host; memory is what a board with this kernel and these packages uses.

    Raises
    ------
    BoardError
        If the benchmark fails there.
    """
    built = bundles.read(bundle)
    program = "from edge_bench.benchmarks.cli import main; main()"
    words = " ".join(f"'{word}'" for word in (*OPTIONS, *options))
    command = f'python3 -c "{program}" run /{built.name}.tflite --json /tmp/result {words}'
    done = boot(folder, command, {f"{built.name}.tflite": Path(built.path)}, cache=cache, say=say)
    if done.code:
        raise BoardError(f"{folder}: edge-bench run failed on the booted board: {done.text.splitlines()[-1:]}")
    try:
        result: dict[str, Any] = json.loads(done.text)
    except ValueError as error:
        raise BoardError(f"{folder}: the booted board's result cannot be read: {error}") from None
    about = result["context"]
    board = boards.read(folder)
    about |= {
        "board": board.profile, "trust": "doubtful", "remarks": [REMARK, *about["remarks"]],
        "emulated": {
            "by": "QEMU virt, instruction clock", "version": version(), "cpu": board.cpu, "ns_per_instruction": 1,
        },
    }  # fmt: skip
    return result


def described(answer: Booted) -> dict[str, Any]:
    """Return kernel, memory (bytes) and model of a board that was booted with the command `ABOUT`.

    Raises
    ------
    EdgeBenchError
        If it answered otherwise.
    """
    try:
        release, memory, model = answer.text.replace("\0", "").splitlines()
        return {"kernel": release, "memory": int(memory.split()[1]) * 1024, "model": model}
    except (ValueError, IndexError):
        raise EdgeBenchError(f"the booted board said {answer.text[-200:]!r}") from None


def version() -> str:
    """Return the version of the system emulator."""
    done = subprocess.run(["qemu-system-aarch64", "--version"], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return words[3] if len(words) > 3 else "unknown"


