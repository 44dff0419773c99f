"""What a report shows, out of JSON files of several kinds; raw samples stay for the newest run of each group only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError

from .. import documents, results
from ..history import series_of
from ..series import Entry, Environment, entry

KINDS = ("run", "evaluate", "evaluations", "gate", "compare", "history", documents.PYTEST)
MEMORY = ("start", "after_import", "after_load", "after_first", "steady", "peak")


@dataclass(frozen=True)
class Run:
    """A result of ``edge-bench run``, without its raw samples but for `samples` ((clip_s, stage) -> microseconds)."""

    file: str
    entry: Entry
    surroundings: dict[str, Any]
    times: dict[tuple[float, str], dict[str, Any]]
    memory: dict[str, Any]
    model: dict[str, Any]
    remarks: tuple[str, ...]
    instructions: dict[str, Any] | None
    samples: dict[tuple[float, str], NDArray[np.float32]] = field(default_factory=dict)

    @property
    def clips(self) -> list[float]:
        """Clip lengths, seconds, ascending."""
        return sorted({clip_s for clip_s, _ in self.times})


@dataclass(frozen=True)
class Group:
    """Runs of one model in one environment, oldest first; `label` tells it from the other groups."""

    label: str
    runs: tuple[Run, ...]

    @property
    def newest(self) -> Run:
        """The run that stands for the group."""
        return self.runs[-1]


@dataclass(frozen=True)
class Gathered:
    """All that a report shows."""

    groups: tuple[Group, ...]
    evaluations: tuple[dict[str, Any], ...]
    gates: tuple[tuple[str, dict[str, Any]], ...]
    comparisons: tuple[tuple[str, dict[str, Any]], ...]
    suites: tuple[tuple[str, dict[str, Any]], ...]
    series: tuple[dict[str, Any], ...]

    @property
    def environments(self) -> dict[str, Environment]:
        """Environments of the runs, by key."""
        return {g.newest.entry.environment.key: g.newest.entry.environment for g in self.groups}


def gather(files: Iterable[str | Path], *, say: Callable[[str], None] = lambda _: None) -> Gathered:
    """Read files and sort them.

    Raises
    ------
    ConfigError
        If one cannot be read, is of a kind that a report does not show, or none is given.
    """
    runs: dict[tuple[str, str], list[Run]] = {}
    evaluations: list[dict[str, Any]] = []
    others: dict[str, list[tuple[str, dict[str, Any]]]] = {"gate": [], "compare": [], documents.PYTEST: []}
    series: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, file in enumerate(files):
        say(f"reading {number + 1}: {file}")
        kind, value = documents.read(file, *KINDS)
        if kind == "run":
            run = _run(str(file), value)
            if run.entry.digest not in seen:
                seen.add(run.entry.digest)
                _keep(runs.setdefault((run.entry.name, run.entry.environment.key), []), run)
        elif kind == "evaluate":
            evaluations.append(value)
        elif kind == "evaluations":
            evaluations += value["evaluations"]
        elif kind == "history":
            series += value["series"]
        else:
            others[kind].append((str(file), value))
    groups = _labelled(runs)
    found = Gathered(
        tuple(groups), tuple(evaluations), tuple(others["gate"]), tuple(others["compare"]),
        tuple(others[documents.PYTEST]), tuple(_series(groups) + series),
    )  # fmt: skip
    if not any((found.groups, found.evaluations, found.gates, found.comparisons, found.suites, found.series)):
        raise ConfigError("no results are given: give files of edge-bench run, evaluate, gate, compare or history")
    return found


def _run(file: str, value: dict[str, Any]) -> Run:
    times, samples = {}, {}
    for clip_s, stage, t in results.stages(value):
        samples[clip_s, stage] = np.asarray(t["samples"], np.float32)
        times[clip_s, stage] = {k: v for k, v in t.items() if k != "samples"} | {"n": len(t["samples"])}
    kept = entry("run", value)
    return Run(
        file, replace(kept, document=""), results.environment(value), times, value["memory"], value["model"],
        tuple(value["context"].get("remarks", ())), value.get("instructions"), samples,
    )  # fmt: skip


def _keep(runs: list[Run], run: Run) -> None:
    """Insert a run in order of time; only the newest keeps its samples."""
    runs.append(run)
    runs.sort(key=lambda r: r.entry.time)
    runs[:-1] = [replace(r, samples={}) if r.samples else r for r in runs[:-1]]


def _labelled(runs: dict[tuple[str, str], list[Run]]) -> list[Group]:
    """Return the groups; a model that was measured in several environments has the environment's key in its label."""
    names = [name for name, _ in runs]
    return [
        Group(f"{name} ({key})" if names.count(name) > 1 else name, tuple(mine))
        for (name, key), mine in sorted(runs.items(), key=lambda item: item[0])
    ]


def _series(groups: list[Group]) -> list[dict[str, Any]]:
    """Return the series of groups that have several runs."""
    points = []
    for group in groups:
        for run in group.runs if len(group.runs) > 1 else ():
            e = run.entry
            points += [
                {"name": e.name, "environment": e.environment.key, "words": e.environment.words, "metric": m.name,
                 "unit": m.unit, "time": e.time, "value": m.value, "low": m.low, "high": m.high, "digest": e.digest,
                 "sha256": e.sha256, "commit_id": e.commit, "label": None}
                for m in e.metrics
            ]  # fmt: skip
    return series_of(points)
