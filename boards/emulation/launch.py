"""How a program is run inside a board's root: as root in namespaces of its own, else through proot.

As root, mounts, the binfmt handler, processes and the host name belong to namespaces that end with the board's first
process, so nothing stays behind. What the kernel does not let us do (a /proc that is masked) is left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..profile import Profile
from . import host, machines

# An ELF of 64 bits for aarch64; F: QEMU is opened now, outside the root; P: a program sees its own name.
_HANDLER = (
    r":edge-bench-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)
_ENTER = r"""
root=$1 name=$2 handler=$3; shift 3
hostname "$name"
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt || exit 97
[ -e $binfmt/edge-bench-aarch64 ] || printf %s "$handler" > $binfmt/register || exit 97
mount --rbind /dev "$root/dev"
mkdir -p "$root/.proc"
mount -t proc proc "$root/.proc" 2>/dev/null || mount --rbind /proc "$root/.proc" || true
ulimit -n 1024
exec env -i "$@"
"""
NO_HANDLER = 97
# What a board's programs find in /proc beside the board's own files.
LINKS = ("self", "thread-self", "mounts", "sys", "stat", "loadavg", "uptime", "version", "filesystems", "net")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def link_proc(root: Path) -> None:
    """Let ``/proc`` of the board show the real one beside the board's own files."""
    for name in LINKS:
        link = root / "proc" / name
        if not os.path.lexists(link):
            link.symlink_to(f"/.proc/{name}")


def variables(profile: Profile) -> dict[str, str]:
    """Return what a board's processes have in their environment; QEMU_CPU reaches every emulated one."""
    return {"PATH": PATH, "QEMU_CPU": machines.machine(profile.name).qemu_cpu, "OPENBLAS_NUM_THREADS": "1"}


def command(
    root: Path, profile: Profile, argv: Sequence[str], *, mode: str, user: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[str]:  # fmt: skip
    """Return the command line that runs `argv` inside a board.

    Parameters
    ----------
    mode : {'chroot', 'proot'}
        See `host.mode`.
    user : str, optional
        Whose rights the program has, as root only; root's by default.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    qemu = _which("qemu-aarch64-static", path)
    settings = [f"{k}={v}" for k, v in {**variables(profile), **(environment or {})}.items()]
    if mode == host.CHROOT:
        change = [_which("chroot", path), *([f"--userspec={user}:{user}"] if user else []), str(root)]
        return [
            "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private",
            "sh", "-c", _ENTER, "sh", str(root), profile.name, f"{_HANDLER}{qemu}:PF", *settings, *change, *argv,
        ]  # fmt: skip
    own = [f"{root}/proc/{name}:/proc/{name}" for name in ("cpuinfo", "meminfo", "device-tree")]
    binds = ["/dev", "/proc", *own]
    return [
        "env", "-i", f"HOME={os.environ.get('HOME', '/')}", *settings,
        "proot", "-q", qemu, "-r", str(root), *(part for b in binds for part in ("-b", b)),
        "-w", "/", *argv,
    ]  # fmt: skip


def _which(name: str, path: str) -> str:
    import shutil

    return shutil.which(name, path=path) or name
