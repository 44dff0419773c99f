"""An emulated board in a folder: made, started, stopped, and what ``board.json`` says of it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError, EdgeBenchError

from .. import profile as profiles
from . import host, launch, machines, packages, processes, userland

SCHEMA = "edge-bench/emulate/1"
HOST = "127.0.0.1"
MARK = ".edge-bench-board"  # a folder of ours, whole or not
CONFIG = """Port {port}
ListenAddress 127.0.0.1
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
PidFile none
PrintMotd no
MaxStartups 100
MaxSessions 100
SetEnv {environment}
Subsystem sftp /usr/lib/openssh/sftp-server
"""
BANNER_S = 60.0


@dataclass(frozen=True)
class Board:
    """An emulated board; ``board.json`` in its folder.

    Attributes
    ----------
    profile : str
    host, port : str, int
        Where its sshd listens.
    user, identity : str
        Who logs in, and the private key's file in the folder.
    host_key : str
        Its public host key.
    mode : {'chroot', 'proot'}
    cpu : str
        The processor as QEMU calls it.
    pid, born : int or None
        The first process and when it began (clock ticks after the host's start); None when stopped.
    """

    profile: str
    host: str
    port: int
    user: str
    identity: str
    host_key: str
    mode: str
    cpu: str
    pid: int | None = None
    born: int | None = None

    @property
    def running(self) -> bool:
        """Whether its first process is there."""
        return self.pid is not None and self.born is not None and processes.born(self.pid) == self.born


def read(folder: str | Path) -> Board:
    """Return the board of a folder.

    Raises
    ------
    ConfigError
        If there is none.
    """
    file = Path(folder) / "board.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return Board(**{key: values[key] for key in Board.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = getattr(error, "strerror", None) or repr(error)
        remedy = f"make one: edge-bench emulate pi4 --dir {folder}"
        raise ConfigError(f"{folder}: no emulated board ({why}); {remedy}") from None


def describe(folder: str | Path, board: Board) -> dict[str, Any]:
    """Return ``edge-bench/emulate/1``, which is also what ``board.json`` holds."""
    return {"schema": SCHEMA, **asdict(board), "directory": str(Path(folder).resolve()), "running": board.running}


def make(
    name: str, folder: str | Path, *, port: int | None = None, cache: Path | None = None,
    mirror: str = packages.MIRROR, begin: bool = True, say: Callable[[str], None] = lambda _: None,
) -> Board:  # fmt: skip
    """Return a running board in a folder: the one that is there, or a new one.

    Parameters
    ----------
    name : str
        pi4, pi5 or pi-zero-2w.
    port : int, optional
        Of sshd on loopback; a free one by default.
    begin : bool
        Whether its sshd is started.

    Raises
    ------
    ConfigError
        If the folder holds something else, the port is in use, or programs are missing here.
    EdgeBenchError
        If the board cannot be made or does not start.
    """
    folder = Path(folder).resolve()
    profile = profiles.load(name)
    machines.machine(profile.name)
    if (folder / "board.json").is_file():
        board = read(folder)
        if board.profile != profile.name:
            raise ConfigError(f"{folder}: holds an emulated {board.profile}, not {profile.name}: give another --dir")
        return start(folder, port=port) if begin else board
    host.require(host.BUILD, "emulating a board")
    mode = host.mode()
    if port is not None:
        _check_port(port)
    fresh = _claim(folder)
    try:
        userland.build(profile, folder / "root", cache=cache, mirror=mirror, say=say)
        launch.link_proc(folder / "root")
        host_key = _keys(folder)
        cpu = machines.machine(profile.name).qemu_cpu
        board = Board(profile.name, HOST, port or 0, userland.USER, "id_ed25519", host_key, mode, cpu)
        _write(folder, board)
    except BaseException:
        _remove(folder, whole=fresh)
        raise
    if not begin:
        return board
    say("starting sshd")
    return start(folder, port=port)


def _claim(folder: Path) -> bool:
    """Make a folder ours, and return whether it is new; what an interrupted attempt left there goes."""
    try:
        fresh = not folder.exists()
        if folder.is_dir() and not (folder / MARK).is_file() and any(folder.iterdir()):
            raise ConfigError(f"{folder}: is not empty and holds no emulated board: give another --dir")
        folder.mkdir(parents=True, exist_ok=True)
        _remove(folder, whole=False)
        (folder / MARK).touch()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be used: {error.strerror or error}") from None
    return fresh


def _remove(folder: Path, *, whole: bool) -> None:
    for name in ("root", "wheels"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (MARK, "id_ed25519", "id_ed25519.pub", "board.json"):
        (folder / name).unlink(missing_ok=True)
    if whole:
        try:
            folder.rmdir()
        except OSError:
            pass


def _keys(folder: Path) -> str:
    """Make the host's and the user's keys, and return the public one of the host."""
    ssh = folder / "root/etc/ssh"
    for file, comment in ((ssh / "ssh_host_ed25519_key", "emulated board"), (folder / "id_ed25519", "edge-bench")):
        file.unlink(missing_ok=True)
        done = subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise EdgeBenchError(f"{file}: ssh-keygen cannot make a key: {done.stderr.strip()}")
    shutil.copyfile(folder / "id_ed25519.pub", ssh / "authorized_keys")
    return " ".join((ssh / "ssh_host_ed25519_key.pub").read_text().split()[:2])


def start(folder: str | Path, *, port: int | None = None) -> Board:
    """Start a board's sshd unless it runs, and return the board.

    Raises
    ------
    ConfigError
        If there is no board, its port is in use, or it runs on another port than `port`.
    EdgeBenchError
        If sshd does not come up; ``sshd.log`` in the folder holds what it said.
    """
    folder = Path(folder).resolve()
    board = read(folder)
    if board.running:
        if port is not None and port != board.port:
            raise ConfigError(f"{folder}: runs on port {board.port} already: stop it first (--stop)")
        return board
    host.require(("qemu-aarch64-static",), "emulating a board")
    if board.mode == host.CHROOT and not host.may_chroot():
        raise ConfigError(f"{folder}: was made by root: start it as root, or make another one in another --dir")
    if port is not None:
        _check_port(port)
    number = port or _free_port()
    profile = profiles.load(board.profile)
    root = folder / "root"
    environment = " ".join(f"{k}={v}" for k, v in launch.variables(profile).items() if k != "PATH")
    (root / "etc/ssh/sshd_config").write_text(CONFIG.format(port=number, environment=environment))
    argv = launch.command(root, profile, ["/usr/sbin/sshd", "-D", "-e"], mode=board.mode)
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    try:
        _await_banner(process, number, folder / "sshd.log")
        board = replace(board, port=number, pid=process.pid, born=processes.born(process.pid))
        _write(folder, board)
    except BaseException:
        processes.kill(process.pid)
        process.wait()
        raise
    return board


def stop(folder: str | Path) -> Board:
    """Stop a board's processes, if it has any, and return the board; its files stay."""
    board = read(folder)
    if board.running:
        assert board.pid is not None
        processes.kill(board.pid)
        deadline = time.monotonic() + 10
        while processes.born(board.pid) == board.born and time.monotonic() < deadline:
            try:
                os.waitpid(board.pid, os.WNOHANG)  # when we started it ourselves
            except ChildProcessError:
                pass
            time.sleep(0.02)
        if board.running:
            raise EdgeBenchError(f"{folder}: process {board.pid} does not end")
    board = replace(board, pid=None, born=None)
    _write(Path(folder), board)
    return board


def _write(folder: Path, board: Board) -> None:
    aside = folder / "board.json.part"
    aside.write_text(json.dumps(describe(folder, board), indent=1) + "\n", encoding="utf-8")
    aside.replace(folder / "board.json")


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(f"port {port} of {HOST}: {error.strerror or error}; give another --port") from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _await_banner(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return when sshd greets."""
    deadline = time.monotonic() + BANNER_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection((HOST, port), timeout=BANNER_S) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.05)
    if process.poll() == launch.NO_HANDLER:
        raise EdgeBenchError("binfmt_misc cannot be mounted or written here: load the kernel module binfmt_misc")
    said = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
    raise EdgeBenchError(f"the board's sshd does not come up: {said}")
