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


TIMES = {"median": 1e-6, "q1": 0.9e-6, "q3": 1.2e-6, "min": 1e-7, "max": 1e-5}
SUITE = {
    "machine_info": {"cpu": {"brand_raw": "Made 1", "count": 2}}, "datetime": "2026-11-26T10:00:00",
    "benchmarks": [
        {"name": f"test_invoke[{n}]", "fullname": f"suite/test_invoke.py::test_invoke[{n}]",
         "stats": {k: m * f for k, f in TIMES.items()} | {"rounds": 50}}
        for n, m in (("a|b", 40.0), ("c", 400.0))
    ],
}  # fmt: skip


@pytest.mark.parametrize("format_name", [f for f in FORMATS if f != "pytest-benchmark"])
def test_suites_in_every_format(tmp_path: Path, format_name: str) -> None:
    file = write_result(tmp_path / "suite.json", SUITE)
    done = CliRunner().invoke(cli.group, ["export", str(file), "--format", format_name])
    assert done.exit_code == 0, done.output
    if format_name == "csv":
        rows = list(csv.DictReader(done.output.splitlines()))
        assert [float(r["median"]) for r in rows] == [40.0, 400.0] and rows[0]["cpu"] == "Made 1"
    elif format_name == "markdown":
        assert "| test_invoke[a\\|b] | 40 us | 36 us | 48 us | 50 |" in done.output
    else:
        found = json.loads(done.output)
        value = {
            "bencher": lambda: found[SUITE["benchmarks"][0]["fullname"]]["latency"]["value"] / 1e3,
            "github-action-benchmark": lambda: found[0]["value"],
            "google-benchmark": lambda: found["benchmarks"][0]["real_time"],
        }[format_name]()
        assert value == pytest.approx(40.0)


def test_suites_and_runs_do_not_mix(tmp_path: Path) -> None:
    suite, run = write_result(tmp_path / "s.json", SUITE), write_result(tmp_path / "r.json", made_result())
    for arguments, words in (([str(suite), str(run)], "export each"), ([str(suite)], "in its format already")):
        done = CliRunner().invoke(cli.group, ["export", *arguments, "--format", "pytest-benchmark"])
        assert isinstance(done.exception, ConfigError) and words in str(done.exception)
