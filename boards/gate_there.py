"""``edge-bench gate`` on a board: both sides go there and are measured there, in pairs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_bench.benchmarks.results import is_result
from edge_runtime import bundle as bundles
from edge_runtime.errors import BoardError, BundleError, ConfigError

from . import runtime_there
from .profile import Profile
from .run_there import check_board, fail, scratch
from .transport import Transport

_VERDICTS = (0, 1, 3)


def gate(
    transport: Transport, board: Profile, candidate: str, baseline: str, options: Sequence[str] = (), *, cache: Path,
    keep: bool = True, say: Callable[[str], None] = lambda _: None, patience_s: float = 3600.0,
) -> dict[str, Any]:  # fmt: skip
    """Gate on a board.

    Parameters
    ----------
    candidate, baseline : str
        Each a bundle here, a shipped name or a result file here.
    options : sequence of str
        More arguments of ``edge-bench gate``.

    Returns
    -------
    dict
        ``edge-bench/gate/1``; see `edge_bench.benchmarks.gate.gate`. Its ``context.machine`` is the board's.

    Raises
    ------
    ConfigError
        If a side is no such file, or an option names a file.
    BoardError
        If the board cannot be reached, is another one, or the gate fails there.
    """
    names = [option for option in ("--budget", "--evaluations", "--build") if option in options]
    if names:
        raise ConfigError(f"{names[0]} goes with a gate on this machine: gate the results of `edge-bench run --board`")
    sides = []
    for side in (candidate, baseline):
        try:
            sides.append(Path(side) if is_result(side) else Path(bundles.read(side).path))
        except BundleError as error:
            raise ConfigError(f"on a board both sides are files or shipped names: {error}") from None
    runtime = runtime_there.ensure(transport, cache=cache, say=say)
    with scratch(transport) as folder:
        there = []
        for number, file in enumerate(sides):
            there.append(f"{folder}/{'candidate' if number == 0 else 'baseline'}/{file.name}")
            transport.run(["mkdir", "-p", there[-1].rpartition("/")[0]])
            transport.put(file, there[-1])
        say("edge-bench gate")
        out = f"{folder}/gate.json"
        given = _without(options, "--baseline")
        argv = runtime.edge_bench("gate", there[0], "--baseline", there[1], "--json", out, *given)
        done = transport.run(argv, timeout_s=patience_s, say=lambda line: say(line.strip()))
        if done.code not in _VERDICTS:
            fail(done, transport.name, "gate")
        with tempfile.TemporaryDirectory(prefix="edge-bench-") as aside:
            transport.get(out, Path(aside) / "gate.json")
            try:
                found: dict[str, Any] = json.loads((Path(aside) / "gate.json").read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise BoardError(f"{transport.name}: its verdict cannot be read: {error}") from None
    if not keep:
        runtime_there.remove(transport, runtime)
    check_board(found["context"]["machine"], board, transport.name)
    return found


def _without(options: Sequence[str], name: str) -> list[str]:
    at = options.index(name) if name in options else len(options)
    return [*options[:at], *options[at + 2 :]]
