"""What each form of a network costs: operators, nodes in the delegate, multiply-accumulates, bytes, microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np

from edge_bench.benchmarks.interleave import interleave
from edge_runtime import tflite
from edge_runtime.inspect import operator_macs
from edge_runtime.interpreter import Session

from .convert import Calibration, Converted, convert_deployed
from .deploy import Deployed, is_swishnet, plain, stored_parameters, swishnet, swishnet_in_parts
from .fuse import PAIRS
from .recipes import Recipe

FEW = 32  # clips


@dataclass(frozen=True)
class Cost:
    """One form.

    Attributes
    ----------
    form : str
    operators, delegated, partitions : int
        Nodes of the clip graph, those in the delegate, and how often it is entered.
    macs, parameters, model_bytes : int
        Of the longest clip; what the form stores; the flatbuffer, with the dense form where there is one.
    us : float
        Median of an invoke, set and get included, one thread.
    """

    form: str
    operators: int
    delegated: int
    partitions: int
    macs: int
    parameters: int
    model_bytes: int
    us: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def swishnet_forms(model: keras.Model, *, frames: int) -> dict[str, Deployed]:
    """Return the forms that are worth comparing, by name; ``plain`` is the usual export."""
    forms = {name: swishnet(model, optimise=name) for name in ("latency", "balanced", "size")}
    named = {f"{name}: {d.form}{', one scale' if d.one_scale else ''}": d for name, d in forms.items()}
    for count in range(1, len(PAIRS) + 1):
        form = swishnet_in_parts(model, list(PAIRS[:count]))
        named[form.form] = form
    named["plain"] = plain(model, frames=frames, image=False)
    return named


def compare_forms(
    model: keras.Model, recipe: Recipe, calibration: Calibration | None, *, frames: int = 198, rounds: int = 300
) -> list[Cost]:
    """Return the costs of all forms, timed in turn on the interpreter that is here."""
    if is_swishnet(model):
        forms = swishnet_forms(model, frames=frames)
    else:
        forms = {"plain": plain(model, frames=frames, image=len(model.input_shape) == 4)}
    if calibration is not None:  # ranges do not change what a form costs
        calibration = replace(calibration, clips=calibration.clips[:FEW])
    made = {name: convert_deployed(form, recipe, calibration) for name, form in forms.items()}
    return costs(made, rounds=rounds)


def costs(made: Mapping[str, Converted], *, rounds: int = 300) -> list[Cost]:
    """Return the cost of each flatbuffer."""
    sessions = {name: Session(converted.flatbuffer) for name, converted in made.items()}
    feeds = {
        name: np.random.default_rng(0).integers(-60, 60, s.input_shape).astype(s.input_dtype)
        for name, s in sessions.items()
    }
    runs = {name: partial(session.run, feeds[name]) for name, session in sessions.items()}
    times = interleave(runs, rounds=rounds, calls=dict.fromkeys(sessions, 5))
    found = []
    for name, converted in made.items():
        graph = tflite.read(converted.flatbuffer).subgraphs[0]
        nodes = sessions[name].nodes()
        found.append(
            Cost(
                name, nodes.total, nodes.delegated, nodes.partitions,
                sum(operator_macs(graph, operator) for operator in graph.operators),
                stored_parameters(converted.exact), len(converted.flatbuffer), float(np.median(times[name])),
            )
        )  # fmt: skip
    return found
