"""What inspect says: operators, work, time, memory, differences; of bundles and of foreign files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import parts_of, with_info
from hypothesis import given
from hypothesis import strategies as st

from edge_bench.benchmarks import cli
from edge_runtime import BundleError, arena, bundle, inspect_text, profile, tflite
from edge_runtime.inspect import inspect_bundle, inspect_file, parameters
from edge_runtime.interpreter import Session
from edge_runtime.tflite import Operator, Subgraph, Tensor


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return inspect_file("swishnet-slim-int8", budget_s=0.3)


def test_the_keys_of_the_contract(report: dict[str, Any]) -> None:
    assert report["schema"] == "edge-bench/inspect/1"
    assert {"macs", "parameters", "arena_bytes", "receptive_field_s"} <= set(report)
    assert all({"op", "shape", "macs", "bytes", "share"} <= set(row) for row in report["operators"])
    assert report["macs"] == sum(row["macs"] for row in report["operators"])
    assert report["parameters"] == 5483 and report["receptive_field_s"] == pytest.approx(1.095)
    assert sum(row["share"] for row in report["operators"]) == pytest.approx(1, abs=0.01)
    assert all(0 <= row["share"] <= 1 for row in report["operators"])
    assert report["time"]["total_us"] > 0 and report["time"]["rounds"] >= 3 and report["missing"] == []
    json.dumps(report, allow_nan=False)


def test_the_arena_is_what_the_interpreter_allocates(report: dict[str, Any], bundles: dict[str, Path]) -> None:
    # reference kernels need no scratch: the plan must be theirs, but for the last tensor's alignment
    assert 0 <= report["arena_bytes"] - report["arena"]["reference"] < arena.ALIGNMENT
    assert report["arena"]["plain"] >= report["arena"]["reference"]
    for path in bundles.values():
        built = bundle.read(path)
        graph = built.model.subgraphs[0]
        session = Session(built.flatbuffer, kernels="reference")
        spans = [s for i, s in session.addresses().items() if i < len(graph.tensors) and graph.tensors[i].data is None]
        span = max(at + size for at, size in spans) - min(at for at, _ in spans)
        assert 0 <= arena.arena_bytes(graph) - span < arena.ALIGNMENT


def made_graph(sizes: list[int], edges: list[tuple[list[int], int]], name: str = "CONV_2D") -> Subgraph:
    tensors = tuple(Tensor(i, "", (n,), "int8", None, 0, None) for i, n in enumerate(sizes))
    operators = tuple(Operator(name, tuple(inputs), (output,), {}) for inputs, output in edges)
    return Subgraph("", tensors, (0,), (edges[-1][1],), operators)


def test_a_plan_by_hand() -> None:
    # a chain; the input stays to the end, tensor 3 may lie where 1 was
    graph = made_graph([64, 128, 64, 128, 64], [([0], 1), ([1], 2), ([2], 3), ([3], 4)])
    assert arena.lifetimes(graph) == {0: (0, 3), 1: (0, 1), 2: (1, 2), 3: (2, 3), 4: (3, 3)}
    places = {p.tensor: p.offset for p in arena.plan(graph)}
    assert places == {0: 0, 1: 64, 3: 64, 2: 192, 4: 192}
    assert arena.arena_bytes(graph) == 256
    assert arena.arena_bytes(graph, {3: (256,)}) == 384


def test_a_sum_takes_the_place_of_what_nothing_else_reads() -> None:
    edges = [([0], 1), ([1, 0], 2), ([2], 3), ([3, 2], 4), ([4], 5)]
    graph = made_graph([128] * 6, edges, "ADD")
    # 1 is read once, so 2 lies there; 2 is read twice, so 3 does not; 4 lies where 3 does; 0 and 5 are ends
    assert arena.in_place(graph, dict.fromkeys(range(6), 128)) == {2: 1, 4: 3}
    assert {p.tensor: (p.first, p.last) for p in arena.plan(graph)} == {0: (0, 4), 1: (0, 3), 3: (2, 4), 5: (4, 4)}
    assert arena.arena_bytes(graph) == 3 * 128 and arena.arena_bytes(made_graph([128] * 6, edges)) == 4 * 128


@given(st.lists(st.integers(1, 500), min_size=3, max_size=12), st.data())
def test_no_two_living_tensors_overlap(sizes: list[int], data: st.DataObject) -> None:
    edges = [
        (data.draw(st.lists(st.integers(0, i - 1), min_size=1, max_size=2)), i) for i in range(1, len(sizes))
    ]
    graph = made_graph(sizes, edges)
    places = arena.plan(graph)
    assert {p.tensor for p in places} == set(range(len(sizes)))
    for i, a in enumerate(places):
        assert a.offset % arena.ALIGNMENT == 0
        for b in places[:i]:
            if a.first <= b.last and b.first <= a.last:
                assert a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
    assert max(sizes) <= arena.arena_bytes(graph) <= sum(-(-n // 64) * 64 for n in sizes)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_times_are_made_to_rise(values: list[float]) -> None:
    risen = profile._rising(np.array(values))
    assert (np.diff(risen) >= -1e-9).all() and risen.sum() == pytest.approx(sum(values), abs=1e-6)
    if sorted(values) == values:
        np.testing.assert_allclose(risen, values)


def test_shares_of_times_by_hand() -> None:
    # five operators: what the third adds is a hundred times what the others add, and one round of seven was disturbed
    cut_at = np.array([1.0, 2.0, 102.0, 103.0, 104.0])
    times = np.tile(cut_at, (7, 1))
    times[3] *= np.array([50.0, 1.0, 9.0, 1.0, 30.0])
    np.testing.assert_allclose(profile.shares_of(times), np.array([1, 1, 100, 1, 1]) / 104)
    # a longer graph that took less than a shorter one: both are taken alike, and no share is below zero
    np.testing.assert_allclose(profile.shares_of(np.array([[2.0, 6.0, 4.0, 10.0]])), [0.2, 0.3, 0.0, 0.5])
    np.testing.assert_array_equal(profile.shares_of(np.zeros((3, 4))), np.full(4, 0.25))  # a clock too coarse


@given(st.integers(1, 6), st.integers(1, 5), st.data())
def test_shares_are_shares(operators: int, rounds: int, data: st.DataObject) -> None:
    row = st.lists(st.integers(0, 10**9), min_size=operators, max_size=operators)
    shares = profile.shares_of(np.array([data.draw(row) for _ in range(rounds)], np.float64))
    assert len(shares) == operators and np.isfinite(shares).all() and (shares >= 0).all()
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("backend", ["litert", "numpy"])
def test_every_operator_is_timed(backend: str) -> None:
    found = profile.measure(bundle.read("swishnet-slim-int8").flatbuffer, backend=backend, rounds=4, budget_s=10)
    graph = bundle.read("swishnet-slim-int8").model.subgraphs[0]
    assert found.backend == backend and found.rounds == 4 and found.total_us > 0
    assert len(found.shares) == len(graph.operators) and min(found.shares) >= 0
    assert sum(found.shares) == pytest.approx(1)


def test_shares_of_work_are_exact(report: dict[str, Any]) -> None:
    rows = report["operators"]
    for row in rows:
        assert row["macs_share"] == round(row["macs"] / report["macs"], 4)
    working = {row["op"] for row in rows if row["macs"]}
    assert working == {"CONV_2D", "DEPTHWISE_CONV_2D"} <= {row["op"] for row in rows}
    convolutions = sum(row["macs"] for row in rows if row["op"] == "CONV_2D")
    assert convolutions > 0.9 * report["macs"], "SwishNet's work is its full convolutions"


def test_nothing_runs_when_told_so() -> None:
    report = inspect_file("swishnet-slim-int8", timed=False)
    assert report["time"] is None and {row["share"] for row in report["operators"]} == {None}
    assert report["arena"] == {"planned": report["arena_bytes"]}
    assert inspect_bundle(bundle.read("swishnet-slim-int8"))["operators"] == report["operators"]


def test_a_foreign_model(bundles: dict[str, Path], tmp_path: Path) -> None:
    flatbuffer = parts_of(bundles["int8"].read_bytes())[0]
    file = tmp_path / "foreign.tflite"
    file.write_bytes(flatbuffer)
    report = inspect_file(file, budget_s=0.2)
    assert report["name"] == "foreign" and report["classes"] is None and report["receptive_field_s"] is None
    assert any("bundle.json" in what for what in report["missing"]) and any("golden" in w for w in report["missing"])
    assert report["macs"] == inspect_file(bundles["int8"], timed=False)["macs"]
    assert report["parameters"] == parameters(tflite.read(flatbuffer).subgraphs[0]) > 5000
    text = inspect_text.render(report)
    assert "missing: bundle.json" in text and "CONV_2D" in text
    file.write_bytes(flatbuffer[: len(flatbuffer) // 2])
    with pytest.raises(BundleError, match="damaged"):
        inspect_file(file)


def test_an_altered_bundle_is_no_foreign_model(bundles: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "altered.tflite"
    file.write_bytes(with_info(bundles["int8"].read_bytes(), stride=0))
    with pytest.raises(BundleError, match="make no sense"):
        inspect_file(file)


def test_a_model_that_no_interpreter_runs_is_still_shown(tmp_path: Path, bundles: dict[str, Path]) -> None:
    report = inspect_file("swishnet-slim-int8", backend="numpy", budget_s=0.1)
    assert report["arena"] == {"planned": report["arena_bytes"]} and report["time"]["backend"] == "numpy"


def test_two_bundles() -> None:
    a, b = (inspect_file(f"swishnet-slim-{kind}", timed=False) for kind in ("float32", "int8"))
    value = inspect_text.comparison(a, b)
    found = {entry["what"]: (entry["a"], entry["b"]) for entry in value["differences"]}
    assert found["precision"] == ("float32", "int8") and found["bytes"] == (a["bytes"], b["bytes"])
    assert found["inputs.0.dtype"] == ("float32", "int8") and "parameters" not in found and "macs" not in found
    for side, report in (("a", a), ("b", b)):  # int8 may have a block's gates apart; every operator is on one line
        lines = [pair[side]["op"] for pair in value["operators"] if pair[side]]
        assert lines == [row["op"] for row in report["operators"]]
    assert all(pair["a"] or pair["b"] for pair in value["operators"])
    text = inspect_text.render_comparison(value)
    assert "precision" in text and len(text.splitlines()) > len(a["operators"])
    same = inspect_text.comparison(a, a)
    assert same["differences"] == [] and "the same file" in inspect_text.render_comparison(same)


def test_operators_without_a_counterpart() -> None:
    a = inspect_file("swishnet-slim-int8", timed=False)
    b = {**a, "operators": [row for i, row in enumerate(a["operators"]) if i != 3]}
    missing = [pair for pair in inspect_text.operator_differences(a, b) if pair[1] is None]
    assert [pair[0]["op"] for pair in missing if pair[0]] == [a["operators"][3]["op"]]


def test_names_cannot_write_on_the_terminal() -> None:
    report = inspect_file("swishnet-slim-int8", timed=False)
    report["operators"][0] = {**report["operators"][0], "op": "CUSTOM:\x1b[2J"}
    assert "\x1b" not in inspect_text.render(report)


def test_commands(tmp_path: Path) -> None:
    run = CliRunner().invoke
    picture, file = tmp_path / "slim.png", tmp_path / "slim.json"
    options = ["--budget", "0.1", "--plot", str(picture), "--json", str(file)]
    done = run(cli.group, ["inspect", "swishnet-slim-int8", *options])
    assert done.exit_code == 0, done.output
    assert picture.read_bytes()[1:4] == b"PNG" and json.loads(file.read_text())["name"] == "swishnet-slim-int8"
    done = run(cli.group, ["inspect", "swishnet-slim-int8", "--plot", str(tmp_path / "slim.foo")])
    assert "must end in .png" in str(done.exception)
    done = run(cli.group, ["inspect", "swishnet-slim-int8", "--no-time", "--plot", str(tmp_path / "slim.svg")])
    assert done.exit_code == 0 and "<svg" in (tmp_path / "slim.svg").read_text()
    done = run(cli.group, ["inspect", "swishnet-slim-int8", "swishnet-slim-float32", "--no-time", "--json", "-"])
    assert done.exit_code == 0 and json.loads(done.stdout)["schema"] == "edge-bench/inspect-compare/1"
    for arguments in (["a", "b", "c"], ["swishnet-slim-int8", "swishnet-slim-float32", "--plot", "x.png"]):
        done = run(cli.group, ["inspect", *arguments])
        assert done.exit_code != 0 and "one" in str(done.exception)
