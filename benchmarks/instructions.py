"""Exact instruction counts of a front-end hop, a clip's front end, the model and the bare invoke.

A count does not move with load, heat or neighbours, so it shows a growth of a fraction of a percent where times show
nothing below several. It is no time: a cache miss counts as little as an addition.

Three sources count the same program (`instructions_worker`), between the same marks:

* ``perf``: the processor's own counter, where the kernel and the (virtual) machine allow it;
* ``callgrind``: valgrind's virtual processor, on x86-64. It has AVX2 and no AVX-512 whatever the real one has, so on a
  processor with AVX-512 numpy and XNNPACK choose other kernels than they would alone; and for the same reason the
  counts of two x86-64 machines agree;
* any other: whoever can run a command and note a counter at its ``getppid`` system calls, such as QEMU with a plugin,
  uses `arguments` and `from_marks`.

They count user code only, one thread, in a fixed environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError, EdgeBenchError, errors

from .instructions_worker import Counter

SCHEMA = "edge-bench/instructions/1"
WORKER = Path(__file__).with_name("instructions_worker.py")
SOURCES = ("auto", "perf", "callgrind")
CALLS = {"perf": 200, "callgrind": 4}  # the processor's counter also counts a few instructions around interrupts
PATIENCE_S = 600.0
STACK_ENTRIES, STACK_BYTES = 64, 8192  # of a counted process: its arguments and environment


@dataclass(frozen=True)
class Instructions:
    """Instructions of one call.

    Attributes
    ----------
    frontend_hop : int
        10 ms pushed into the streaming front end.
    frontend : int
        The features of a whole clip.
    model : int
        Features to probabilities: quantise, set, invoke, get.
    invoke : int
        Of which the interpreter's invoke and the copy of its output.
    source : str
        What counted: ``perf``, ``callgrind``, or an emulator's name.
    context : dict
        What ran: bundle, clip_s, backend and its version, python, numpy, architecture, processor_features.
    """

    frontend_hop: int
    frontend: int
    model: int
    invoke: int
    source: str
    context: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)


def arguments(
    bundle: str | Path, *, clip_s: float = 2.0, calls: int = CALLS["callgrind"], backend: str = "auto",
    plant: Mapping[str, int] | None = None, source: str = "",
) -> list[str]:  # fmt: skip
    """Return the arguments of `instructions_worker`, which follow the path of Python and of the program.

    `source` is ``perf``, ``callgrind``, or empty for a counter outside that starts by itself.
    """
    more = [f"{stage}={turns}" for stage, turns in (plant or {}).items()]
    return [str(bundle), f"{clip_s:g}", str(calls), backend, *([source] if source else []), *more]


def environment(tree: str | Path | None = None) -> dict[str, str]:
    """Return the fixed environment of a counted process; `tree` is a folder whose `edge_runtime` shall run."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "VALGRIND_LIB") if name in os.environ}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    fixed = {"PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1", "LC_ALL": "C.UTF-8", "HOME": "/"}
    return {**kept, **threads, **fixed, **({"PYTHONPATH": str(tree)} if tree else {})}


def padded(environment: Mapping[str, str], command: Sequence[str]) -> dict[str, str]:
    """Return the environment with empty variables that make it and the command as long as any other's.

    Both lie on the stack, above all else: a longer path would move every array there, and how many instructions a
    copy takes depends on where its ends lie (0.2 % of a front-end hop).
    """
    missing = max(1, STACK_ENTRIES - len(environment) - len(command))
    filled = {**environment, **{f"PAD{i:03}": "" for i in range(missing)}}
    size = sum(len(os.fsencode(text)) + 1 for text in (*(f"{k}={v}" for k, v in filled.items()), *command))
    return {**filled, "PAD000": "x" * max(0, STACK_BYTES - size)}


