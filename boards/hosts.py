"""Host keys that we accept: the user's known_hosts, and a file of ours that only `pin` writes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from edge_runtime.errors import ConfigError, HostKeyError

from .address import Address
from .ssh_errors import explain

# A server shows one key a connection: asked for each kind.
KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512")


def pinned_file() -> Path:
    """Return the file of pinned host keys, which need not exist."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "edge-bench" / "known_hosts"


def settings(address: Address) -> dict[str, str]:
    """Return what the user's configuration makes of a host (``ssh -G``), by lower-case name."""
    done = subprocess.run(
        [*address.command(), "-G", "--", address.host], capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ConfigError(f"{address.name}: ssh cannot use this: {lines[-1] if lines else 'see ssh -G'}")
    pairs = (line.partition(" ") for line in done.stdout.splitlines())
    return {key: value for key, _, value in pairs}


def known_hosts_option(address: Address) -> list[str]:
    """Return the ssh arguments that add our file to the known_hosts of the user's configuration."""
    if any("UserKnownHostsFile" in option for option in address.options):  # an emulated board brings its own
        return []
    files = settings(address).get("userknownhostsfile", "~/.ssh/known_hosts")
    theirs = [] if files == "none" else [files]
    return ["-o", "UserKnownHostsFile=" + " ".join([*theirs, f'"{pinned_file()}"'])]


def offered(address: Address) -> list[str]:
    """Return the known_hosts lines of the keys that a host shows now; nothing is trusted and nobody logs in.

    The ssh client does the asking, so aliases, jumps and ports are as in every other connection.

    Raises
    ------
    UnreachableError
        If it cannot be asked.
    """
    lines, said = [], ""
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            file = Path(folder) / kind
            done = subprocess.run(
                [
                    *address.command(), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new",
                    "-o", f'UserKnownHostsFile="{file}"', "-o", "GlobalKnownHostsFile=/dev/null", "-o",
                    "HashKnownHosts=no", "-o", f"HostKeyAlgorithms={kind}", "-o", "CheckHostIP=no",
                    "-o", "PreferredAuthentications=none", "-o", "ConnectTimeout=15", "-o", "ControlPath=none",
                    "--", address.host, "true",
                ],
                capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60,
                env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
            said = done.stderr if not said or "no matching host key" in said else said
            if file.is_file():
                lines += file.read_text().splitlines()
    if not lines:
        raise explain(address.name, said)
    return list(dict.fromkeys(lines))


def fingerprint(line: str) -> str:
    """Return the fingerprint, ``SHA256:...``, of a known_hosts line or a public key."""
    command = ["ssh-keygen", "-l", "-f", "-"]
    done = subprocess.run(command, input=line + "\n", capture_output=True, text=True, check=False)
    words = done.stdout.split()
    if done.returncode or len(words) < 2:
        raise ConfigError(f"no public key: {line[:60]!r}")
    return words[1]


def pin(address: Address, wanted: str) -> str:
    """Accept a host's key from now on, if its fingerprint is the one that the user read on the board.

    Returns the line that was written to `pinned_file`; earlier pins of this host are replaced.

    Raises
    ------
    HostKeyError
        If the host shows no key with this fingerprint.
    """
    if not wanted.startswith("SHA256:"):
        raise ConfigError(f"fingerprint {wanted!r} must begin with SHA256:, as ssh-keygen -l prints it")
    shown = {fingerprint(line): line for line in offered(address)}
    if wanted not in shown:
        raise HostKeyError(
            f"{address.name}: shows no key with {wanted}, but {', '.join(shown)}; nothing was pinned. Read the "
            "fingerprint on the board itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
        )
    line = shown[wanted]
    file = pinned_file()
    name = line.split()[0]
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        old = file.read_text().splitlines() if file.is_file() else []
        aside = file.with_name(f".{file.name}.{os.getpid()}")
        aside.write_text("\n".join([entry for entry in old if entry.split()[:1] != [name]] + [line]) + "\n")
        aside.replace(file)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror or error}") from None
    return line
