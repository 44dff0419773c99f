"""The gate on trial: how often it catches a planted slow-down, how often it alarms at nothing.

Gates with a planted slow-down and gates of a bundle with itself alternate, every second of each kind beside a second
process that keeps a core busy. Each gate is one line of a JSON lines file, so a trial can be stopped and goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError
from edge_runtime.bundle import read

from .gate import GateOptions, gate
from .statistics import proportion_interval
from .table import table
from .verdict import INCONCLUSIVE, PASS, REGRESS

SCHEMA = "edge-bench/gate-trial/1"
KINDS = ("planted", "same")


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
    lines = _lines(out, settings)
    done = {(line["kind"], line["number"]) for line in lines}
    todo = [(kind, number) for number in range(runs) for kind in KINDS if (kind, number) not in done]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as file:
        for kind, number in todo:
            loaded = number % 2 == 1
            with busy(loaded):
                found = gate(model, model, replace(options, plant=plant if kind == "planted" else {}, seed=number))
            line = {
                "kind": kind, "number": number, "loaded": loaded, "settings": settings,
                **{k: found[k] for k in ("verdict", "stage", "ratio", "interval", "noise_floor", "pairs", "look")},
                "seconds": found["seconds"], "stages": found["stages"], "times": found["times"],
                "load": found["context"]["before"]["load"], "time": found["context"]["time"],
            }  # fmt: skip
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
            lines.append(line)
            say(f"{kind} {number + 1} of {runs}{', loaded' if loaded else ''}: {found['verdict']} "
                f"({found['stage']} {found['ratio']:.3f}) after {found['seconds']:.0f} s")  # fmt: skip
    return summarise([line for line in lines if line["number"] < runs], settings)


def _lines(out: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the gates that were run; a last line that was cut off is removed."""
    if not out.exists():
        return []
    text = out.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        out.write_text(whole, encoding="utf-8")
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        strangers = [line for line in lines if line["settings"] != settings]
        _ = [(line["kind"], line["number"], line["loaded"], line["verdict"], line["seconds"]) for line in lines]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{out}: is no trial of gates; give another --out") from None
    if strangers:
        raise ConfigError(f"{out}: holds gates of another bundle, plant or rule; give another --out")
    return lines


def summarise(lines: list[dict[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of every verdict with exact 95 % intervals, in all and by load."""
    rows = []
    for kind in KINDS:
        for name, loads in (("all", (False, True)), ("quiet", (False,)), ("loaded", (True,))):
            mine = [line for line in lines if line["kind"] == kind and line["loaded"] in loads]
            if not mine:
                continue
            counts = {v: sum(line["verdict"] == v for line in mine) for v in (PASS, REGRESS, INCONCLUSIVE)}
            alarm = proportion_interval(counts[REGRESS], len(mine))
            rows.append(
                {
                    "kind": kind, "load": name, "gates": len(mine), **counts,
                    "alarm_rate": alarm.value, "alarm_interval": [round(alarm.low, 5), round(alarm.high, 5)],
                    "seconds": round(sum(line["seconds"] for line in mine) / len(mine), 1),
                }
            )  # fmt: skip
    return {"schema": SCHEMA, "settings": dict(settings), "rows": rows}


def render(summary: dict[str, Any]) -> str:
    """Return a summary as text for people."""
    planted = ", ".join(f"{stage} x {factor:g}" for stage, factor in summary["settings"]["plant"].items())
    names = {"planted": f"planted ({planted})", "same": "with itself"}
    rows = [
        [f"{names[r['kind']]}, {r['load']}", str(r["gates"]), str(r[REGRESS]), str(r[PASS]), str(r[INCONCLUSIVE]),
         f"{100 * r['alarm_rate']:.1f} % ({100 * r['alarm_interval'][0]:.1f} to {100 * r['alarm_interval'][1]:.1f})",
         f"{r['seconds']:.0f} s"]
        for r in summary["rows"]
    ]  # fmt: skip
    return table(["gates", "n", "regress", "pass", "inconclusive", "alarms", "mean time"], rows)
