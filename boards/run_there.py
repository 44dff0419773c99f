"""``edge-bench run`` on a board: our runtime and a bundle go there, the result comes back, the rest is cleaned up.

On an emulated board the same program runs and its instructions are counted. The times in such a result are the
emulator's: they are there because the program was run, are marked in ``context.emulated``, and nothing compares them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from edge_runtime import bundle as bundles
from edge_runtime.errors import BoardError, ConfigError, UnreachableError

from . import runtime_there
from .profile import Profile
from .transport import Completed, Transport

SCHEMA = "edge-bench/run/1"
REMARK = "emulated: its times and memory are the emulator's, never the board's; compare instructions"
EMULATED = ("--clips", "2", "--rounds", "10", "--cold", "1", "--budget", "5")  # a proof that it runs, not a measurement


def run(
    transport: Transport, board: Profile, bundle: str | Path, options: Sequence[str] = (), *, cache: Path,
    keep: bool = True, say: Callable[[str], None] = lambda _: None, patience_s: float = 1800.0,
) -> dict[str, Any]:  # fmt: skip
    """Benchmark a bundle on a board.

    Parameters
    ----------
    transport : Transport
    board : Profile
        What the board must be.
    bundle : path or str
        A bundle here, or the name of a shipped one.
    options : sequence of str
        More arguments of ``edge-bench run``.
    cache : path
        Where wheels are kept here.
    keep : bool
        Whether the runtime stays there for the next time.
    patience_s : float
        Seconds for each command there, at most.

    Returns
    -------
    dict
        ``edge-bench/run/1``; ``context.machine`` is the board's, ``context.board`` its profile.

    Raises
    ------
    BoardError
        If the board cannot be reached, is another one, or the benchmark fails there.
    """
    built = bundles.read(bundle)
    runtime = runtime_there.ensure(transport, cache=cache, say=say)
    with scratch(transport) as folder:
        there = f"{folder}/{built.name}.tflite"
        transport.put(built.path, there)
        say(f"edge-bench run {built.name}")
        argv = runtime.edge_bench("run", there, "--json", f"{folder}/run.json", *options)
        done = transport.run(argv, timeout_s=patience_s, say=lambda line: say(line.strip()))
        if done.code:
            fail(done, transport.name, "run")
        with tempfile.TemporaryDirectory(prefix="edge-bench-") as aside:
            transport.get(f"{folder}/run.json", Path(aside) / "run.json")
            result = _read(Path(aside) / "run.json", transport.name)
    if not keep:
        runtime_there.remove(transport, runtime)
    check_board(result["context"]["machine"], board, transport.name)
    result["context"]["board"] = board.name
    return result


def on_emulated(
    folder: str | Path, transport: Transport, bundle: str | Path, options: Sequence[str] = (), *, cache: Path,
    keep: bool = True, say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Run a bundle on an emulated board and count its instructions; see `run`.

    Returns
    -------
    dict
        ``edge-bench/run/1`` with ``instructions`` and ``context.emulated``; memory is left out.
    """
    from .emulation import board as boards
    from .emulation import counting
    from .profile import load

    board = boards.read(folder)
    given = [*EMULATED, *options]
    while "--instructions" in given:  # counted from outside: no counter works in there
        at = given.index("--instructions")
        del given[at : at + 2]
    result = run(transport, load(board.profile), bundle, given, cache=cache, keep=keep, say=say)
    lengths = [clip["clip_s"] for clip in result["clips"]]
    say("counting instructions")
    counts = counting.count(folder, bundle, clip_s=2.0 if 2.0 in lengths else max(lengths))
    return marked(result, board.cpu, counts.to_dict())


def marked(result: dict[str, Any], cpu: str, counts: dict[str, Any]) -> dict[str, Any]:
    """Return an emulated result that says so: with instructions, without memory, its times not to be trusted."""
    about = result["context"]
    memory = {key: dict.fromkeys(v) if isinstance(v, dict) else None for key, v in result["memory"].items()}
    qemu = counts["context"].get("qemu")
    return {
        **result,
        "instructions": counts,
        "memory": memory,
        "context": {
            **about, "emulated": {"by": "QEMU user mode", "version": qemu, "cpu": cpu}, "trust": "doubtful",
            "remarks": [REMARK, *about["remarks"]],
        },
    }  # fmt: skip


def text(result: dict[str, Any]) -> str:
    """Return an emulated result as text for people: instructions, no times."""
    from edge_bench.benchmarks.table import size, table

    from .counted import STAGES, bound_us
    from .profile import load

    about, model, counts = result["context"], result["model"], result["instructions"]
    words = {"frontend_hop": "a hop of 10 ms", "frontend": "front end", "model": "model", "invoke": "of which invoke"}
    processor = load(about["board"]).processor
    rows = [[words[n], f"{counts[n]:,}", f"{bound_us(counts[n], processor):,.0f} us"] for n in STAGES]
    return "\n".join(
        [
            f"{model['name']}: {model['parameters']:,} parameters, {size(model['bytes'])}, {model['precision']}; "
            f"{model['backend']} {model['backend_version']}, {model['delegated_nodes']} of {model['nodes']} nodes "
            "delegated",
            f"{about['machine']['board']}, emulated ({about['emulated']['cpu']}, QEMU {about['emulated']['version']}); "
            f"Python {about['python']}, numpy {about['numpy']}; clips of {counts['context']['clip_s']:g} s",
            "",
            table(["", "instructions", "at least"], rows),
            "",
            "instructions are exact; the least time is that of a core that never waits (a prediction)",
            *(f"note: {remark}" for remark in about["remarks"][:1]),
        ]
    )


@contextmanager
def scratch(transport: Transport) -> Iterator[str]:
    """Make a folder there for a while; it goes whatever happens, unless the board is out of reach."""
    done = transport.run(["mktemp", "-d", "/tmp/edge-bench-XXXXXX"])
    if done.code:
        fail(done, transport.name, "mktemp")
    folder = done.stdout.decode().strip()
    try:
        yield folder
    finally:
        try:
            transport.run(["rm", "-rf", folder])
        except UnreachableError:
            pass


def fail(done: Completed, name: str, what: str) -> NoReturn:
    """Raise `BoardError` with what a command there said last."""
    last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.code}"])[-1]
    raise BoardError(f"{name}: {what} failed there: {last.removeprefix('edge-bench: ')}")


def check_board(machine: dict[str, Any], board: Profile, name: str) -> None:
    """Raise `ConfigError` unless the machine that a result is of is the board that was named."""
    if machine["architecture"] != board.processor.architecture:
        other = f"is {machine['architecture']}, {board.name} is {board.processor.architecture}"
        raise ConfigError(f"{name}: {other}: give its own --board")
    model = machine["board"] or ""
    if board.device_tree and not any(model.startswith(prefix) for prefix in board.device_tree):
        raise ConfigError(f"{name}: calls itself {model or machine['cpu']!r}, not {board.title}: give its own --board")


def _read(file: Path, name: str) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if value["schema"] != SCHEMA:
            raise ValueError(f"schema {value['schema']!r}")
        return value
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BoardError(f"{name}: its result cannot be read: {error}") from None


