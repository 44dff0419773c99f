"""``edge-bench boards`` and ``plan``: what boards there are and what a bundle would do on them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge_runtime.cli import write_json
from edge_runtime.errors import ConfigError

from .emulation.cli import instructions

_json = click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")


@click.group(invoke_without_command=True)
@_json
@click.pass_context
def boards(ctx: click.Context, json_file: str | None) -> None:
    """List the boards that have a profile; `show` one, or `detect` which this machine is.

    \b
    Example:
      edge-bench boards
      edge-bench boards show pi4
      edge-bench boards detect --json -
    """
    if ctx.invoked_subcommand:
        return
    from edge_bench.benchmarks.table import size, table

    from .profile import load, names

    profiles = [load(name) for name in names()]
    profiles.sort(key=lambda p: (p.kind, p.name))
    if json_file != "-":
        rows = [
            [p.name, p.title, f"{p.processor.cores} x {p.processor.core}", f"{p.processor.clock_mhz:g} MHz",
             size(p.memory.ram), p.runtime.interpreter]
            for p in profiles
        ]  # fmt: skip
        click.echo(table(["board", "", "processor", "clock", "RAM", "interpreter"], rows))
    if json_file:
        write_json(json_file, {"schema": "edge-bench/boards/1", "boards": [asdict(p) for p in profiles]})


boards.add_command(instructions)


@boards.command()
@click.argument("name")
@_json
def show(name: str, json_file: str | None) -> None:
    """Show the profile of board NAME, or of a TOML file.

    \b
    Example:
      edge-bench boards show pi-zero-2w
    """
    from .profile import load

    profile = load(name)
    _show(asdict(profile), json_file)


@boards.command()
@_json
def detect(json_file: str | None) -> None:
    """Say which board this machine is.

    \b
    Example:
      edge-bench boards detect
    """
    from .profile import detect as find

    profile = find()
    if profile is None:
        raise ConfigError("no profile fits this machine: write a .toml like those of `edge-bench boards show`")
    _show(asdict(profile), json_file)


def _show(values: dict[str, Any], json_file: str | None) -> None:
    from edge_bench.benchmarks.table import size

    if json_file != "-":
        click.echo(f"{values['name']}: {values['title']} ({values['kind']})")
        processor, memory, budget, runtime = (values[k] for k in ("processor", "memory", "budget", "runtime"))
        lines = {
            "processor": f"{processor['cores']} x {processor['core']}, {processor['clock_mhz']:g} MHz, "
            f"{processor['architecture']}",
            "a cycle": f"{processor['int8_macs']:g} int8 and {processor['float_macs']:g} float multiply-accumulates, "
            "at most (estimates)",
            "memory": f"{size(memory['ram'])}, reading {size(processor['bandwidth'])} a second (estimate)",
            "flash": size(memory["flash"]),
            "python": runtime["python"],
            "interpreter": runtime["interpreter"],
            "transport": values["transport"],
            "budget": f"{size(budget['ram'])} of RAM, {size(budget['flash'])} of flash, "
            f"{budget['real_time_factor']:.0%} of a core",
            "note": values["note"],
        }
        for key, text in lines.items():
            if text:
                click.echo(f"  {key:12s} {text}")
    if json_file:
        write_json(json_file, {"schema": "edge-bench/board/1", **values})


@click.command()
@click.argument("bundle", default="swishnet-slim-int8")
@click.option("--board", "names", required=True, multiple=True, help="A board's name or .toml; may be given again.")
@click.option("--against", "result", type=click.Path(), help="A run's JSON: how far off the prediction was.")
@click.option("--instructions", "counts", type=click.Path(), help="A table of `edge-bench boards instructions`.")
@_json
def plan(
    bundle: str, names: tuple[str, ...], result: str | None, counts: str | None, json_file: str | None
) -> None:  # fmt: skip
    """Predict whether BUNDLE fits a board, and how fast it would be there at best.

    Times are lower bounds for one core: by the roofline, and by the instructions where they were counted. Exit code 1
    when it does not fit a board.

    \b
    Example:
      edge-bench plan swishnet-slim-int8 --board pi-zero-2w --board nano33-ble
      edge-bench plan --board pi4 --against pi4-run.json
    """
    from edge_bench.benchmarks.table import micro, size, table
    from edge_runtime.bundle import read

    from . import plan as planning
    from .counted import SHIPPED
    from .profile import load

    built = read(bundle)
    profiles = [load(name) for name in names]
    run = _read_json(result) if result else None
    plans = [planning.plan(built, profile, counts=counts or SHIPPED) for profile in profiles]
    if run:
        plans = [{**p, "against": planning.against(p, run)} for p in plans]
    if json_file != "-":
        rows = []
        for p in plans:
            clip, needs, budget = p["forms"]["clip"], p["needs"], p["budget"]
            rows.append(
                [p["board"], f"{size(needs['flash'])} / {size(budget['flash'])}",
                 f"{size(needs['ram'])} / {size(budget['ram'])}", micro(clip["frontend"]["us"]),
                 f"{micro(clip['model']['us'])} ({clip['model']['limited_by']})",
                 f"{clip['real_time_factor']:.2%}", "yes" if p["fits"]["all"] else "NO"]
            )  # fmt: skip
        clip = plans[0]["forms"]["clip"]
        click.echo(f"{built.name}: prediction; times are lower bounds, a clip of {clip['frames']} frames on one core\n")
        header = ["board", "flash / budget", "RAM / budget", "front end", "network", "of a core", "fits"]
        click.echo(table(header, rows))
        for p in plans:
            click.echo("")
            if known := p["by_instructions"]:
                parts = ((known["frontend"], "front end"), (known["model"], "network"))
                least = " and ".join(f"{micro(s['us'])} ({word}, {s['instructions']:,})" for s, word in parts)
                click.echo(
                    f"{p['board']}: by instructions a clip of {known['clip_s']:g} s takes at least {least}: "
                    f"{known['real_time_factor']:.2%} of a core"
                )
            for note in p["notes"]:
                click.echo(f"{p['board']}: {note}")
            for stage, off in p.get("against", {}).get("stages", {}).items():
                known = off.get("by_instructions")
                click.echo(
                    f"{p['board']}: {stage} was measured at {micro(off['measured_us'])}, {off['ratio']:g} x the bound"
                    + (f" of the roofline, {known['ratio']:g} x that of the instructions" if known else "")
                )
    if json_file:
        write_json(json_file, plans[0] if len(plans) == 1 else {"schema": "edge-bench/plans/1", "plans": plans})
    if not all(p["fits"]["all"] for p in plans):
        raise SystemExit(1)


def _read_json(name: str) -> dict[str, Any]:
    try:
        value = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: cannot be read as a result: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: is no result of edge-bench run")
    return value
