"""``--board``, ``--host`` and ``--emulated`` of `edge-bench run` and `gate`."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from edge_runtime.errors import ConfigError

_OURS = ("board_name", "hosts", "folders", "forget", "boot", "json_file")


@dataclass(frozen=True)
class Where:
    """On which boards a command runs: a profile's name, hosts, folders of emulated ones; whether to clean all up,
    and whether the emulated one is a whole system."""

    board: str
    hosts: Sequence[str]
    folders: Sequence[str]
    forget: bool
    boot: bool = False


def board_options(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options to a command; with them, the function `what` of `boards_cli` does its work, there."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @click.option("--board", "board_name", metavar="NAME", help="On a board of this profile, not here.")
        @click.option("--host", "hosts", multiple=True, metavar="[USER@]HOST[:PORT]", help="May be given again.")
        @click.option("--emulated", "folders", multiple=True, metavar="DIR", help="A folder of `edge-bench emulate`.")
        @click.option("--forget", is_flag=True, help="Remove our runtime from the board afterwards.")
        @click.option("--boot", is_flag=True, help="With --emulated: a whole system, whose clock counts instructions.")
        @functools.wraps(function)
        @click.pass_context
        def command(
            ctx: click.Context, /, board_name: str | None, hosts: Sequence[str], folders: Sequence[str], forget: bool,
            boot: bool, **given: Any,
        ) -> None:  # fmt: skip
            if not (board_name or hosts or folders):
                function(**given)
                return
            if not board_name:
                raise ConfigError("which board is it? Give --board NAME, such as pi4 (`edge-bench boards` lists them)")
            there = getattr(importlib.import_module("edge_bench.boards.boards_cli"), what)
            there(Where(board_name, hosts, folders, forget, boot), given, forwarded(ctx))

        return command

    return add


def forwarded(ctx: click.Context) -> list[str]:
    """Return the options that were given on the command line and are for the board, as its command line wants them."""
    found: list[str] = []
    for parameter in ctx.command.params:
        name = str(parameter.name)
        if isinstance(parameter, click.Argument) or name in _OURS:
            continue
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.COMMANDLINE:
            continue
        value, option = ctx.params[name], max(parameter.opts, key=len)
        if name == "precision":
            value = f"{100 * value:g}%"
        elif isinstance(value, dict):
            found += [part for k, v in value.items() for part in (option, f"{k}={v:g}")]
            continue
        elif isinstance(value, tuple):
            value = ",".join(f"{part:g}" for part in value)
        found += [option] if value is True else [option, str(value)]
    return found
