"""Ways to a board: commands and files, here or through SSH.

SSH is the system's OpenSSH client, not a library: only the client itself reads all of the user's configuration
(``Include``, ``Match exec``, ``ProxyJump``, hardware keys, agents) and every known_hosts form, and a board needs
ssh-keygen in any case. One connection is opened and shared (ControlMaster), so a command there costs milliseconds.

Host keys are always checked: an unknown or a changed one is refused, whatever the configuration says, and the message
names ``edge-bench board pin``, which writes only a file of ours (see `edge_bench.boards.hosts`).

Conventions: paths there are POSIX; relative ones begin at the home folder there (`Local`: at its folder).
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, TypeVar

from edge_runtime.errors import BoardError, ConfigError, UnreachableError

from .address import Address
from .hosts import known_hosts_option
from .ssh_errors import explain

_READY = "edge-bench-ready"
# A cut transfer ends like a whole one for `cat`: the length tells them apart, and only a whole file gets its name.
_RECEIVE = (
    'cat > "$1.part" && [ "$(wc -c < "$1.part")" -eq "$2" ] && mv -f "$1.part" "$1" && exit 0; '
    'rm -f "$1.part"; exit 1'
)


@dataclass(frozen=True)
class Completed:
    """How a command there ended: exit code and what it wrote."""

    code: int
    stdout: bytes
    stderr: bytes


class Transport(Protocol):
    """What flashing, enrolling and benchmarking need of a board."""

    name: str

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_s: float = 60.0,
        say: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a command there and return how it ended, whatever its exit code.

        Parameters
        ----------
        argv : sequence of str
            Program and arguments; no shell interprets them.
        stdin : bytes
        timeout_s : float
            After so long the command is given up. Something there may go on running.
        say : callable, optional
            Gets every line of standard error as it comes.

        Raises
        ------
        UnreachableError
            If the connection cannot be made, or is lost, or the time is over.
        """

    def put(self, local: str | Path, remote: str) -> None:
        """Copy a file there; it appears under its name only when it is whole."""

    def get(self, remote: str, local: str | Path) -> None:
        """Copy a file from there; it appears under its name only when it is whole."""

    def close(self) -> None:
        """Let go of the connection; `with` does it, too."""

    def __enter__(self) -> Transport:
        """Return the transport itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""


def execute(
    argv: Sequence[str],
    stdin: bytes | BinaryIO,
    timeout_s: float,
    *,
    what: str,
    say: Callable[[str], None] | None = None,
    cwd: Path | None = None,
) -> Completed:
    """Run a program here; see `Transport.run`. The program is killed when its time is over."""
    given = stdin if not isinstance(stdin, bytes) else subprocess.PIPE
    try:
        process = subprocess.Popen(
            list(argv), stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except OSError as error:  # as a shell there would say it
        return Completed(127 if isinstance(error, FileNotFoundError) else 126, b"", f"{argv[0]}: {error}".encode())
    late = UnreachableError(f"{what}: no answer within {timeout_s:g} s; is it still there?")
    try:
        if say is None:
            out, err = process.communicate(stdin if isinstance(stdin, bytes) else None, timeout=timeout_s)
        else:
            out, err = _listen(process, stdin if isinstance(stdin, bytes) else b"", timeout_s, say)
    except subprocess.TimeoutExpired:
        raise late from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was left to write has no reader
                    pass
    return Completed(process.returncode, out, err)


def _listen(
    process: subprocess.Popen[bytes], stdin: bytes, timeout_s: float, say: Callable[[str], None]
) -> tuple[bytes, bytes]:
    """Feed a process and collect its output, telling each line of standard error as it comes."""
    assert process.stdout is not None and process.stderr is not None
    deadline = time.monotonic() + timeout_s
    gathered = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    reading, told, sent = set(gathered), 0, 0
    writing: set[int] = set()
    if process.stdin is not None:
        os.set_blocking(process.stdin.fileno(), False)
        writing = {process.stdin.fileno()}
    errors = process.stderr.fileno()
    while reading or writing:
        left = deadline - time.monotonic()
        readable, writable, _ = select.select(reading, writing, [], max(0.0, left))
        if not readable and not writable and left <= 0:
            raise subprocess.TimeoutExpired(process.args, timeout_s)
        for handle in writable:
            try:
                sent += os.write(handle, stdin[sent : sent + 65536])
                ended = sent >= len(stdin)
            except BrokenPipeError:
                ended = True
            if ended:
                writing.clear()
                assert process.stdin is not None
                process.stdin.close()
        for handle in readable:
            piece = os.read(handle, 65536)
            gathered[handle] += piece
            if not piece:
                reading.discard(handle)
            while handle == errors and (end := gathered[handle].find(b"\n", told)) >= 0:
                say(gathered[handle][told:end].decode(errors="replace"))
                told = end + 1
    process.wait(max(0.1, deadline - time.monotonic()))
    return tuple(bytes(part) for part in gathered.values())  # type: ignore[return-value]


_Self = TypeVar("_Self", bound="_Files")


class _Files:
    """`put` and `get` on top of `run`: a board needs sh, cat, wc and mv, and no SFTP server."""

    name: str

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 60.0,
        say: Callable[[str], None] | None = None,
    ) -> Completed:  # fmt: skip
        """See `Transport.run`."""
        return self._run(argv, stdin, timeout_s, say)

    def _run(
        self, argv: Sequence[str], stdin: bytes | BinaryIO, timeout_s: float, say: Callable[[str], None] | None
    ) -> Completed:
        raise NotImplementedError

    def put(self, local: str | Path, remote: str) -> None:
        """See `Transport.put`."""
        try:
            size = os.path.getsize(local)
            with open(local, "rb") as file:
                done = self._run(["sh", "-c", _RECEIVE, "sh", remote, str(size)], file, 600.0, None)
        except OSError as error:
            raise ConfigError(f"{local}: cannot be read: {error.strerror or error}") from None
        if done.code:
            raise BoardError(f"{self.name}: {remote} cannot be written: {_last(done.stderr) or 'the transfer was cut'}")

    def get(self, remote: str, local: str | Path) -> None:
        """See `Transport.get`."""
        done = self._run(["cat", "--", remote], b"", 600.0, None)
        if done.code:
            raise BoardError(f"{self.name}: {remote} cannot be read: {_last(done.stderr)}")
        aside = Path(f"{local}.part")
        try:
            aside.write_bytes(done.stdout)
            aside.replace(local)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise ConfigError(f"{local}: cannot be written: {error.strerror or error}") from None

    def close(self) -> None:
        """See `Transport.close`."""

    def __enter__(self: _Self) -> _Self:
        """See `Transport.close`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `Transport.close`."""
        self.close()


def _last(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


class Local(_Files):
    """This machine: relative paths begin at `folder`, the home folder by default."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.name = "this machine"
        self._folder = Path(folder) if folder is not None else Path.home()
        if not self._folder.is_dir():
            raise ConfigError(f"{self._folder}: no such folder")

    def _run(
        self, argv: Sequence[str], stdin: bytes | BinaryIO, timeout_s: float, say: Callable[[str], None] | None
    ) -> Completed:
        return execute(argv, stdin, timeout_s, what=self.name, say=say, cwd=self._folder)


