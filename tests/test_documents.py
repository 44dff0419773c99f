"""The JSON Schemas against what the commands really write, and our small checker against the jsonschema package."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from made_results import made_result, write_result

from edge_bench.benchmarks import cli, documents
from edge_bench.benchmarks.gate_instructions import CountOptions, verdict
from edge_bench.benchmarks.instructions import Instructions
from edge_bench.benchmarks.json_schema import KEYWORDS, first_error
from edge_bench.benchmarks.series import entry
from edge_runtime import ConfigError

RESULTS = Path(__file__).parent.parent / "results"
SHIPPED = "swishnet-slim-int8"


def keywords(schema: Any) -> set[str]:
    """Return the keywords of a schema and of all schemas in it."""
    found = set(schema)
    for name in ("properties", "$defs"):
        for inner in schema.get(name, {}).values():
            found |= keywords(inner)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            found |= keywords(schema[name])
    return found


@pytest.mark.parametrize("kind", list(documents.MADE_BY))
def test_schemas_are_valid_and_use_what_we_check(kind: str) -> None:
    schema = documents.schema_of(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert keywords(schema) <= KEYWORDS
    if kind != documents.PYTEST:
        assert schema["properties"]["schema"]["const"] == schema["$id"] == f"edge-bench/{kind}/1"


def test_there_is_a_schema_for_every_file_and_no_other() -> None:
    assert {p.stem.removesuffix("-1") for p in documents.SCHEMAS.glob("*.json")} == set(documents.MADE_BY)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda p: p.name)
def test_committed_results(path: Path) -> None:
    kind = documents.kind_of(json.loads(path.read_text()))
    if kind is None:
        with pytest.raises(ConfigError, match=rf"{path.name}: schema is 'edge-bench/"):
            documents.read(path)
        return
    found = documents.read(path, kind)
    assert found[0] == kind
    jsonschema.validate(found[1], documents.schema_of(kind))


def test_what_the_commands_write(tmp_path: Path) -> None:
    a = write_result(tmp_path / "a.json", made_result(seed=1))
    b = write_result(tmp_path / "b.json", made_result(1.1, seed=2))
    commands = {
        "compare": ["compare", str(a), str(b)],
        "gate": ["gate", str(b), "--baseline", str(a)],
        "inspect": ["inspect", SHIPPED, "--no-time"],
        "plan": ["plan", SHIPPED, "--board", "pi-zero-2w"],
        "verify": ["verify", SHIPPED],
    }
    for kind, arguments in commands.items():
        out = tmp_path / f"{kind}.json"
        done = CliRunner().invoke(cli.group, [*arguments, "--json", str(out)])
        assert out.exists(), done.output
        assert documents.read(out)[0] == kind
        jsonschema.validate(json.loads(out.read_text()), documents.schema_of(kind))


def test_a_gate_by_counts_is_a_gate() -> None:
    counts = json.loads((RESULTS / "instructions-baseline.json").read_text())["counts"]
    old, new = (Instructions(**one) for one in counts)
    found = {**verdict(new, old, CountOptions()), "context": {"time": "2026-11-26", "machine": {}, "remarks": []}}
    jsonschema.validate(found, documents.schema_of("gate"))
    assert first_error(found, documents.schema_of("gate")) is None
    kept = entry("gate", found)
    assert kept.name == "swishnet-wide-int8"
    assert {m.name for m in kept.metrics} >= {"2s/model/ratio", "2s/frontend/ratio"}


@pytest.mark.slow
def test_what_the_measuring_commands_write(tmp_path: Path) -> None:
    commands = {
        "run": ["run", "--rounds", "20", "--clips", "0.5", "--cold", "1"],
        "gate": ["gate", SHIPPED, "--baseline", SHIPPED, "--seconds", "5", "--clock", "cpu"],
        "doctor": ["doctor"],
        "gate-trial": ["gate-trial", "--runs", "1", "--seconds", "5", "--out", str(tmp_path / "trial.jsonl")],
    }
    for kind, arguments in commands.items():
        out = tmp_path / f"{kind}.json"
        CliRunner().invoke(cli.group, [*arguments, "--json", str(out)])
        jsonschema.validate(documents.read(out, kind)[1], documents.schema_of(kind))


def test_pytest_benchmarks_own_file(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_sum(benchmark):\n    benchmark(sum, range(10))\n")
    out = tmp_path / "bench.json"
    options = ["--benchmark-json", str(out), "--benchmark-max-time", "0.01", "-p", "no:hypothesispytest", "test_it.py"]
    # a pytest of its own, not one that takes itself for a worker of ours (pytest-benchmark would measure nothing)
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    subprocess.run([sys.executable, "-m", "pytest", *options], cwd=tmp_path, check=True, capture_output=True, env=alone)
    assert documents.read(out)[0] == documents.PYTEST


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every node of a document, long lists by their first entries."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:12]) if isinstance(value, list) else ()
    return [at, *(way for key, part in inner for way in places(part, (*at, key)))]


def short_run() -> dict[str, Any]:
    """A result with few samples."""
    result = made_result(clips=(2.0,))
    for times in result["clips"][0]["stages"].values():
        times["samples"] = times["samples"][:10]
    return result


RUN, EVALUATION = short_run(), json.loads((RESULTS / f"{SHIPPED}-validation.json").read_text())
anything = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.floats(-1, 2), st.sampled_from(["", "edge-bench/run/1", "good"]),
    st.lists(st.integers(-1, 1), max_size=3), st.lists(st.floats(-0.1, 5), min_size=9, max_size=12), st.just({}),
)  # fmt: skip


@given(st.data(), st.sampled_from(["run", "evaluate"]), anything, st.booleans())
def test_our_checker_judges_as_jsonschema_does(data: st.DataObject, kind: str, new: Any, remove: bool) -> None:
    value = copy.deepcopy(RUN if kind == "run" else EVALUATION)
    way = data.draw(st.sampled_from(places(value)[1:]))
    inside = value
    for key in way[:-1]:
        inside = inside[key]
    if remove and isinstance(inside, dict):
        del inside[way[-1]]
    else:
        inside[way[-1]] = new
    schema = documents.schema_of(kind)
    ours = first_error(value, schema)
    assert (ours is None) == jsonschema.Draft202012Validator(schema).is_valid(value), (way, ours)


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda r: r["clips"][0]["stages"]["model"]["samples"].append(-1.0),
      r"clips\[0\]\.stages\.model\.samples\[400\] is -1\.0, must be above 0; make it again with `edge-bench run"),
     (lambda r: r["context"].pop("machine"), "context.machine is missing"),
     (lambda r: r["model"].update(sha256="x"), "model.sha256 is 'x', must look like"),
     (lambda r: r.update(schema="edge-bench/run/2"), "schema is 'edge-bench/run/2', needed is 'edge-bench/run/1'"),
     (lambda r: r["memory"].update(peak=float("nan")), "is not JSON")],
)  # fmt: skip
def test_messages_name_the_place(tmp_path: Path, change: Any, words: str) -> None:
    result = made_result()
    change(result)
    with pytest.raises(ConfigError, match=words):
        documents.read(write_result(tmp_path / "x.json", result), "run")


def test_another_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    file = write_result(tmp_path / "run.json", made_result())
    with pytest.raises(ConfigError, match=r"needed is 'edge-bench/gate/1' or 'edge-bench/evaluate/1': a file of"):
        documents.read(file, "gate", "evaluate")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ConfigError, match=r"is not JSON in UTF-8"):
        documents.read(tmp_path / "bytes.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        documents.read(tmp_path)
