"""``edge-bench emulate``: an emulated board in a folder."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edge_runtime.cli import write_json
from edge_runtime.errors import ConfigError


def progress(text: str) -> None:
    """Say what long work does, on a terminal."""
    if sys.stderr.isatty():
        click.echo(f"  {text}", err=True)


@click.command()
@click.argument("name")
@click.option("--dir", "folder", required=True, type=click.Path(path_type=Path), help="Where the board is, or will be.")
@click.option("--stop", "halt", is_flag=True, help="Stop it; its files stay.")
@click.option("--port", type=click.IntRange(1, 65535), help="Of its sshd on loopback; a free one by default.")
@click.option("--mirror", default=None, metavar="URL", help="Of Debian; deb.debian.org by default.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def emulate(
    name: str, folder: Path, halt: bool, port: int | None, mirror: str | None, json_file: str | None
) -> None:  # fmt: skip
    """Make and start an emulated board (pi4, pi5, pi-zero-2w): a genuine aarch64 Linux that SSH reaches.

    Its packages come from Debian and PyPI and are kept in a cache (EDGE_BENCH_CACHE). A board that is in the folder
    already is started. What runs there counts instructions: its times are the emulator's, never the board's.

    \b
    Example:
      edge-bench emulate pi4 --dir ~/boards/pi4
      edge-bench run --board pi4 --emulated ~/boards/pi4
      edge-bench emulate pi4 --dir ~/boards/pi4 --stop
    """
    from . import board as boards
    from . import packages

    if halt:
        found = boards.read(folder)
        if found.profile != name:
            raise ConfigError(f"{folder}: holds an emulated {found.profile}, not {name}")
        found = boards.stop(folder)
    else:
        found = boards.make(name, folder, port=port, mirror=mirror or packages.MIRROR, say=progress)
    if json_file != "-":
        if halt:
            click.echo(f"{name} in {folder}: stopped")
        else:
            where = f"sshd on {found.host} port {found.port}"
            click.echo(f"{name} in {folder}: {found.cpu} by QEMU ({found.mode}), {where}")
            click.echo(f"  ssh -i {folder / found.identity} -p {found.port} {found.user}@{found.host}")
            click.echo(f"  host key {found.host_key}")
    if json_file:
        write_json(json_file, boards.describe(folder, found))
