"""The gate on trial: how often it catches a planted slow-down, how often it alarms at nothing.

Gates with a planted slow-down and gates of a bundle with itself alternate, every second of each kind beside a second
process that keeps a core busy. Each gate is one line of a JSON lines file, so a trial can be stopped and goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edge_runtime.bundle import read
from edge_runtime.files import append_json

from . import trial_lines
from .gate import GateOptions, gate


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """Keep a core busy with another process."""
    if not wanted:
        yield
        return
    code = "import numpy as np\nx = np.random.rand(400, 400)\nwhile True: x = np.tanh(x @ x / 400)"
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        child.kill()
        child.wait()


def trial(
    bundle: str, plant: Mapping[str, float], runs: int, out: Path, options: GateOptions, *,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Run what is missing of `runs` gates of each kind and return the summary of all.

    Raises
    ------
    ConfigError
        If `out` holds gates of another bundle, plant or rule, or is damaged.
    """
    model = read(bundle)
    settings = {
        "bundle": model.sha256, "plant": dict(plant), "budget_s": options.budget_s, "clock": options.clock,
        "rule": json.loads(json.dumps(asdict(options.rule))),
    }  # fmt: skip
    lines = trial_lines.read(out, settings)
    for kind, number in trial_lines.missing(lines, runs):
        loaded = number % 2 == 1
        with busy(loaded):
            found = gate(model, model, replace(options, plant=plant if kind == "planted" else {}, seed=number))
        line = {
            "kind": kind, "number": number, "loaded": loaded, "settings": settings,
            **{k: found[k] for k in ("verdict", "stage", "ratio", "interval", "noise_floor", "pairs", "look")},
            "seconds": found["seconds"], "stages": found["stages"], "times": found["times"],
            "load": found["context"]["before"]["load"], "time": found["context"]["time"],
        }  # fmt: skip
        append_json(out, line)
        lines.append(line)
        say(f"{kind} {number + 1} of {runs}{', loaded' if loaded else ''}: {found['verdict']} "
            f"({found['stage']} {found['ratio']:.3f}) after {found['seconds']:.0f} s")  # fmt: skip
    return trial_lines.summarise([line for line in lines if line["number"] < runs], settings)
