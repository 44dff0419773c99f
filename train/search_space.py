"""A search's file: a recipe, the keys that vary, and which values are tried. No Ray here.

::

    recipe = "swishnet-slim"
    overrides = { "copies" = 4 }              # for every trial, as in a queue

    [search]
    method = "asha"                           # grid, random, or asha: random whose worse trials end early
    trials = 24
    epochs = 20                               # of a trial, at most
    minutes = 4

    [space]
    "fit.learning_rate" = { low = 1e-4, high = 1e-2, log = true }
    "fit.clip_s" = [[2.0], [2.0, 1.0, 0.5]]
    "options.dropout" = [0.0, 0.1, 0.2]

The values of all trials are drawn here, from the seed, before anything runs: a search that goes on or runs on a
cluster tries the same, and a value that makes no sense is found at once.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime import ConfigError

from . import recipe as recipes
from .experiment import build, read_toml, read_values

METHODS = ("grid", "random", "asha")
MOST_TRIALS = 2000


@dataclass(frozen=True)
class SearchTable:
    """``[search]``.

    Attributes
    ----------
    method : {'grid', 'random', 'asha'}
        Successive halving (asha; Li et al. 2020, arXiv 1810.05934) ends trials that are behind the others.
    trials : int
        To draw; 0 for every combination of lists.
    metric : str
        A key of ``history.json``; the highest value is the best.
    epochs, minutes : int, float
        Budget of a trial; 0 for the recipe's. The first cosine of the learning rate is not longer than `epochs`.
    seed : int
        Of the drawing; the trials' own is the recipe's.
    threads, concurrent : int
        CPU threads of a trial, and trials at a time; 0 for as many as the machine has threads for.
    grace, reduction : int
        Of asha: epochs that every trial gets, and of how many one goes on.
    address : str
        Of a Ray cluster; this machine by default.
    extra : tuple of str
        Folders added to the corpus.
    """

    method: str = "random"
    trials: int = 0
    metric: str = "score"
    epochs: int = 0
    minutes: float = 0.0
    seed: int = 0
    threads: int = 1
    concurrent: int = 0
    grace: int = 2
    reduction: int = 3
    address: str = ""
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"[search]: method is {self.method!r}, must be one of {', '.join(METHODS)}")
        for name, least, most in (
            ("trials", 0, MOST_TRIALS), ("epochs", 0, 10**6), ("minutes", 0, 10**6), ("threads", 1, 64),
            ("concurrent", 0, 1000), ("grace", 1, 10**6), ("reduction", 2, 100),
        ):  # fmt: skip
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f"[search]: {name} is {getattr(self, name)}, must be from {least} to {most}")


@dataclass(frozen=True)
class Axis:
    """The values of one key: `choices`, or if there are none a range, whole numbers if both ends are."""

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether a range holds whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def draw(self, rng: np.random.Generator) -> Any:
        """Return a random value; four digits are enough for a person to copy."""
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))]
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high + (1 if self.whole else 0))
        if self.whole:
            return min(max(int(value), int(self.low)), int(self.high))
        return float(min(max(float(f"{value:.4g}"), self.low), self.high))


@dataclass(frozen=True)
class SearchFile:
    """The whole file."""

    recipe: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    search: SearchTable = field(default_factory=SearchTable)
    space: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """A file that makes sense.

    Attributes
    ----------
    base : dict
        The recipe with its overrides.
    trials : tuple of dict
        What each trial sets, by dotted name.
    digest : str
        Fingerprint of all that decides the results, the corpus apart.
    """

    file: SearchFile
    base: Mapping[str, Any]
    axes: tuple[Axis, ...]
    trials: tuple[dict[str, Any], ...]
    digest: str

    def recipe(self, number: int) -> dict[str, Any]:
        """Return the recipe of a trial, as one trains it in earnest: without the search's budget."""
        return recipes.override(self.base, self.trials[number], "[space]")

    def experiment(self, number: int) -> dict[str, Any]:
        """Return what a trial trains: its recipe with the search's budget."""
        values = self.recipe(number)
        epochs = self.file.search.epochs
        if not epochs:
            return values
        cycle = values.get("fit", {}).get("first_cycle", epochs)
        return recipes.override(values, {"fit.epochs": epochs, "fit.first_cycle": min(cycle, epochs)})


