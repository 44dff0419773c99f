"""Inputs to compare interpreters with: random ones for any model, and for each form of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import tflite
from .bundle import Bundle
from .errors import ConfigError

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """Inputs for one graph of a model.

    Attributes
    ----------
    name : str
    subgraph : int
    x : np.ndarray, shape (n, *input shape)
        What the graph is fed, quantised if it is. The third axis of the input may have another length.
    """

    name: str
    subgraph: int
    x: Array


def random_inputs(shape: Sequence[int], dtype: str, count: int, rng: np.random.Generator) -> Array:
    """Return `count` random inputs of several loudnesses: with all of them loud, most gates would be shut."""
    loud = rng.choice([5, 20, 60, 200], (count, *(1,) * len(shape)))
    x = rng.standard_normal((count, *shape), np.float32) * loud + rng.normal(0, 10)
    if dtype == "float32":
        return (x / 60).astype(np.float32)
    if dtype not in ("int8", "uint8", "int16"):
        raise ConfigError(f"inputs of type {dtype} cannot be made")
    info = np.iinfo(dtype)
    return np.clip(np.rint(x + (info.min + info.max + 1) // 2), info.min, info.max).astype(dtype)


def model_cases(flatbuffer: bytes, count: int, *, seed: int = 0) -> list[Case]:
    """Return random inputs for every graph of any model."""
    rng, cases = np.random.default_rng(seed), []
    for number, graph in enumerate(tflite.read(flatbuffer).subgraphs):
        source = graph.tensors[graph.inputs[0]]
        x = random_inputs(source.shape, source.dtype, count, rng)
        cases.append(Case(graph.name or f"graph {number}", number, x))
    return cases


def bundle_cases(bundle: Bundle, count: int, *, seed: int = 0, clip_s: Sequence[float] = (0.5, 1, 2)) -> list[Case]:
    """Return random inputs for the clip signature at several lengths, and for the others at their own."""
    rng, cases = np.random.default_rng(seed), []
    for key, form in bundle.info["forms"].items():
        shape, dtype = form["input"]["shape"], form["input"]["dtype"]
        if key == "clip":
            for seconds in clip_s:
                frames = bundle.padded_frames(bundle.clip_frames(seconds))
                x = random_inputs([*shape[:2], frames, *shape[3:]], dtype, count, rng)
                cases.append(Case(f"clip {seconds:g} s", form["subgraph"], x))
        else:
            cases.append(Case(key, form["subgraph"], random_inputs(shape, dtype, count, rng)))
    return cases
