"""Which boards a command is for: hosts, emulated boards, folders of this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_runtime.errors import ConfigError

from .address import Address
from .transport import Local, Ssh, Transport

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Target:
    """A board that is not connected yet.

    Attributes
    ----------
    name : str
        For messages: the host, or the folder.
    connect : callable
        Opens the transport, or raises one of `edge_runtime.errors.BoardError`.
    """

    name: str
    connect: Callable[[], Transport]


def host(text: str) -> Target:
    """Return the target at ``[user@]host[:port]``."""
    address = Address.parse(text)
    return Target(address.name, lambda: Ssh(address))


def emulated(folder: str | Path) -> Target:
    """Return the emulated board in a folder that `edge-bench emulate` made and started.

    ``board.json`` there holds ``host``, ``port``, ``user``, ``identity`` (a private key's file) and ``host_key`` (a
    public key, or the name of a file with one); files are relative to the folder. The user's own SSH configuration
    is left out.

    Raises
    ------
    ConfigError
        If there is no such board.
    """
    folder = Path(folder)
    file = folder / "board.json"
    try:
        board = json.loads(file.read_text(encoding="utf-8"))
        name, port, user = str(board["host"]), int(board["port"]), str(board["user"])
        identity, key = folder / str(board["identity"]), str(board["host_key"])
        if " " not in key:
            key = (folder / key).read_text(encoding="utf-8").strip()
        known = folder / "known_hosts"
        line = f"[{name}]:{port} {' '.join(key.split()[:2])}\n"
        if not known.is_file() or known.read_text() != line:
            known.write_text(line)
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = getattr(error, "strerror", None) or repr(error)
        remedy = f"make one: edge-bench emulate pi4 --dir {folder}"
        raise ConfigError(f"{file}: no emulated board ({why}); {remedy}") from None
    options = (
        "-F", "/dev/null", "-o", f'UserKnownHostsFile="{known.absolute()}"', "-o", "GlobalKnownHostsFile=/dev/null",
        "-o", f'IdentityFile="{identity.absolute()}"', "-o", "IdentitiesOnly=yes",
    )  # fmt: skip
    address = Address(f"{user}@{name}", port, options)
    # an emulated processor takes its time
    return Target(str(folder), lambda: Ssh(address, connect_s=60.0))


def targets(hosts: Sequence[str], folders: Sequence[str] = (), local: str | None = None) -> list[Target]:
    """Return the boards that options name.

    Raises
    ------
    ConfigError
        If they name none, or one twice.
    """
    found = [host(text) for text in hosts] + [emulated(folder) for folder in folders]
    if local is not None:
        folder = local
        found.append(Target(folder, lambda: Local(folder)))
    if not found:
        raise ConfigError("no board is named: give --host [user@]host[:port], --emulated DIR, or --local DIR")
    twice = {t.name for t in found if [u.name for u in found].count(t.name) > 1}
    if twice:
        raise ConfigError(f"{', '.join(sorted(twice))} is given twice")
    return found


def target_options(function: F) -> F:
    """Add ``--host``, ``--emulated`` and ``--local`` to a command; it gets ``hosts``, ``folders`` and ``local``."""
    for option in (
        click.option("--local", metavar="DIR", help="A folder of this machine as the board."),
        click.option("--emulated", "folders", multiple=True, metavar="DIR", help="The emulated board in a folder."),
        click.option("--host", "hosts", multiple=True, metavar="[USER@]HOST[:PORT]",
                     help="A board, as ssh would take it; may be given again."),
    ):  # fmt: skip
        function = option(function)
    return function
