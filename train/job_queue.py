"""A queue of long experiments: what its TOML file says, and the results so far.

The file holds one ``[[job]]`` after the other, each an experiment (a recipe with some keys changed, trained once for
every seed) or a command::

    seeds = [0, 1, 2]                    # for every job that names none of its own
    extra = ["midi-wav"]                 # folders that are added to the corpus

    [[job]]
    name = "slim"
    recipe = "swishnet-slim"

    [[job]]
    name = "slim-narrow-start"
    recipe = "swishnet-slim"
    overrides = { "fit.learning_rate" = 1e-3, "fit.masking.tone_db" = 0.0 }

    [[job]]
    name = "evaluate"
    command = ["edge-bench", "evaluate", "{out}/slim-seed0", "--json", "{out}/evaluate/scores.json"]
    result = "{out}/evaluate/scores.json"

A result is one line of JSON in a file that only grows; a job whose line is there is not run again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError
from edge_runtime.bundle import read, shipped

from . import recipe as recipes
from .experiment import build, read_toml, read_values

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class QueueFile:
    """The file's first keys.

    Attributes
    ----------
    seeds : tuple of int
        For jobs that name none.
    seed_key : str
        What a seed sets. ``fit.seed`` changes initial weights and batches over one pool of augmented copies;
        ``seed`` draws the copies anew as well, which takes as long as the first time.
    order : {'job', 'seed'}
        Every seed of a job before the next job, or every job with the first seed before the second seed.
    extra : tuple of str
        Folders added to the corpus, for jobs that name none.
    metric : str
        The key in a result that the table shows.
    job : tuple of dict
        Keys of `JobEntry`.
    """

    seeds: tuple[int, ...] = ()
    seed_key: str = "fit.seed"
    order: str = "job"
    extra: tuple[str, ...] = ()
    metric: str = "best.score"
    job: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class JobEntry:
    """A ``[[job]]``: a recipe or a command.

    Attributes
    ----------
    command : tuple of str
        ``{out}`` stands for the queue's folder, ``{seed}`` for the seed. It has no seed unless it names some.
    result : str
        JSON file that the command writes; its content becomes the result.
    """

    name: str = ""
    recipe: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    extra: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    result: str = ""


@dataclass(frozen=True)
class Job:
    """One run: an entry with one of its seeds.

    Attributes
    ----------
    seed : int or None
    values : dict
        The experiment; empty for a command.
    digest : str
        Fingerprint of all that decides the result, shipped bundles that a command names included, the corpus apart.
    """

    entry: JobEntry
    seed: int | None
    values: Mapping[str, Any]
    digest: str

    @property
    def label(self) -> str:
        """Name of the job's folder."""
        return self.entry.name if self.seed is None else f"{self.entry.name}-seed{self.seed}"


@dataclass(frozen=True)
class Queue:
    """A file that makes sense."""

    head: QueueFile
    jobs: tuple[Job, ...]


def load(path: Path) -> Queue:
    """Read a queue's file; `judge` looks into its experiments.

    Raises
    ------
    ConfigError
        For an unknown key, a job without a name or with another's, or a recipe that does not exist.
    """
    return parse(read_toml(path), path)


def parse(values: Mapping[str, Any], path: Path) -> Queue:
    """Return the queue that a file's values describe; raises as `load`."""
    if not isinstance(values.get("job", []), list):
        raise ConfigError(f"{path}: job is {values['job']!r}; write [[job]]")
    head = build(QueueFile, values, str(path))
    if head.order not in ("job", "seed"):
        raise ConfigError(f"{path}: order is {head.order!r}, must be job or seed")
    if not head.job:
        raise ConfigError(f"{path}: holds no [[job]]")
    entries = [_entry(values, head, path) for values in head.job]
    runs: list[list[Job]] = []
    for entry in entries:
        base = {} if entry.command else read_values(entry.recipe)
        runs.append([_job(entry, seed, base, head, path) for seed in entry.seeds or (None,)])
    labels = [job.label for run in runs for job in run]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"{path}: two jobs would share the folder {label!r}; rename one")
    if head.order == "seed":
        longest = max(len(run) for run in runs)
        runs = [[run[i] for run in runs if i < len(run)] for i in range(longest)]
    return Queue(head, tuple(job for run in runs for job in run))


def judge(queue: Queue) -> None:
    """Look for mistakes in the experiments; imports Keras if there is one.

    Raises
    ------
    ConfigError
        For an experiment that makes no sense, with the job's name.
    """
    for job in queue.jobs:
        if job.values:
            recipes.check(job.values, f"job {job.label}")


def _entry(values: Any, head: QueueFile, path: Path) -> JobEntry:
    name = values.get("name") if isinstance(values, Mapping) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{path} [[job]]: name is {name!r}; letters, digits, '-', '_', '.' only")
    where = f"{path} [[job]] {name}"
    seeds = [] if "command" in values else list(head.seeds)
    entry = build(JobEntry, {"seeds": seeds, "extra": list(head.extra), **values}, where)
    if bool(entry.recipe) == bool(entry.command):
        raise ConfigError(f"{where}: needs either a recipe or a command")
    if entry.command and entry.overrides:
        raise ConfigError(f"{where}: overrides change a recipe, not a command")
    if not all(isinstance(seed, int) for seed in entry.seeds) or len(set(entry.seeds)) < len(entry.seeds):
        raise ConfigError(f"{where}: seeds are {list(entry.seeds)}, must be different whole numbers")
    return entry


def _job(entry: JobEntry, seed: int | None, base: Mapping[str, Any], head: QueueFile, path: Path) -> Job:
    where = f"{path} [[job]] {entry.name}"
    values: dict[str, Any] = {}
    if not entry.command:
        seeded = {} if seed is None else {head.seed_key: seed}
        values = recipes.override(base, {**entry.overrides, **seeded}, where)
    bundles = {name: read(name).sha256 for name in set(shipped()).intersection(entry.command)}
    decides = [values, entry.command, seed, entry.extra, *([bundles] if bundles else [])]
    said = json.dumps(decides, sort_keys=True)
    return Job(entry, seed, values, hashlib.sha256(said.encode()).hexdigest()[:12])
