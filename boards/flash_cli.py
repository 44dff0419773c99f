"""``edge-bench flash``, ``rollback`` and ``board``: bundles onto boards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from edge_runtime.cli import write_json
from edge_runtime.errors import ConfigError

from .flashing import ROOT
from .targets import target_options

_json = click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
_root = click.option("--root", default=ROOT, show_default=True, help="The agent's folder there.")
_key = click.option("--key", default="~/.ssh/id_ed25519", show_default=True, help="SSH key that signs.")


def _each(
    hosts: Sequence[str], folders: Sequence[str], local: str | None, work: Callable[..., dict[str, Any]],
    json_file: str | None, schema: str,
) -> None:  # fmt: skip
    """Do `work` on every board, print a line and the JSON; exit with 2 if one failed, else 1 if one rolled back."""
    from .flashing import RolledBackError
    from .many import on_each
    from .targets import targets

    boards = targets(hosts, folders, local)
    found = on_each(boards, work, lambda line: click.echo(line, err=True))
    values = []
    for outcome in found:
        if outcome.value is None:
            values.append({"host": outcome.name, "error": str(outcome.error), "state": "failed"})
            continue
        value = {**outcome.value, "host": outcome.name, "schema": f"edge-bench/{schema}/1"}
        values.append(value)
        if json_file != "-":
            what = f"version {value['version']} {value['name']}" if value["slot"] else "nothing active"
            click.echo(
                f"{outcome.name}: {value['board']}, slot {value['slot'] or '-'}: {what}, {value['state']}; floor "
                f"{value['floor']['version']}"
            )
    if json_file:
        one = len(values) == 1
        write_json(json_file, values[0] if one else {"schema": f"edge-bench/{schema}-many/1", "boards": values})
    errors = [outcome.error for outcome in found if outcome.error is not None]
    if errors:
        if len(found) > 1:
            click.echo(f"edge-bench: {len(errors)} of {len(found)} boards failed", err=True)
        sys.exit(1 if all(isinstance(error, RolledBackError) for error in errors) else 2)


@click.command()
@click.argument("bundle")
@click.option("--board", "name", required=True, help="A board's name or .toml, see edge-bench boards.")
@target_options
@_key
@click.option("--version", type=click.IntRange(1), help="Of what runs there; by default one above the board's floor.")
@click.option("--allow-downgrade", is_flag=True, help="Sign that the version may be below the floor.")
@_root
@_json
def flash(
    bundle: str, name: str, hosts: tuple[str, ...], folders: tuple[str, ...], local: str | None, key: str,
    version: int | None, allow_downgrade: bool, root: str, json_file: str | None,
) -> None:  # fmt: skip
    """Put BUNDLE onto boards, each of which keeps running a verified bundle whatever happens.

    It is signed for each board, checked there (signature, operators, golden vectors) before anything is written, put
    into the inactive slot, read back, switched to, tried, and confirmed; otherwise the board goes back. The same bundle
    again is no change. Boards are enrolled once: edge-bench board enrol.

    Exit code 1 when a board rolled back, 2 when one refused or was not reached.

    \b
    Example:
      edge-bench flash mine.tflite --board pi4 --host pi@kitchen.local
      edge-bench flash mine.tflite --board pi4 --host kitchen --host cellar:2222 --json -
      edge-bench flash old.tflite --board pi4 --host kitchen --version 3 --allow-downgrade
    """
    from edge_runtime.bundle import read

    from . import flashing
    from .profile import load

    built, profile = read(bundle), load(name)
    if allow_downgrade and version is None:
        raise ConfigError("--allow-downgrade needs the --version to go down to")
    path = Path(key).expanduser()
    _each(
        hosts, folders, local,
        lambda transport, say: flashing.flash(
            transport, built, profile, path, root=root, version=version, allow_downgrade=allow_downgrade, say=say
        ),
        json_file, "flash",
    )  # fmt: skip


@click.command()
@target_options
@_root
@_json
def rollback(
    hosts: tuple[str, ...], folders: tuple[str, ...], local: str | None, root: str, json_file: str | None
) -> None:  # fmt: skip
    """Go back to the bundle that was confirmed before the active one; the version floor stays.

    \b
    Example:
      edge-bench rollback --host pi@kitchen.local
    """
    from .flashing import ask

    _each(hosts, folders, local, lambda t, say: ask(t, root, ["rollback"], say=say), json_file, "rollback")


@click.group()
def board() -> None:
    """Enrol a board, pin its host key, see what it runs.

    \b
    Example:
      edge-bench board pin --host pi@kitchen.local --fingerprint SHA256:Bm4q...
      edge-bench board enrol --board pi4 --host pi@kitchen.local
      edge-bench board status --host pi@kitchen.local
    """


@board.command()
@target_options
@_root
@_json
def status(
    hosts: tuple[str, ...], folders: tuple[str, ...], local: str | None, root: str, json_file: str | None
) -> None:  # fmt: skip
    """Say what a board runs; changes nothing.

    \b
    Example:
      edge-bench board status --host pi@kitchen.local --json -
    """
    from .flashing import ask

    _each(hosts, folders, local, lambda t, say: ask(t, root, ["status"]), json_file, "board-status")


@board.command()
@target_options
@_root
@_json
def recover(
    hosts: tuple[str, ...], folders: tuple[str, ...], local: str | None, root: str, json_file: str | None
) -> None:  # fmt: skip
    """Bring a board whose flash was interrupted back to a confirmed bundle; the next flash would do it, too.

    \b
    Example:
      edge-bench board recover --host pi@kitchen.local
    """
    from .flashing import ask

    _each(hosts, folders, local, lambda t, say: ask(t, root, ["recover"], say=say), json_file, "board-status")


@board.command()
@click.option("--board", "name", required=True, help="A board's name or .toml, see edge-bench boards.")
@target_options
@click.option("--key", "keys", multiple=True, help="Whose signatures it takes; ~/.ssh/id_ed25519, may be given again.")
@click.option("--old-key", help="One of the keys before, when they are to be changed.")
@click.option("--python", default="python3", show_default=True, help="The Python there that has edge-bench.")
@click.option("--service", metavar="COMMAND", help="Run `edge-bench COMMAND` there as a systemd service.")
@click.option("--again", "again_s", default=0, type=click.IntRange(0), help="Seconds until it runs again, for segment.")
@_root
@_json
def enrol(
    name: str, hosts: tuple[str, ...], folders: tuple[str, ...], local: str | None, keys: tuple[str, ...],
    old_key: str | None, python: str, service: str | None, again_s: int, root: str, json_file: str | None,
) -> None:  # fmt: skip
    """Set a board up once: the agent, its identity, and the keys whose signatures it takes.

    It needs Python with edge-bench there, and OpenSSH 8.1 or later. Again: the agent and its budget are renewed. Other
    keys need a signature by one of the old ones. --service runs listen or segment from the active slot with systemd;
    it starts with the first flash and restarts with every one.

    \b
    Example:
      edge-bench board enrol --board pi4 --host pi@kitchen.local
      edge-bench board enrol --board pi4 --host kitchen --service 'listen --lines'
      edge-bench board enrol --board pi4 --host kitchen --service 'segment /srv/in --out /srv/out' --again 60
      edge-bench board enrol --board pi4 --host kitchen --key new.pub --old-key ~/.ssh/id_ed25519
    """
    import shlex

    from . import enrol as enrolling
    from .profile import load

    try:
        unit = {"command": shlex.split(service), "again_s": again_s} if service else None
    except ValueError as error:
        raise ConfigError(f"--service {service!r}: {error}") from None
    profile = load(name)
    paths = [Path(key).expanduser() for key in keys or ("~/.ssh/id_ed25519",)]
    old = Path(old_key).expanduser() if old_key else None
    _each(
        hosts, folders, local,
        lambda transport, say: enrolling.enrol(
            transport, profile, paths, old_key=old, root=root, python=python, service=unit, say=say
        ),
        json_file, "enrol",
    )  # fmt: skip


@board.command()
@click.option("--host", required=True, metavar="[USER@]HOST[:PORT]")
@click.option("--fingerprint", help="SHA256:... as read on the board's own screen; without it: show what it offers.")
def pin(host: str, fingerprint: str | None) -> None:
    """Accept a board's host key from now on, if it has the fingerprint that you read on the board itself.

    Read it there: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub. The pin goes to
    ~/.config/edge-bench/known_hosts; your own known_hosts is not touched.

    \b
    Example:
      edge-bench board pin --host pi@kitchen.local --fingerprint SHA256:Bm4q...
    """
    from . import hosts
    from .address import Address

    address = Address.parse(host)
    if fingerprint is None:
        for line in hosts.offered(address):
            click.echo(f"{hosts.fingerprint(line)}  {line.split()[1]}")
        click.echo("nothing was pinned: compare with the board's own, then give --fingerprint", err=True)
        return
    line = hosts.pin(address, fingerprint)
    click.echo(f"{address.name}: {line.split()[1]} {fingerprint} is pinned in {hosts.pinned_file()}")
