"""The invoke by model and recipe: every shipped bundle on a 2 s clip, with its bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_runtime.bundle import read, shipped
from edge_runtime.interpreter import Session


def session(name: str) -> Session:
    """A network with a 2 s clip in its input."""
    bundle = read(name)
    made = Session(bundle.flatbuffer, frames=bundle.padded_frames(bundle.clip_frames(2.0)))
    x = np.random.default_rng(0).standard_normal(made.input_shape)
    made.fill()[...] = (x if made.input_dtype.kind == "f" else 30 * x).astype(made.input_dtype)
    return made


@pytest.mark.parametrize("name", shipped())
def test_invoke(benchmark: Any, name: str) -> None:
    benchmark.extra_info.update(bytes=len(read(name).flatbuffer))
    benchmark(session(name).invoke)
