"""An experiment's file as plain values: change single keys by their dotted name, judge the result, write it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError
from edge_runtime.files import write_text

from .experiment import Experiment, build, settle


def override(values: Mapping[str, Any], changes: Mapping[str, Any], where: str = "overrides") -> dict[str, Any]:
    """Return a copy of `values` with the keys in `changes` set.

    Parameters
    ----------
    changes : mapping
        Dotted names, such as ``fit.learning_rate``; a missing table is made.

    Raises
    ------
    ConfigError
        If a name leads through something that is no table.

    Examples
    --------
    >>> override({"fit": {"epochs": 60}}, {"fit.epochs": 20, "options.width": 2})
    {'fit': {'epochs': 20}, 'options': {'width': 2}}
    """
    result = copy.deepcopy(dict(values))
    for name, value in changes.items():
        *tables, key = name.split(".")
        if not all((*tables, key)):
            raise ConfigError(f"{where}: {name!r} is no name of a key; write TABLE.KEY, such as fit.learning_rate")
        table = result
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{where}: {name!r} does not exist: {part!r} is no table")
        table[key] = copy.deepcopy(value)
    return result


def check(values: Mapping[str, Any], where: str) -> Experiment:
    """Return the experiment that the values describe, judged as far as it can be without a corpus.

    Raises
    ------
    ConfigError
        For an unknown key, model or option, or a value that makes no sense.
    """
    experiment = build(Experiment, values, where)
    try:
        settle(experiment)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return experiment


def write(values: Mapping[str, Any], path: Path, *, comment: str = "") -> None:
    """Write a file that ``edge-bench train`` takes, with `comment` above it.

    Raises
    ------
    EdgeBenchError
        If it cannot be written.
    """
    import tomli_w

    above = "".join(f"# {line}\n" for line in comment.splitlines())
    write_text(path, above + tomli_w.dumps(values))