class Ssh(_Files):
    """A board behind SSH; the connection is made at once.

    Parameters
    ----------
    address : Address
    connect_s : float
        Seconds until the attempt to connect is given up.

    Raises
    ------
    UnreachableError
        If no connection is made: unknown name, refused, no route, too late.
    HostKeyError
        If its host key is unknown or another one than before.
    BoardError
        If it does not let us in.
    """

    def __init__(self, address: Address, *, connect_s: float = 15.0) -> None:
        if shutil.which("ssh") is None:
            raise ConfigError("ssh is missing here: install the OpenSSH client (apt install openssh-client)")
        self.name = address.name
        self._address = address
        # A socket's path has at most 108 bytes, and TMPDIR may be long.
        short = "/tmp" if os.access("/tmp", os.W_OK) else None
        self._folder = tempfile.mkdtemp(prefix="eb-", dir=short)
        self._socket = f"{self._folder}/s"
        self._common = [
            "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
            "-o", f"ConnectTimeout={max(1, round(connect_s))}", "-o", "ServerAliveInterval=10",
            "-o", "ServerAliveCountMax=3", "-o", "LogLevel=ERROR", "-o", "ClearAllForwardings=yes",
            "-o", "RequestTTY=no", *known_hosts_option(address), "-S", self._socket,
        ]  # fmt: skip
        try:
            self._master = self._open(connect_s)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _open(self, connect_s: float) -> subprocess.Popen[bytes]:
        # The command there ends with our end of its input, so the connection goes even when we are killed.
        command = [
            *self._address.command(), *self._common, "-o", "ControlMaster=yes", "-o", "ControlPersist=no",
            "--", self._address.host, f"echo {_READY}; exec cat >/dev/null",
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        deadline, said = time.monotonic() + connect_s + 5, b""
        while _READY.encode() not in said:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(process.stdout.fileno(), 4096) if ready else b""
            said += piece
            if not piece:
                process.kill()
                errors = process.stderr.read().decode(errors="replace")
                _reap(process)
                raise explain(self._address.name, errors if ready else "Connection timed out")
        return process

    def _run(
        self, argv: Sequence[str], stdin: bytes | BinaryIO, timeout_s: float, say: Callable[[str], None] | None
    ) -> Completed:
        done = execute(self.command(argv), stdin, timeout_s, what=self.name, say=say)
        if done.code == 255 and not self.alive():
            raise UnreachableError(f"{self.name}: the connection was lost; the next attempt begins anew")
        return done

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return what runs a command there over the shared connection, to be started by the caller."""
        # Without the shared connection it must not make another one behind our back: the proxy command fails.
        return [
            *self._address.command(), *self._common, "-o", "ControlMaster=no", "-o", "ProxyJump=none",
            "-o", "ProxyCommand=false", "--", self._address.host, shlex.join(argv),
        ]  # fmt: skip

    def alive(self) -> bool:
        """Return whether the shared connection stands."""
        if self._master.poll() is not None:
            return False
        command = [*self._address.command(), *self._common, "-O", "check", "--", self._address.host]
        return execute(command, b"", 10.0, what=self.name).code == 0

    def close(self) -> None:
        """End the connection."""
        if self._master.poll() is None:
            self._master.terminate()
        _reap(self._master)
        shutil.rmtree(self._folder, ignore_errors=True)


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
