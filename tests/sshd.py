"""An SSH server on loopback with keys of its own, for tests: no configuration of this machine is read or written."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def make_key(path: Path) -> str:
    """Make a key without a passphrase and return its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.with_name(path.name + ".pub").read_text().strip()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A running sshd: `options` are the ssh arguments that reach it, with its host key known."""

    def __init__(self, folder: Path) -> None:
        assert SSHD is not None
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.host_key = make_key(folder / "host")
        self.user_key = make_key(folder / "user")
        self.identity = folder / "user"
        self.user = getpass.getuser()
        (folder / "authorized").write_text(self.user_key + "\n")
        self._config = folder / "config"
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        for _ in range(5):  # somebody else may take the port between looking and listening
            self.port = free_port()
            if self._start():
                break
        else:
            raise RuntimeError(self.log())
        self.known = folder / "known_hosts"
        self.known.write_text(f"[127.0.0.1]:{self.port} {self.host_key}\n")
        self.options = (
            "-F", "/dev/null", "-o", f"UserKnownHostsFile={self.known}", "-o", "GlobalKnownHostsFile=/dev/null",
            "-o", f"IdentityFile={self.identity}", "-o", "IdentitiesOnly=yes",
        )  # fmt: skip

    def _start(self) -> bool:
        self._config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {self.folder}/authorized\nPasswordAuthentication no\nUsePAM no\nMaxSessions 64\n"
            "PermitRootLogin prohibit-password\nUseDNS no\n"
        )
        self._log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [str(SSHD), "-D", "-e", "-f", str(self._config)], stdout=self._log, stderr=self._log,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + 30
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    return True
            except OSError:
                time.sleep(0.02)
        self.stop()
        return False

    def log(self) -> str:
        """Return what the server said."""
        return (self.folder / "log").read_text(errors="replace")

    def stop(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(10)
        self._log.close()
