"""``edge-bench emulate``: an emulated board in a folder."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edge_runtime.cli import write_json, write_text
from edge_runtime.errors import ConfigError


def progress(text: str) -> None:
    """Say what long work does, on a terminal."""
    if sys.stderr.isatty():
        click.echo(f"  {text}", err=True)


@click.command()
@click.argument("name")
@click.option("--dir", "folder", required=True, type=click.Path(path_type=Path), help="Where the board is, or will be.")
@click.option("--stop", "halt", is_flag=True, help="Stop it; its files stay.")
@click.option("--boot", is_flag=True, help="Boot it as a whole system, to see that it does; sshd is not started.")
@click.option("--port", type=click.IntRange(1, 65535), help="Of its sshd on loopback; a free one by default.")
@click.option("--mirror", default=None, metavar="URL", help="Of Debian; deb.debian.org by default.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def emulate(
    name: str, folder: Path, halt: bool, boot: bool, port: int | None, mirror: str | None, json_file: str | None
) -> None:  # fmt: skip
    """Make and start an emulated board (pi4, pi5, pi-zero-2w): a genuine aarch64 Linux that SSH reaches.

    Its packages come from Debian and PyPI and are kept in a cache (EDGE_BENCH_CACHE). A board that is in the folder
    already is started. What runs there counts instructions: its times are the emulator's, never the board's.

    \b
    Example:
      edge-bench emulate pi4 --dir ~/boards/pi4
      edge-bench run --board pi4 --emulated ~/boards/pi4
      edge-bench emulate pi4 --dir ~/boards/pi4 --stop
      edge-bench emulate pi-zero-2w --dir ~/boards/zero --boot
      edge-bench run --board pi-zero-2w --emulated ~/boards/zero --boot
    """
    from . import board as boards
    from . import packages

    if halt and boot:
        raise ConfigError("--boot and --stop do not go together: a booted board ends by itself")
    if boot:
        _boot(name, folder, mirror or packages.MIRROR, json_file)
        return
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


def _boot(name: str, folder: Path, mirror: str, json_file: str | None) -> None:
    from . import board as boards
    from .boot import ABOUT, boot, described

    board = boards.make(name, folder, mirror=mirror, begin=False, say=progress)
    about = described(boot(folder, ABOUT, mirror=mirror, say=progress))
    if json_file != "-":
        click.echo(f"{name} in {folder}: {about['model']}, {board.cpu} by QEMU (virt), Linux {about['kernel']}, "
                   f"{about['memory'] / 1e6:.0f} MB")  # fmt: skip
        click.echo(f"  edge-bench run --board {name} --emulated {folder} --boot")
    if json_file:
        write_json(json_file, {**boards.describe(folder, board), "boot": about})


@click.command()
@click.argument("bundles", nargs=-1, required=True)
@click.option("--emulated", "folders", required=True, multiple=True, type=click.Path(path_type=Path), metavar="DIR",
              help="A folder of `edge-bench emulate`; may be given again.")  # fmt: skip
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1), help="Processes a bundle and board.")
@click.option("--clip", "clip_s", default=2.0, show_default=True, type=click.FloatRange(0.05, 60), help="Seconds.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write a table in Markdown.")
def instructions(
    bundles: tuple[str, ...], folders: tuple[Path, ...], runs: int, clip_s: float, json_file: str | None,
    markdown_file: Path | None,
) -> None:  # fmt: skip
    """Count the aarch64 instructions of BUNDLES on emulated boards, beside what the roofline predicts.

    A count is exact and does not depend on this machine; it is no time. The boards need not be running.

    \b
    Example:
      edge-bench boards instructions swishnet-slim-int8 --emulated ~/boards/pi4 --emulated ~/boards/pi5
    """
    from edge_runtime.bundle import read

    from ..profile import load
    from . import board as boards
    from . import instruction_table as made
    from .counting import count

    built = [read(name) for name in bundles]
    there = [(folder, load(boards.read(folder).profile)) for folder in folders]
    rows = []
    for bundle in built:
        for folder, profile in there:
            counts = []
            for number in range(runs):
                progress(f"{bundle.name} on {profile.name}: {number + 1} of {runs}")
                counts.append(count(folder, bundle.path, clip_s=clip_s))
            rows.append(made.row(bundle, profile, counts))
    values = made.document(rows)
    if json_file != "-":
        click.echo(made.text(values))
        click.echo(f"\ninstructions of one call, clips of {clip_s:g} s, {runs} runs each; emulated: counts, no times")
    if json_file:
        write_json(json_file, values)
    if markdown_file:
        write_text(str(markdown_file), made.markdown(values) + "\n")
