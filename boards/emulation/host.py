"""What this machine needs to have for emulating, and the line that installs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache

from edge_runtime.errors import ConfigError

# program: the Debian package that has it
PACKAGES = {
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-aarch64": "qemu-user",
    "qemu-system-aarch64": "qemu-system-arm",
    "proot": "proot",
    "unshare": "util-linux",
    "chroot": "coreutils",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "tar": "tar",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "gcc": "gcc",
}
BUILD = ("apt-get", "dpkg-deb", "tar", "ssh-keygen", "qemu-aarch64-static")
COUNT = ("qemu-aarch64", "gcc")
BOOT = ("qemu-system-aarch64",)
CHROOT, PROOT = "chroot", "proot"


def missing(programs: Iterable[str]) -> list[str]:
    """Return the programs that are not here; folders that a user's PATH lacks are looked in too."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    return [name for name in programs if shutil.which(name, path=path) is None]


def require(programs: Iterable[str], what: str) -> None:
    """Raise unless all programs are here.

    Raises
    ------
    ConfigError
        Names what is missing, and the line that installs it.
    """
    absent = missing(programs)
    if absent:
        packages = " ".join(dict.fromkeys(PACKAGES[name] for name in absent))
        sudo = "" if os.geteuid() == 0 else "sudo "
        raise ConfigError(f"{what} needs {', '.join(absent)}: {sudo}apt-get install --no-install-recommends {packages}")


@cache
def may_chroot() -> bool:
    """Return whether we are root and may make mounts of our own."""
    if os.geteuid() != 0 or missing(("unshare", "chroot")):
        return False
    command = ["unshare", "--mount", "--uts", "--pid", "--fork", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def mode() -> str:
    """Return how a board's programs are run here: ``chroot`` as root, else ``proot``.

    Raises
    ------
    ConfigError
        If neither is possible.
    """
    if may_chroot():
        return CHROOT
    require(("proot",), "an emulated board without root (or where root may not mount)")
    return PROOT