def load(path: Path) -> Search:
    """Read a search's file and draw its trials; `judge` looks into them.

    Raises
    ------
    ConfigError
        For an unknown key, a range or a list that makes no sense, or too many trials.
    """
    file = build(SearchFile, read_toml(path), str(path))
    if not file.recipe:
        raise ConfigError(f"{path}: names no recipe")
    if not isinstance(file.space, Mapping) or not file.space:
        raise ConfigError(f'{path}: [space] is empty; give values, such as "fit.learning_rate" = [1e-3, 3e-3]')
    axes = tuple(_axis(name, values, f"{path} [space]") for name, values in file.space.items())
    base = recipes.override(read_values(file.recipe), file.overrides, str(path))
    trials = _trials(file.search, axes, str(path))
    said = json.dumps([base, trials, {**asdict(file.search), "address": "", "concurrent": 0, "threads": 0}])
    return Search(file, base, axes, trials, hashlib.sha256(said.encode()).hexdigest()[:12])


def judge(search: Search, path: Path) -> None:
    """Look for mistakes in every trial's experiment; imports Keras.

    Raises
    ------
    ConfigError
        With the values of the first trial that makes no sense.
    """
    recipes.check(search.base, f"{path}: {search.file.recipe}")
    for number, values in enumerate(search.trials):
        recipes.check(search.experiment(number), f"{path}: {describe(values)}")


def describe(values: Mapping[str, Any]) -> str:
    """Return a trial's values for people.

    Examples
    --------
    >>> describe({"fit.learning_rate": 0.001, "options.activation": "relu"})
    'learning_rate 0.001, activation relu'
    """
    return ", ".join(f"{name.rpartition('.')[2]} {shown(value)}" for name, value in values.items())


def shown(value: Any) -> str:
    """Return one value for people."""
    if isinstance(value, (list, tuple)):
        return "+".join(shown(v) for v in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _axis(name: str, values: Any, where: str) -> Axis:
    if isinstance(values, list):
        if not values or len({json.dumps(v) for v in values}) < len(values):
            raise ConfigError(f"{where}: {name} is {values}, must be different values, at least one")
        return Axis(name, tuple(values))
    if isinstance(values, Mapping) and {"low", "high"} <= set(values) <= {"low", "high", "log"}:
        low, high, log = values["low"], values["high"], values.get("log", False)
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (low, high))
        if not numbers or not isinstance(log, bool):
            raise ConfigError(f"{where}: {name}: low and high must be numbers, log true or false")
        if not (math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not log)):
            raise ConfigError(f"{where}: {name} is from {low} to {high}; low must be below high, above 0 with log")
        return Axis(name, (), low, high, log)
    raise ConfigError(f"{where}: {name} is {values!r}, must be a list or {{ low = ..., high = ..., log = true }}")


def _trials(table: SearchTable, axes: Sequence[Axis], where: str) -> tuple[dict[str, Any], ...]:
    ranges = [axis.name for axis in axes if not axis.choices]
    everything = 0 if ranges else math.prod(len(axis.choices) for axis in axes)
    if table.method == "grid":
        if ranges:
            raise ConfigError(f"{where}: a grid needs lists, and {ranges[0]} is a range; list values or draw at random")
        if table.trials not in (0, everything):
            raise ConfigError(f"{where}: a grid of {everything} has no {table.trials} trials; use method = \"random\"")
    elif not table.trials and ranges:
        raise ConfigError(f"{where}: [search] trials is missing: how many to draw")
    if everything and (not table.trials or table.trials >= everything):
        if everything > MOST_TRIALS:
            raise ConfigError(f"{where}: {everything:,} combinations are too many; draw some with method = \"random\"")
        values = itertools.product(*(axis.choices for axis in axes))
        return tuple(dict(zip((axis.name for axis in axes), row, strict=True)) for row in values)
    rng = np.random.default_rng(table.seed)
    drawn: dict[str, dict[str, Any]] = {}
    for _ in range(100 * table.trials):  # a small space may not hold so many different ones
        point = {axis.name: axis.draw(rng) for axis in axes}
        drawn.setdefault(json.dumps(point), point)
        if len(drawn) == table.trials:
            break
    return tuple(drawn.values())
