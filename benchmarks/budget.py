"""Absolute limits of a gate, from the ``[budget]`` table of a TOML file: a board's profile or one's own.

=================  =====================================================================
``ram``            peak RSS of a fresh process that classifies, bytes
``flash``          size of the bundle, bytes
``real_time_factor``  median total time over the clip's length
``frontend_us``, ``model_us``, ``total_us``  median time of a clip, microseconds
``accuracy_drop``  loss of class-average F1 against the baseline, percentage points
``frontend_hop_instructions``, ``frontend_instructions``, ``model_instructions``  of one call; see `instructions`
=================  =====================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError

from .statistics import Interval

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

COUNTS = ("frontend_hop_instructions", "frontend_instructions", "model_instructions")
KEYS = ("ram", "flash", "real_time_factor", "frontend_us", "model_us", "total_us", "accuracy_drop", *COUNTS)
WITHIN, EXCEEDED, OPEN = "within", "exceeded", "open"


@dataclass(frozen=True)
class Check:
    """One limit and what was found; `verdict` is within, exceeded, or open when the interval holds the limit."""

    name: str
    limit: float
    value: float
    verdict: str


def read(path: str | Path) -> dict[str, float]:
    """Return the limits of a budget file.

    Raises
    ------
    ConfigError
        If it cannot be read, has no ``[budget]``, or a limit that is unknown or no positive number.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8")).get("budget")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    if not isinstance(table, dict) or not table:
        raise ConfigError(f"{path}: has no [budget] table with limits such as model_us = 50")
    for key, value in table.items():
        if key not in KEYS:
            raise ConfigError(f"{path}: limit {key!r} is unknown, must be one of {', '.join(KEYS)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise ConfigError(f"{path}: {key} is {value!r}, must be a number above 0")
    return {key: float(value) for key, value in table.items()}


def accuracy_drop(candidate: Mapping[str, Any], baseline: Mapping[str, Any]) -> float:
    """Return how many points of class-average F1 are lost between two files of ``edge-bench evaluate --json``.

    Raises
    ------
    ConfigError
        If one is no evaluation, or they are of different splits or corpora.
    """
    for value in (candidate, baseline):
        if value.get("schema") != "edge-bench/evaluate/1" or "macro_f1" not in value:
            raise ConfigError("an evaluation is needed for accuracy_drop: a file of `edge-bench evaluate --json FILE`")
    for key in ("split", "corpus", "clip_s"):
        if candidate.get(key) != baseline.get(key):
            raise ConfigError(f"the evaluations differ in {key}: {candidate.get(key)} and {baseline.get(key)}")
    return 100 * (float(baseline["macro_f1"]) - float(candidate["macro_f1"]))


def check(
    limits: Mapping[str, float], *, times: Mapping[str, Interval], clip_s: float, peak: float | None, size: int,
    drop: float | None, counts: Mapping[str, int] | None = None,
) -> list[Check]:  # fmt: skip
    """Return a check for every limit.

    Parameters
    ----------
    times : mapping
        Median time of a clip by stage with its interval, microseconds.
    peak : float or None
        Bytes.
    drop : float or None
        Points of F1; needed when ``accuracy_drop`` is limited.
    counts : mapping, optional
        Instructions of a call by stage; needed when a count is limited.

    Raises
    ------
    ConfigError
        If a limit cannot be checked with what is given.
    """
    found = []
    for name, limit in limits.items():
        if name == "real_time_factor":
            t = times["total"]
            value = Interval(*(x / (clip_s * 1e6) for x in (t.value, t.low, t.high)))
        elif name.endswith("_us"):
            value = times[name.removesuffix("_us")]
        else:
            known = {"ram": peak, "flash": float(size), "accuracy_drop": drop}
            exact = (counts or {}).get(name.removesuffix("_instructions")) if name in COUNTS else known[name]
            if exact is None:
                remedy = "give --evaluations with both" if name == "accuracy_drop" else "leave it out here"
                remedy = "measure with `edge-bench run --instructions`" if name in COUNTS else remedy
                raise ConfigError(f"the budget limits {name}, which is not known: {remedy}")
            value = Interval(exact, exact, exact)
        verdict = WITHIN if value.high <= limit else EXCEEDED if value.low > limit else OPEN
        found.append(Check(name, limit, value.value, verdict))
    return found
