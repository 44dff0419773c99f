"""edge-bench compare: what it finds in drawn times, what it refuses, what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_results import made_result, write_result

from edge_bench.benchmarks import cli, results
from edge_bench.benchmarks.compare import compare
from edge_runtime import ConfigError


def test_a_slower_model_is_seen_where_it_is() -> None:
    found = compare(made_result(seed=1), made_result(1.10, seed=2))
    for clip in found["clips"]:
        stages = clip["stages"]
        low, high = stages["model"]["interval"]
        assert stages["model"]["verdict"] == "slower" and low < 1.10 < high and low > 1.05
        assert stages["model"]["effect"] > 0.9 and stages["model"]["effect_word"] == "large"
        assert stages["frontend"]["verdict"] == "same"
    assert [clip["clip_s"] for clip in found["clips"]] == [0.5, 2.0]


def test_turning_the_two_turns_the_ratio() -> None:
    a, b = made_result(seed=3), made_result(1.2, seed=4)
    there, back = compare(a, b)["clips"][0]["stages"]["model"], compare(b, a)["clips"][0]["stages"]["model"]
    assert there["ratio"] * back["ratio"] == pytest.approx(1, rel=1e-3)
    assert there["effect"] == -back["effect"] and back["verdict"] == "faster"


def test_different_environments_are_refused_unless_told() -> None:
    a, b = made_result(), made_result()
    b["context"]["machine"]["cpu"] = "Made 2"
    b["model"]["threads"] = 2
    with pytest.raises(ConfigError, match=r"cpu Made 1 / Made 2; threads 1 / 2.*--force"):
        compare(a, b)
    found = compare(a, b, force=True)
    assert len(found["environment_differences"]) == 2
    with pytest.raises(ConfigError, match="share no clip length"):
        compare(a, made_result(clips=(1.0,)))


def test_the_command(tmp_path: Path) -> None:
    a, b = write_result(tmp_path / "a.json", made_result()), write_result(tmp_path / "b.json", made_result(1.1, 1))
    out = tmp_path / "out.json"
    done = CliRunner().invoke(cli.group, ["compare", str(a), str(b), "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "0.5 s  model" in done.output and "slower" in done.output and "no difference seen" in done.output
    found = json.loads(out.read_text())
    assert found["schema"] == "edge-bench/compare/1" and found["clips"][0]["stages"]["total"]["a_p50"] > 0


def broken(part: str) -> str:
    """A result file that is damaged in one way."""
    result = made_result()
    if part == "no samples":
        result["clips"][0]["stages"]["model"]["samples"] = []
    elif part == "no machine":
        del result["context"]["machine"]
    elif part == "clips":
        result["clips"] = 5
    elif part == "schema":
        result["schema"] = "edge-bench/run/9"
    else:
        return {"list": "[1]", "text": "hello", "deep": "[" * 100000, "number": "3"}[part]
    return json.dumps(result)


@pytest.mark.parametrize("part", ["no samples", "no machine", "clips", "schema", "list", "text", "deep", "number"])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, part: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(broken(part))
    with pytest.raises(ConfigError, match=r"bad\.json"):
        results.read(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        results.read(tmp_path / "none.json")
