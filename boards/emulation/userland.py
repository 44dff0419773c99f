"""The root folder of an emulated board: Debian's packages, PyPI's wheels, our own, and the board's own files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from edge_runtime.errors import EdgeBenchError

from .. import kept, wheels
from ..profile import Profile
from . import machines, packages

PYTHON = "usr/bin/python3.11"
SITE = "usr/local/lib/python3.11/dist-packages"
PIP = "pip==26.3"  # for the board: its own packages need no pip, its user may
USER, IDENTITY = "pi", 1000
TOP = ("dev", "proc", "sys", "tmp", "run/sshd", "root", f"home/{USER}", "var/tmp", "etc/ssh")


def build(
    profile: Profile, root: Path, *, cache: Path | None = None, mirror: str = packages.MIRROR,
    say: Callable[[str], None] = lambda _: None,
) -> None:  # fmt: skip
    """Fill a new folder with a board's file system.

    Raises
    ------
    EdgeBenchError
        If something cannot be fetched, built or unpacked.
    """
    cache = cache or kept.cache_folder()
    debs = packages.debs(cache=cache, mirror=mirror, say=say)
    wanted = [*wheels.requirements(), PIP]
    say("wheels for aarch64 from PyPI")
    fetched = kept.wheels_for(cache, wanted)
    root.mkdir(parents=True)
    say("unpacking")
    packages.unpack(debs, root)
    say("our own wheel")
    wheel = kept.own_wheel(cache)
    install([*fetched, wheel], root)
    beside = root.parent / "wheels"  # for whoever installs something there
    beside.mkdir(exist_ok=True)
    for file in (*fetched, wheel):
        shutil.copy2(file, beside / file.name)
    _settle(profile, root)
    _compile(root)


def is_ours(root: Path) -> bool:
    """Return whether a board was made with the runtime that is here."""
    mark = root / SITE / "edge_bench/boards" / wheels.MARK.name
    return mark.is_file() and mark.read_text().strip() == wheels.fingerprint()


def install(files: list[Path], root: Path) -> None:
    """Install wheels below `root`."""
    wheels.unpack(files, root / SITE)
    # the scripts begin with this machine's Python
    scripts = root / SITE / "bin"
    (root / "usr/local/bin").mkdir(parents=True, exist_ok=True)
    for script in scripts.iterdir() if scripts.is_dir() else ():
        first, _, rest = script.read_bytes().partition(b"\n")
        if first.startswith(b"#!"):
            target = root / "usr/local/bin" / script.name
            target.write_bytes(b"#!/usr/bin/python3.11\n" + rest)
            target.chmod(0o755)
    shutil.rmtree(scripts, ignore_errors=True)


def _settle(profile: Profile, root: Path) -> None:
    """Do what the packages' own scripts would do, and write what is this board's."""
    for name in TOP:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "var/tmp").chmod(0o1777)
    number = IDENTITY if os.geteuid() == 0 else os.getuid()
    texts = {
        **machines.files(profile),
        "etc/passwd": (
            "root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
            f"{USER}:x:{number}:{number}::/home/{USER}:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        ),
        "etc/group": f"root:x:0:\n{USER}:x:{number}:\nnogroup:x:65534:\n",
        "etc/hostname": f"{profile.name}\n",
        "etc/hosts": f"127.0.0.1 localhost {profile.name}\n",
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }
    for name, text in texts.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    if Path("/etc/resolv.conf").is_file():
        shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    (root / "usr/bin/python3").unlink(missing_ok=True)
    (root / "usr/bin/python3").symlink_to("python3.11")
    if os.geteuid() == 0:
        os.chown(root / "home" / USER, number, number)
    _links(root)


def _links(root: Path) -> None:
    """Give every program of busybox its name, unless a package brings the program."""
    ask = ["qemu-aarch64-static", str(root / "usr/bin/busybox"), "--list-full"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    if done.returncode or "bin/sh" not in done.stdout:
        raise EdgeBenchError(f"busybox for aarch64 does not run here: {done.stderr.strip() or done.returncode}")
    for name in done.stdout.split():
        file = root / "usr" / name.removeprefix("usr/")
        if not any(os.path.lexists(root / "usr" / folder / file.name) for folder in ("bin", "sbin")):
            file.symlink_to("/bin/busybox")


def _compile(root: Path) -> None:
    """Compile the Python files when this machine's Python can: the board's would take minutes."""
    if sys.version_info[:2] != (3, 11):
        return
    leave = "/tests?/|lib2to3|idlelib|/pip/"
    for folder in ("usr/lib/python3.11", SITE):
        subprocess.run(
            [sys.executable, "-m", "compileall", "-q", "-s", str(root), "-p", "/", "-x", leave, str(root / folder)],
            capture_output=True, check=False,
        )  # fmt: skip
