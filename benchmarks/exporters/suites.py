"""Files of ``pytest --benchmark-json`` in the formats of others: what a benchmark suite measured.

pytest-benchmark keeps medians and quartiles; where a format has bounds, they are the quartiles, which say how the calls
are spread, not how well the median is known.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from ..table import micro

Suite = dict[str, Any]


def export(format_name: str, suites: Sequence[Suite]) -> str:
    """Return suites as text in one of the formats of this package.

    Raises
    ------
    KeyError
        If the format is none for suites: a pytest-benchmark file needs no export to its own.
    """
    return _FORMATS[format_name](suites)


def _rows(suites: Sequence[Suite]) -> list[tuple[Suite, dict[str, Any], dict[str, float]]]:
    """Return (suite, benchmark, its times in microseconds)."""
    keys = ("median", "q1", "q3", "min", "max")
    return [(s, b, {k: 1e6 * b["stats"][k] for k in keys}) for s in suites for b in s["benchmarks"]]


def _cpu(suite: Suite) -> str:
    return str((suite["machine_info"].get("cpu") or {}).get("brand_raw") or suite["machine_info"].get("node") or "")


def _csv(suites: Sequence[Suite]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("time", "benchmark", "cpu", "median", "q1", "q3", "min", "max", "rounds"))
    for suite, b, t in _rows(suites):
        times = (round(v, 4) for v in t.values())
        writer.writerow((suite["datetime"], b["fullname"], _cpu(suite), *times, b["stats"]["rounds"]))
    return file.getvalue()


def _markdown(suites: Sequence[Suite]) -> str:
    lines = ["| benchmark | median | q1 | q3 | rounds |", "|---|--:|--:|--:|--:|"]
    for _, b, t in _rows(suites):
        cells = (b["name"].replace("|", "\\|"), *(micro(t[k]) for k in ("median", "q1", "q3")), b["stats"]["rounds"])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def _bencher(suites: Sequence[Suite]) -> str:
    out = {}
    for _, b, t in _rows(suites):
        value, low, high = (round(1e3 * t[k], 1) for k in ("median", "q1", "q3"))  # nanoseconds there
        out[b["fullname"]] = {"latency": {"value": value, "lower_value": low, "upper_value": high}}
    return json.dumps(out, indent=1) + "\n"


def _github(suites: Sequence[Suite]) -> str:
    out = [
        {"name": b["fullname"], "unit": "us", "value": round(t["median"], 4),
         "range": f"± {(t['q3'] - t['q1']) / 2:.2f}", "extra": _cpu(suite)}
        for suite, b, t in _rows(suites)
    ]  # fmt: skip
    return json.dumps(out, indent=1, ensure_ascii=False) + "\n"


def _google(suites: Sequence[Suite]) -> str:
    rows = [
        {"name": b["fullname"], "run_name": b["fullname"], "run_type": "iteration", "repetitions": 1,
         "repetition_index": 0, "threads": 1, "iterations": b["stats"]["rounds"], "real_time": t["median"],
         "cpu_time": t["median"], "time_unit": "us"}
        for _, b, t in _rows(suites)
    ]  # fmt: skip
    first = suites[0]
    context = {
        "date": first["datetime"], "host_name": _cpu(first), "executable": "pytest",
        "num_cpus": (first["machine_info"].get("cpu") or {}).get("count") or 1, "mhz_per_cpu": 0,
        "cpu_scaling_enabled": False, "caches": [], "load_avg": [], "library_build_type": "release",
    }  # fmt: skip
    return json.dumps({"context": context, "benchmarks": rows}, indent=1) + "\n"


_FORMATS: dict[str, Callable[[Sequence[Suite]], str]] = {
    "csv": _csv, "markdown": _markdown, "bencher": _bencher, "github-action-benchmark": _github,
    "google-benchmark": _google,
}  # fmt: skip
