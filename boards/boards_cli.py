"""``edge-bench run`` and ``gate`` on boards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.cli import write_json
from edge_runtime.errors import ConfigError

from .board_options import Where

if TYPE_CHECKING:
    from .profile import Profile
    from .transport import Transport


def run(where: Where, given: dict[str, Any], options: Sequence[str]) -> None:
    """Run a bundle on boards and show or write the results; exit code 2 when one failed."""
    from edge_bench.benchmarks.run_cli import render

    from . import run_there
    from .kept import cache_folder
    from .many import on_each
    from .targets import targets

    profile = _profile(where.board)
    if where.boot:
        _run_booted(where, given, options)
        return
    boards = targets(where.hosts, where.folders)
    emulated = _emulated(where)

    def work(transport: Transport, say: Callable[[str], None]) -> dict[str, Any]:
        how: dict[str, Any] = {"cache": cache_folder(), "keep": not where.forget, "say": say}
        if folder := emulated.get(transport.name):
            return run_there.on_emulated(folder, transport, given["bundle"], options, **how)
        return run_there.run(transport, profile, given["bundle"], options, **how)

    outcomes = on_each(boards, work, lambda line: click.echo(f"  {line}", err=True))
    results = [outcome.value for outcome in outcomes if outcome.value is not None]
    if len(boards) == 1 and outcomes[0].error is not None:
        raise outcomes[0].error
    json_file = given["json_file"]
    if json_file != "-":
        for result in results:
            click.echo(run_there.text(result) if "emulated" in result["context"] else render(result))
    if json_file:
        write_json(json_file, results[0] if len(boards) == 1 else {"schema": "edge-bench/runs/1", "runs": results})
    if len(results) < len(boards):
        sys.exit(2)


def _run_booted(where: Where, given: dict[str, Any], options: Sequence[str]) -> None:
    from edge_bench.benchmarks.run_cli import render

    from .emulation import boot

    if len(where.folders) != 1 or where.hosts:
        raise ConfigError("--boot takes one --emulated DIR and no --host")
    _emulated(where, running=False)
    result = boot.run(
        where.folders[0], given["bundle"], tuple(options), say=lambda line: click.echo(f"  {line}", err=True)
    )
    if given["json_file"] != "-":
        click.echo(render(result))
    if given["json_file"]:
        write_json(given["json_file"], result)


def gate(where: Where, given: dict[str, Any], options: Sequence[str]) -> None:
    """Gate a bundle on a board: in pairs there, or by instructions on an emulated one."""
    from edge_bench.benchmarks import gate_cli

    from .kept import cache_folder
    from .targets import targets

    if where.boot:
        raise ConfigError("--boot goes with `edge-bench run`; a gate counts instructions without it")
    (target, *more) = targets(where.hosts, where.folders)
    if more:
        raise ConfigError("a gate is of one board: give one --host or one --emulated")
    profile = _profile(where.board)
    if where.folders:
        from .emulation.counting import count

        _emulated(where, running=False)
        refused = [option for option in ("board", "evaluations", "seed") if given[option]]
        if refused or given["clock"] != "wall":
            raise ConfigError("--budget, --evaluations, --clock and --seed go with times: emulated boards only count")
        gate_cli.by_counter(given, partial(count, where.folders[0]))
    from . import gate_there

    say = partial(click.echo, err=True)
    with target.connect() as transport:
        found = gate_there.gate(
            transport, profile, given["candidate"], given["baseline"], options, cache=cache_folder(),
            keep=not where.forget, say=lambda line: say(f"  {line}"),
        )  # fmt: skip
    gate_cli.finish(found, given["json_file"])


def _profile(name: str) -> Profile:
    from .profile import load

    profile = load(name)
    if profile.kind != "linux":
        raise ConfigError(f"{name}: a microcontroller runs nothing of ours; edge-bench plan predicts what it would do")
    return profile


def _emulated(where: Where, *, running: bool = True) -> dict[str, str]:
    """Return the folders of emulated boards by the name of their connection."""
    from .emulation.board import read

    found = {}
    for folder in where.folders:
        board = read(folder)
        if board.profile != where.board:
            raise ConfigError(f"{folder}: is an emulated {board.profile}, not {where.board}")
        if running and not board.running:
            raise ConfigError(f"{folder}: is not running: edge-bench emulate {where.board} --dir {folder}")
        found[f"{board.user}@{board.host}:{board.port}"] = folder
    return found
