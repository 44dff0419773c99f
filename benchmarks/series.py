"""What a result contributes to a history: a name, a time, an environment, and figures by metric."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from edge_runtime import ConfigError

from . import results
from .documents import MADE_BY, PYTEST

KEPT = ("run", "gate", "evaluate", PYTEST)


@dataclass(frozen=True)
class Metric:
    """One figure: ``2s/model``, its unit (us, bytes, share, ratio or count), its 95 % bounds where they are known."""

    name: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Environment:
    """In which surroundings figures compare: a short key, and what it stands for in words."""

    key: str
    words: str


@dataclass(frozen=True)
class Entry:
    """A result as a history keeps it.

    Attributes
    ----------
    digest : str
        sha256 of the document: the same result is kept once.
    time : str
        ISO 8601, UTC, seconds.
    sha256, commit : str or None
        The bundle's, and the source's where the document names one.
    """

    digest: str
    kind: str
    name: str
    time: str
    environment: Environment
    metrics: tuple[Metric, ...]
    document: str
    sha256: str | None = None
    commit: str | None = None


def entry(kind: str, value: Mapping[str, Any], *, time: str | None = None) -> Entry:
    """Return the entry of a document that was read (see `documents.read`).

    Parameters
    ----------
    time : str, optional
        When it was made, for a kind that does not say so itself.

    Raises
    ------
    ConfigError
        If a history keeps no such kind, or the time is none.
    """
    if kind not in KEPT:
        kept = ", ".join(MADE_BY[k] for k in KEPT)
        raise ConfigError(f"a history keeps files of {kept}; this is one of {MADE_BY[kind]}")
    make = {"run": _of_run, "gate": _of_gate, "evaluate": _of_evaluation, PYTEST: _of_pytest}[kind]
    name, made, surroundings, sha256, commit, metrics = make(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    when = made or time
    if when is None:
        raise ConfigError("the file does not say when it was made: give --time")
    return Entry(
        hashlib.sha256(text.encode()).hexdigest(), kind, name, utc(when), _environment(surroundings), tuple(metrics),
        text, sha256, commit,
    )  # fmt: skip


def utc(time: str) -> str:
    """Return an ISO 8601 time in UTC, to the second; without an offset it is taken as UTC.

    Raises
    ------
    ConfigError
        If it is none.

    Examples
    --------
    >>> utc("2026-11-21T17:11:38+01:00")
    '2026-11-21T16:11:38+00:00'
    """
    try:
        when = datetime.fromisoformat(time.strip().replace("Z", "+00:00"))
        when = when.replace(tzinfo=timezone.utc) if when.tzinfo is None else when.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise ConfigError(f"time {time!r} is not ISO 8601, such as 2026-11-21 or 2026-11-21T16:11:38+00:00") from None
    return when.isoformat(timespec="seconds")


def _environment(parts: Mapping[str, Any]) -> Environment:
    """Return the key and the words; what is not known is left out of the words."""
    key = hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()[:8]
    words = (_WORDS.get(name, f"{name} {{}}").format(value) for name, value in parts.items() if value is not None)
    return Environment(key, ", ".join(words))


# what says enough without its name
_WORDS = {
    "machine's board": "{}", "machine's cpu": "{}", "machine's architecture": "{}", "machine's cores": "{} core(s)",
    "machine's governor": "governor {}", "python": "Python {}", "backend": "{}", "backend version": "{}",
    "threads": "{} thread(s)", "cpu": "{}", "cores": "{} core(s)", "architecture": "{}", "split": "{} split",
}  # fmt: skip

_Parts = tuple[str, str | None, dict[str, Any], str | None, str | None, list[Metric]]


def _of_run(value: Mapping[str, Any]) -> _Parts:
    result, model = dict(value), value["model"]
    metrics = []
    for clip_s, stage, t in results.stages(result):
        low, high = t.get("interval") or (None, None)
        metrics.append(Metric(f"{clip_s:g}s/{stage}", "us", t["p50"], low, high))
        if stage == "total":
            metrics.append(Metric(f"{clip_s:g}s/cold", "us", t["cold"]))
    if value["memory"]["peak"]:
        metrics.append(Metric("memory/peak", "bytes", value["memory"]["peak"]))
    metrics.append(Metric("size", "bytes", model["bytes"]))
    metrics += _counts(value.get("instructions"))
    return model["name"], value["context"]["time"], results.environment(result), model["sha256"], None, metrics


def _counts(instructions: Any) -> Iterator[Metric]:
    """Yield instruction counts, where a run has them."""
    for name, count in instructions.items() if isinstance(instructions, dict) else ():
        if isinstance(count, (int, float)) and not isinstance(count, bool):
            yield Metric(f"instructions/{instructions['source']}/{name}", "count", count)


def _of_gate(value: Mapping[str, Any]) -> _Parts:
    about = value["context"]
    surroundings = {f"machine's {k}": about["machine"].get(k) for k in ("board", "cpu", "cores")}
    surroundings |= {"backend": value.get("backend"), "clock": value.get("clock"), "against": _side(value["baseline"])}
    metrics = [
        Metric(f"{value['clip_s']:g}s/{stage}/ratio", "ratio", row["ratio"], *row["interval"])
        for stage, row in value["stages"].items()
    ]
    return _side(value["candidate"]), about["time"], surroundings, value["candidate"]["sha256"], None, metrics


def _side(side: Mapping[str, Any]) -> str:
    return str(side.get("name") or side.get("bundle") or side["sha256"][:12])


def _of_evaluation(value: Mapping[str, Any]) -> _Parts:
    metrics = []
    for clip_s, scores in value["clips_by_length"].items():
        for name in ("macro_f1", "overall"):
            low, high = scores.get("intervals", {}).get(name) or (None, None)
            metrics.append(Metric(f"{clip_s}s/{name}", "share", scores[name], low, high))
    surroundings = {"split": value["split"], "corpus": value["corpus"], "gain, dB": value["gain_db"] or None}
    return value["model"], value.get("time"), surroundings, None, None, metrics


def _of_pytest(value: Mapping[str, Any]) -> _Parts:
    info = value["machine_info"]
    cpu = info.get("cpu") or {}
    surroundings = {
        "cpu": cpu.get("brand_raw"), "cores": cpu.get("count"), "architecture": info.get("machine"),
        "python": info.get("python_version"),
    }  # fmt: skip
    metrics = [Metric(b["fullname"], "us", 1e6 * b["stats"]["median"]) for b in value["benchmarks"]]
    commit = (value.get("commit_info") or {}).get("id")
    return "pytest", value["datetime"], surroundings, None, commit, metrics
