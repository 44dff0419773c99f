"""Graphs cut off behind an operator: on an interpreter they give the tensors of the whole graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import BundleError, ConfigError, bundle, tflite
from edge_runtime.cases import random_inputs
from edge_runtime.executor import Executor
from edge_runtime.interpreter import Session
from edge_runtime.truncate import signature_alone, truncated


@pytest.mark.parametrize("key", ["clip", "dense"])
def test_every_cut_gives_the_tensor_of_the_whole(bundles: dict[str, Path], key: str) -> None:
    built = bundle.read(bundles["int8"])
    number = built.info["forms"][key]["subgraph"]
    graph = built.model.subgraphs[number]
    executor = Executor(signature_alone(built.flatbuffer, key))
    x = random_inputs(executor.input_shape, "int8", 1, np.random.default_rng(0))[0]
    tensors = executor.tensors(x)
    for count in range(1, len(graph.operators) + 1):
        session = Session(truncated(built.flatbuffer, count, subgraph=number), kernels="reference")
        np.testing.assert_array_equal(session.run(x), tensors[graph.operators[count - 1].outputs[0]])
        if count in (1, 10):  # with XNNPACK, too, which may differ by a step
            delegated = Session(truncated(built.flatbuffer, count, subgraph=number)).run(x)
            assert np.abs(delegated.astype(int) - session.run(x)).max() <= 2 * count


def test_a_whole_graph_becomes_the_primary_one(bundles: dict[str, Path]) -> None:
    built = bundle.read(bundles["float32"])
    alone = tflite.read(truncated(built.flatbuffer, subgraph=1))
    assert (len(alone.subgraphs), alone.signatures) == (1, ())
    assert alone.subgraphs[0] == built.model.subgraphs[1]


def test_what_the_rest_would_read_is_kept_alive(bundles: dict[str, Path]) -> None:
    """A delegate leaves out a branch that no output needs; the times of `profile` must include it."""
    built = bundle.read(bundles["int8"])
    graph = built.model.subgraphs[0]
    for count in range(1, len(graph.operators) + 1):
        cut = truncated(built.flatbuffer, count, all_alive=True)
        outputs = tflite.read(cut).subgraphs[0].outputs
        assert outputs[0] == graph.operators[count - 1].outputs[0] and len(set(outputs)) == len(outputs)
        needed = set(outputs)
        for operator in reversed(graph.operators[:count]):
            assert needed & set(operator.outputs), f"operator {operator.name} is not needed with {count} operators"
            needed |= set(operator.inputs)
        Session(cut).invoke()


@pytest.mark.parametrize("key", ["clip", "dense"])
def test_a_signature_alone_says_what_it_says_in_the_whole_model(bundles: dict[str, Path], key: str) -> None:
    built = bundle.read(bundles["int8"])
    runner = Interpreter(model_content=built.flatbuffer).get_signature_runner(key)
    ((name, details),) = runner.get_input_details().items()
    session = Session(signature_alone(built.flatbuffer, key))
    for x in random_inputs(tuple(details["shape"]), "int8", 3, np.random.default_rng(1)):
        (wanted,) = runner(**{name: x}).values()
        np.testing.assert_array_equal(session.run(x), wanted)
    with pytest.raises(ConfigError, match="no signature 'live'; there is clip, dense"):
        signature_alone(built.flatbuffer, "live")


@pytest.mark.parametrize(("operators", "subgraph"), [(0, 0), (65, 0), (-1, 0), (1, 2), (1, -1)])
def test_what_is_not_there(bundles: dict[str, Path], operators: int, subgraph: int) -> None:
    with pytest.raises(ConfigError, match=r"cannot be kept|does not exist"):
        truncated(bundle.read(bundles["int8"]).flatbuffer, operators, subgraph=subgraph)


def test_a_damaged_model() -> None:
    with pytest.raises(BundleError):
        truncated(b"no model", 1)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_cutting_a_damaged_model_gives_our_errors_or_a_model(bundles: dict[str, Path], data: st.DataObject) -> None:
    damaged = bytearray(bundle.read(bundles["int8"]).flatbuffer)
    for place in data.draw(st.lists(st.integers(8, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        cut = truncated(bytes(damaged), data.draw(st.integers(1, 56)))
    except (BundleError, ConfigError):
        return
    assert len(cut) <= len(damaged) + 16
