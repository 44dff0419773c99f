"""The file of a trial of gates, a line for each, and what its lines come to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError

from .statistics import proportion_interval
from .table import table
from .verdict import INCONCLUSIVE, PASS, REGRESS

SCHEMA = "edge-bench/gate-trial/1"
KINDS = ("planted", "same")


def read(out: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the gates that were run; a last line that was cut off counts as none, and the next one takes its place."""
    if not out.exists():
        return []
    text = out.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        strangers = [line for line in lines if line["settings"] != settings]
        _ = [(line["kind"], line["number"], line["verdict"], line["seconds"]) for line in lines]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{out}: is no trial of gates; give another --out") from None
    if strangers:
        raise ConfigError(f"{out}: holds gates of another bundle, plant or rule; give another --out")
    return lines


def missing(lines: Sequence[Mapping[str, Any]], runs: int) -> list[tuple[str, int]]:
    """Return (kind, number) of the gates that are still to be run, both kinds in turn."""
    done = {(line["kind"], line["number"]) for line in lines}
    return [(kind, number) for number in range(runs) for kind in KINDS if (kind, number) not in done]


def summarise(lines: list[dict[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of every verdict with exact 95 % intervals, in all and by load."""
    rows = []
    for kind in KINDS:
        for name, loads in (("all", (False, True, None)), ("quiet", (False,)), ("loaded", (True,))):
            mine = [line for line in lines if line["kind"] == kind and line.get("loaded") in loads]
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
