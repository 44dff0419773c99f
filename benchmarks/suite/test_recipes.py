"""SwishNet in each recipe, and one hop of a stream: figures for a history, beside the shipped bundles of `test_invoke`.

``pytest benchmarks/suite -m benchmark --benchmark-json suite.json``, then ``edge-bench history add suite.json`` and
``edge-bench export suite.json --format ...``. No target of its own: `test_quantised` and `test_segment` hold those, and
CI gates the shipped models by instruction counts. One thread; weights of recipes are random, which changes no time.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest

from edge_bench.benchmarks.sound import scene
from edge_runtime import FrontEndConfig, Segmenter, StreamingFrontEnd
from edge_runtime.interpreter import Session

FAMILIES = ("swishnet-slim", "swishnet-wide")
RECIPES = ("float32", "float16", "dynamic-int8", "static-int8", "int16x8")


@cache
def form(family: str) -> tuple[Any, Any]:
    """The deployed form of a family, and clips to calibrate with."""
    pytest.importorskip("tensorflow")
    import keras

    from edge_bench.quantize import convert, deploy
    from edge_bench.train.models import build

    keras.utils.set_random_seed(0)
    deployed = deploy.swishnet(build(family))
    clips = np.random.default_rng(0).standard_normal((8, 204, 20)).astype(np.float32)
    return deployed, convert.Calibration(clips, ("random",) * len(clips))


@pytest.mark.parametrize(("family", "recipe"), itertools.product(FAMILIES, RECIPES))
def test_recipe(benchmark: Any, family: str, recipe: str) -> None:
    """One clip of 2 s on LiteRT, by recipe."""
    deployed, calibration = form(family)
    from edge_bench.quantize.convert import convert_deployed
    from edge_bench.quantize.recipes import recipe_of

    flatbuffer = convert_deployed(deployed, recipe_of(recipe), calibration).flatbuffer
    session = Session(flatbuffer, backend="litert")
    x = np.random.default_rng(0).standard_normal(session.input_shape) * 20
    nodes = session.nodes()
    benchmark.extra_info.update(bytes=len(flatbuffer), nodes=nodes.total, delegated_nodes=nodes.delegated)
    benchmark(session.run, x.astype(session.input_dtype))
    print(f"\n{family} {recipe}: {len(flatbuffer):,} bytes, {nodes.delegated} of {nodes.total} nodes delegated, "
          f"{1e6 * benchmark.stats.stats.median:.1f} us")  # fmt: skip


@pytest.mark.parametrize("hop_ms", [10, 100])
@pytest.mark.parametrize("what", ["frontend", "decision"])
def test_hop(benchmark: Any, what: str, hop_ms: int) -> None:
    """One hop of a stream, as it comes from a microphone: its features alone, or up to the decision on it."""
    sound, size = scene(10), 16 * hop_ms
    hops = itertools.cycle([sound[i : i + size] for i in range(0, len(sound) - size + 1, size)])
    if what == "frontend":
        stream = StreamingFrontEnd(FrontEndConfig())
        benchmark(lambda: stream.push(next(hops)))
    else:
        with Segmenter("swishnet-slim-int8", decision_hop_s=hop_ms / 1000) as segmenter:
            benchmark(lambda: segmenter.push(next(hops)))
