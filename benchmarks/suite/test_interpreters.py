"""How much slower the numpy executor is than TFLite's kernels, in one process, one thread, on a 2 s clip.

No target: it is the last resort. It must keep up with the sound, also where it is the only interpreter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_bench.benchmarks.interleave import interleave, ratio
from edge_runtime import bundle
from edge_runtime.interpreter import Session


@pytest.mark.parametrize("name", bundle.shipped())
def test_numpy_against_tflite(benchmark: Any, name: str) -> None:
    built = bundle.read(name)
    sessions = {
        "numpy": Session(built.flatbuffer, backend="numpy"),
        **{f"litert {kind}": Session(built.flatbuffer, backend="litert", kernels=kind)
           for kind in ("default", "plain", "reference")},
    }  # fmt: skip
    x = np.random.default_rng(0).standard_normal(sessions["numpy"].input_shape) * 20
    x = x.astype(sessions["numpy"].input_dtype)
    samples = interleave({key: lambda session=session: session.run(x) for key, session in sessions.items()}, rounds=300)
    medians = {key: float(np.median(values)) for key, values in samples.items()}
    found = {key: ratio(samples["numpy"], samples[key]) for key in samples if key != "numpy"}
    benchmark.extra_info.update(medians=medians, ratios=found)
    benchmark.pedantic(sessions["numpy"].run, (x,), rounds=20)
    print(f"\n{name}: numpy {medians['numpy']:.0f} us a clip of 2 s")
    for key, (middle, low, high) in found.items():
        print(f"  {middle:.1f} x {key} ({low:.1f} to {high:.1f}), {medians[key]:.0f} us")
    assert medians["numpy"] < 2e6 / 50, "fifty times real time on a workstation leaves room for a small board"
