"""Exporters and the JSON Schema, against the readers and the documents of the tools that they are for."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner
from made_results import made_result, write_result

from edge_bench.benchmarks import cli, results
from edge_bench.benchmarks.exporters import FORMATS, export
from edge_runtime import ConfigError

SCHEMA = json.loads(results.SCHEMA_FILE.read_text())
COMMITTED = Path(__file__).parent.parent / "results" / "run.json"


def test_results_follow_the_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(made_result(), SCHEMA)
    jsonschema.validate(results.read(COMMITTED), SCHEMA)
    broken = made_result()
    broken["clips"][0]["stages"]["model"]["samples"] = [-1.0]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_csv_and_markdown_hold_every_stage() -> None:
    result = made_result(seed=1)
    rows = list(csv.DictReader(export("csv", [result, made_result(1.2, seed=2)]).splitlines()))
    assert len(rows) == 12 and rows[1]["stage"] == "model"
    assert float(rows[1]["p50"]) == result["clips"][0]["stages"]["model"]["p50"]
    lines = export("markdown", [result]).splitlines()
    assert len(lines) == 8 and len({line.count("|") for line in lines}) == 1


def test_bencher_is_in_nanoseconds_with_bounds_around_the_value() -> None:
    found = json.loads(export("bencher", [made_result()]))
    latency = found["made-int8/0.5s/model"]["latency"]
    assert latency["lower_value"] <= latency["value"] <= latency["upper_value"]
    assert 38_000 < latency["value"] < 42_000
    assert found["made-int8"]["file-size"] == {"value": 67030.0}


def test_github_action_benchmark() -> None:
    found = json.loads(export("github-action-benchmark", [made_result()]))
    assert all({"name", "unit", "value"} <= set(row) for row in found)
    assert [row["unit"] for row in found] == ["us"] * 6 + ["bytes"]


def test_pytest_benchmark_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(export("pytest-benchmark", [made_result(), made_result(1.5, seed=1)]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(file), "--columns=median", "--csv"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "made-int8/0.5s/model" in done.stdout


def test_google_benchmark() -> None:
    found = json.loads(export("google-benchmark", [made_result()]))
    assert {"date", "num_cpus", "library_build_type"} <= set(found["context"])
    assert len(found["benchmarks"]) == 6 and found["benchmarks"][0]["time_unit"] == "us"


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_command_writes_every_format(tmp_path: Path, name: str) -> None:
    source, out = write_result(tmp_path / "run.json", made_result()), tmp_path / "out"
    done = CliRunner().invoke(cli.group, ["export", str(source), "--format", name, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "made-int8" in out.read_text()
    if name == "bencher":
        done = CliRunner().invoke(cli.group, ["export", str(source), str(source), "--format", name])
        assert isinstance(done.exception, ConfigError) and "export each" in str(done.exception)
