"""Flashing from the workstation: sign a manifest for one board, hand it and the bundle to the agent there.

What happens on the board, and in which order, is in `edge_bench.boards.agent.steps`.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_runtime.board_check import front_end_sha256
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BoardError, ConfigError

from . import plan
from .agent.manifest import NAMESPACE, Manifest
from .profile import Profile
from .transport import Transport

ROOT = ".local/share/edge-bench"  # there, below the home folder
RUNTIME = "0.1.0"  # the first edge_runtime that reads this schema of a bundle
PATIENCE_S = 900.0
_signing = threading.Lock()  # two questions for a passphrase at a time would be one too many

Say = Callable[[str], None]


class RolledBackError(BoardError):
    """A bundle that did not pass its checks on the board, which runs what it ran before."""


def ask(
    transport: Transport, root: str, command: list[str], *, stdin: bytes = b"", say: Say | None = None
) -> dict[str, Any]:
    """Return what the agent at `root` answers.

    Raises
    ------
    RolledBackError
        If it went back to what was active before.
    BoardError
        If there is no agent, or it refuses.
    """
    done = transport.run([f"{root}/agent", *command], stdin=stdin, timeout_s=PATIENCE_S, say=say)
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        if not isinstance(answer, dict):
            raise ValueError
    except (ValueError, IndexError):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        if done.code in (126, 127):
            raise BoardError(f"{transport.name}: no agent in {root} there: edge-bench board enrol") from None
        last = said[-1] if said else f"exit code {done.code}"
        raise BoardError(f"{transport.name}: the agent died ({last}); the next flash recovers") from None
    if "error" in answer:
        kind = RolledBackError if answer.get("kind") == "rolled-back" else BoardError
        raise kind(f"{transport.name}: {answer['error']}")
    return answer


def sign(data: bytes, key: str | Path, namespace: str) -> str:
    """Return an SSH signature of `data`.

    Parameters
    ----------
    key : str or Path
        A private key, or a public one whose private half an SSH agent holds.

    Raises
    ------
    ConfigError
        If it cannot be signed.
    """
    if not Path(key).is_file():
        raise ConfigError(f"{key}: no such key; make one: ssh-keygen -t ed25519, or give --key")
    with _signing:
        try:
            done = subprocess.run(
                ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", namespace], input=data, capture_output=True,
                check=False,
            )  # fmt: skip
        except OSError:
            raise ConfigError("ssh-keygen is missing here: install the OpenSSH client, 8.1 or later") from None
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE"):
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(f"{key}: cannot sign: {lines[-1] if lines else 'ssh-keygen says nothing'}")
    return done.stdout.decode()


def parcel(bundle: Bundle, manifest: Manifest, key: str | Path) -> bytes:
    """Return what goes to the agent: two lengths, the manifest, its signature, the bundle.

    Raises
    ------
    ConfigError
        If the bundle's file is not what was read before, or it cannot be signed.
    """
    try:
        payload = Path(bundle.path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{bundle.path}: cannot be read: {error.strerror or error}") from None
    signed = manifest.encode()
    signature = sign(signed, key, NAMESPACE).encode()
    return f"{len(signed)} {len(signature)}\n".encode() + signed + signature + payload


def manifest_for(
    bundle: Bundle,
    status: dict[str, Any],
    profile: Profile,
    *,
    version: int | None = None,
    allow_downgrade: bool = False,
) -> Manifest:
    """Return the manifest of a bundle for the board whose status this is.

    Without a version it is the one above the floor, or the active one if that is this very bundle.

    Raises
    ------
    BoardError
        If the board is of another kind than `profile`, or the bundle does not fit it.
    """
    if status["profile"] != profile.name:
        there = status["profile"]
        raise BoardError(f"this board is enrolled as {there}, not {profile.name}: give --board {there}")
    planned = plan.plan(bundle, profile)
    for what in ("flash", "ram"):
        if not planned["fits"][what]:
            raise BoardError(
                f"{bundle.name} needs {planned['needs'][what]} bytes of {what}, the budget of {profile.name} is "
                f"{planned['budget'][what]}: see edge-bench plan"
            )
    if version is None:
        same = status["sha256"] == bundle.sha256 and status["state"] == "confirmed"
        version = status["version"] if same else status["floor"]["version"] + 1
    return Manifest(
        board=status["board"], name=bundle.name, sha256=bundle.sha256, size=bundle.size, version=version,
        runtime=RUNTIME, front_end=front_end_sha256(bundle), ram=planned["needs"]["ram"],
        allow_downgrade=allow_downgrade, counter=status["counter"],
    )  # fmt: skip


def flash(
    transport: Transport,
    bundle: Bundle,
    profile: Profile,
    key: str | Path,
    *,
    root: str = ROOT,
    version: int | None = None,
    allow_downgrade: bool = False,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Flash a bundle and return the board's status afterwards, with ``changed``.

    Parameters
    ----------
    key : str or Path
        The SSH key that the board was enrolled with.
    version : int, optional
        Of what runs on the board; see `manifest_for`.
    allow_downgrade : bool
        Sign that `version` may be below the board's floor.

    Raises
    ------
    RolledBackError
        If the bundle did not pass its checks after the switch.
    BoardError
        If the board refuses it, or cannot be reached.
    """
    status = ask(transport, root, ["status"])
    manifest = manifest_for(bundle, status, profile, version=version, allow_downgrade=allow_downgrade)
    say(f"signing version {manifest.version} of {bundle.name} for {manifest.board}")
    return ask(transport, root, ["flash"], stdin=parcel(bundle, manifest, key), say=say)
