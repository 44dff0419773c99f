"""The gate by instruction counts on trial: what it catches of a planted growth, how often it alarms at nothing.

Every candidate is counted anew, and the baseline for every gate with a planted growth and the one without after it,
each from a copy of `edge_runtime` in another folder with a name of another length: where code and names lie in memory
is all that may differ between two counts of the same thing. Each gate is one line of a JSON lines file, so a trial can
be stopped and goes on.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import edge_runtime
from edge_runtime.bundle import read
from edge_runtime.files import append_json

from . import gate_instructions, trial_lines
from .gate_instructions import CountOptions
from .instructions import Instructions, available, count
from .instructions_worker import STAGES


@contextmanager
def elsewhere(rng: random.Random) -> Iterator[Path]:
    """Give a copy of this `edge_runtime` in a folder with a name of random length."""
    name = "".join(rng.choices("abcdefghij", k=rng.randint(1, 120)))
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        copy = Path(folder) / name
        shutil.copytree(Path(edge_runtime.__file__).parent, copy / "edge_runtime")
        yield copy


def trial(
    bundle: str, plant: Mapping[str, float], runs: int, out: Path, options: CountOptions, *,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Run what is missing of `runs` gates of each kind and return the summary of all.

    Raises
    ------
    ConfigError
        If `out` holds other gates, or nothing can count here.
    """
    source = available(options.source)
    options = replace(options, source=source)
    model = read(bundle)
    settings = {
        "bundle": model.sha256, "plant": dict(plant), "clock": "instructions", "source": source,
        "margin": options.margin, "clip_s": options.clip_s,
    }  # fmt: skip
    lines = trial_lines.read(out, settings)
    todo = trial_lines.missing(lines, runs)
    if todo:
        turns = gate_instructions.turns(plant, bundle, options)
        say(f"planted: a loop of so many turns: {turns}")
    bases: dict[int, Instructions] = {}  # the gates of one number have one baseline
    for kind, number in todo:
        rng, began = random.Random(f"{kind} {number}"), time.monotonic()

        def counted(planted: Mapping[str, int], rng: random.Random = rng) -> Instructions:
            with elsewhere(rng) as folder:
                return count(
                    str(model.path), clip_s=options.clip_s, source=source, backend=options.backend, plant=planted,
                    tree=folder,
                )  # fmt: skip

        old = bases.get(number) or counted({})
        bases = {number: old}
        new = counted(turns if kind == "planted" else {})
        found = gate_instructions.verdict(new, old, options)
        line = {
            "kind": kind, "number": number, "seconds": round(time.monotonic() - began, 2), "settings": settings,
            **{key: found[key] for key in ("verdict", "stage", "ratio")},
            "ratios": {stage: found["stages"][stage]["ratio"] for stage in STAGES},
            "counts": [[getattr(side, stage) for stage in STAGES] for side in (old, new)],
        }  # fmt: skip
        append_json(out, line)
        lines.append(line)
        say(f"{kind} {number + 1} of {runs}: {found['verdict']} ({found['stage']} {found['ratio']:.5f})")
    return trial_lines.summarise([line for line in lines if line["number"] < runs], settings)