def from_marks(line: str, counts: Sequence[int], source: str) -> Instructions:
    """Return the counts of one call from what `instructions_worker` printed and the counter at its marks.

    Parameters
    ----------
    line : str
        The worker's standard output.
    counts : sequence of int
        The counter at every mark, ascending; earlier marks than the worker's own may precede.
    source : str
        What counted.

    Raises
    ------
    EdgeBenchError
        If the output is not the worker's, marks are missing, or the counts do not grow.
    """
    try:
        about = json.loads(line.strip().splitlines()[-1])
        calls, stages = int(about.pop("calls")), list(about.pop("stages"))
        about.pop("counts", None)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError):
        said = line.strip()[-200:]
        raise EdgeBenchError(f"{source}: the counted process said {said!r} in place of its answer") from None
    mine = list(counts)[-3 * len(stages) :]
    if len(mine) < 3 * len(stages):
        raise EdgeBenchError(f"{source}: {len(counts)} marks were counted, {3 * len(stages)} are needed")
    found = {}
    for number, stage in enumerate(stages):
        a, b, c = mine[3 * number : 3 * number + 3]
        if not a < b < c or (c - b) <= (b - a):
            raise EdgeBenchError(f"{source}: counts of {stage} do not grow with its calls: {b - a} and {c - b}")
        found[stage] = round(((c - b) - (b - a)) / calls)
    return Instructions(**found, source=source, context=about)


def count(
    bundle: str | Path, *, clip_s: float = 2.0, source: str = "auto", backend: str = "auto",
    plant: Mapping[str, int] | None = None, tree: str | Path | None = None,
) -> Instructions:  # fmt: skip
    """Count on this machine.

    Parameters
    ----------
    bundle : path or str
        A bundle or the name of a shipped one.
    clip_s : float
    source : {'auto', 'perf', 'callgrind'}
        'auto' takes perf where it works.
    backend : str
        See `edge_runtime.interpreter.Session`.
    plant : mapping, optional
        Turns of an empty loop that are put into every call of a stage: a test of a gate.
    tree : path, optional
        A folder whose `edge_runtime` shall run in place of the installed one.

    Raises
    ------
    ConfigError
        If the source is unknown or does not work here; it says what to install.
    EdgeBenchError
        If the bundle cannot be run.
    """
    source = available(source)
    command = [
        sys.executable, str(WORKER),
        *arguments(bundle, clip_s=clip_s, calls=CALLS[source], backend=backend, plant=plant, source=source),
    ]  # fmt: skip
    if source == "perf":
        line = _run(command, tree)
        return from_marks(line, json.loads(line.strip().splitlines()[-1])["counts"], source)
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        valgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", "--dump-before=getppid"]
        line = _run([*valgrind, f"--callgrind-out-file={folder}/out", *command], tree)
        return from_marks(line, _callgrind_counts(Path(folder)), source)


def available(source: str = "auto") -> str:
    """Return the source that will count here.

    Raises
    ------
    ConfigError
        If it is unknown or does not work here.
    """
    if source not in SOURCES:
        raise ConfigError(f"source {source!r} of instruction counts is unknown, must be one of {', '.join(SOURCES)}")
    why = "not asked"
    if source in ("auto", "perf"):
        try:
            Counter().read()
            return "perf"
        except OSError as error:
            why = error.strerror or str(error)
            if source == "perf":
                raise ConfigError(
                    f"perf cannot count instructions here ({why}): sysctl kernel.perf_event_paranoid=2 allows it where "
                    "the machine has the counter, many virtual ones have not; or count with callgrind"
                ) from None
    if shutil.which("valgrind") is None:
        raise ConfigError(f"nothing can count instructions here: no valgrind (apt install valgrind); perf: {why}")
    return "callgrind"


def _run(command: Sequence[str], tree: str | Path | None) -> str:
    """Return the standard output of a counted process."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=padded(environment(tree), command), check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EdgeBenchError(f"counting instructions took over {PATIENCE_S:g} s: is the machine overloaded?") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        kind, _, message = last.removeprefix("edge_runtime.errors.").partition(": ")
        if hasattr(errors, kind):  # a mistake in what was given, found in there
            raise getattr(errors, kind)(message)
        raise EdgeBenchError(f"the counted process failed: {last}")
    return done.stdout


def _callgrind_counts(folder: Path) -> list[int]:
    """Return the running total at every dump: callgrind writes what each part between two marks cost."""
    parts = {}
    for file in folder.glob("out.*"):
        with file.open(encoding="utf-8", errors="replace") as lines:
            head: dict[str, str] = {}
            for line in lines:
                key, _, value = line.partition(":")
                head.setdefault(key, value.strip())
                if key == "summary":
                    break
        number = re.fullmatch(r"out\.(\d+)", file.name)
        if number and "summary" in head:
            parts[int(number[1])] = int(head["summary"].split()[0])
    total, counts = 0, []
    for part in sorted(parts):
        total += parts[part]
        counts.append(total)
    return counts
