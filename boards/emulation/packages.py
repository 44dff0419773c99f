"""Debian's arm64 packages, fetched with an apt of our own: this machine's package lists and dpkg stay as they are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from edge_runtime.errors import ConfigError, EdgeBenchError

from ..kept import cache_folder, kept, named

SUITE = "bookworm"  # one suite, so one Python (3.11) and one libc on every host: counts can be compared
MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PYTHON = (
    "python3.11", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1",
    "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libuuid1", "libtinfo6", "libncursesw6",
    "libreadline8", "libsqlite3-0", "libdb5.3", "libcrypt1", "libssl3", "media-types",
)  # fmt: skip
SSH = (
    "openssh-server", "openssh-sftp-server", "openssh-client", "libpam0g", "libaudit1", "libcap-ng0", "libselinux1",
    "libpcre2-8-0", "libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libkrb5support0", "libcom-err2", "libkeyutils1",
    "libwrap0", "libnsl2", "libtirpc3", "libsystemd0", "liblz4-1", "libzstd1", "libgcrypt20", "libgpg-error0",
    "libcap2", "libedit2", "libbsd0", "libmd0", "libfido2-1", "libcbor0.8", "libudev1",
)  # fmt: skip
BASE = ("base-files", "busybox-static", "ca-certificates", "openssl")
USERLAND = (*PYTHON, *SSH, *BASE)
PATIENCE_S = 600.0


def debs(
    names: tuple[str, ...] = USERLAND, *, cache: Path | None = None, mirror: str = MIRROR,
    say: Callable[[str], None] = lambda _: None,
) -> list[Path]:  # fmt: skip
    """Return the files of arm64 packages, from the cache or from Debian.

    Raises
    ------
    EdgeBenchError
        If they cannot be fetched.
    """
    cache = cache or cache_folder()

    def fetch(folder: Path) -> None:
        if not KEYRING.is_file():
            raise ConfigError(f"{KEYRING} is missing: apt-get install debian-archive-keyring")
        say(f"{len(names)} arm64 packages from {mirror}")
        _apt(("update",), cache, mirror, folder)
        _apt(("download", *names), cache, mirror, folder)

    return kept(cache / named("debs", SUITE, *names), fetch)


def _apt(arguments: tuple[str, ...], cache: Path, mirror: str, folder: Path) -> None:
    """Run apt-get with lists, state and sources of our own; the host's settings of proxies hold."""
    state = cache / "apt"
    for part in ("lists/partial", "archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {SUITE} main\n")
    settings = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64",
        "Dir::State": state, "Dir::State::status": state / "status", "Dir::State::lists": state / "lists",
        "Dir::Cache": state, "Dir::Cache::archives": state / "archives",
        "Dir::Etc::sourcelist": state / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "root", "APT::Update::Error-Mode": "any", "Acquire::Retries": "3",
    }  # fmt: skip
    command = ["apt-get", "-q", *(part for k, v in settings.items() for part in ("-o", f"{k}={v}")), *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EdgeBenchError(f"apt-get {arguments[0]} took over {PATIENCE_S:g} s: is the network up?") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]
        why = lines[0][3:] if lines else f"exit status {done.returncode}"
        raise EdgeBenchError(
            f"Debian's arm64 packages cannot be fetched: {why}; is the network up? A mirror is given with --mirror"
        )


def unpack(files: list[Path], root: Path) -> None:
    """Unpack packages below `root`, whose top folders are links into ``usr`` as in every Debian of today."""
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for file in files:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(file)], stdout=subprocess.PIPE) as archive:
            done = subprocess.run(
                ["tar", "-x", "-C", str(root), "--keep-directory-symlink", "--no-same-owner"],
                stdin=archive.stdout, capture_output=True, text=True, check=False,
            )  # fmt: skip
        if done.returncode or archive.returncode:
            last = (done.stderr.strip().splitlines() or ["is damaged"])[-1]
            raise EdgeBenchError(f"{file}: cannot be unpacked: {last}; remove it to fetch it again")
