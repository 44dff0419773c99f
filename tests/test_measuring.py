"""Measuring: precision and what is not reached, what makes a run doubtful, the doctor."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_bench.benchmarks import cli, context, doctor, documents, steadiness
from edge_bench.benchmarks.run import RunOptions, run


def state(**changes: Any) -> dict[str, Any]:
    plain = {"load": 0.1, "temperature_c": 50.0, "throttled": "0x0", "stolen_s": 5.0, "clock_s": 10.0}
    return {**plain, **changes}


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {"clock_s": 20.0}, None),
        ({"load": 1.9}, {}, "load was 1.9"),
        ({}, {"throttled": "0x50000", "clock_s": 20.0}, "during the run: under-voltage, throttled"),
        ({"throttled": "0x50000"}, {"throttled": "0x50000", "clock_s": 20.0}, None),
        ({}, {"throttled": "0x1"}, "throttled after the run"),
        ({}, {"temperature_c": 83.0}, "at 83 C"),
        ({}, {"stolen_s": 6.0, "clock_s": 20.0}, "took 10 % of a core"),
        ({"stolen_s": None}, {"stolen_s": None}, None),
    ],
)
def test_what_makes_a_run_doubtful(before: dict[str, Any], after: dict[str, Any], words: str | None) -> None:
    about = {"machine": {"cores": 2, "governor": None}, "before": state(**before), "after": state(**after)}
    found = context.remarks(about)
    assert (words is None and not found) or (len(found) == 1 and words is not None and words in found[0]), found


def test_sampling_ends_by_precision_or_says_that_it_did_not() -> None:
    how = RunOptions(clips=(0.5,), rounds=100_000, budget_s=20, warm_s=0.05, cold=1, precision=0.5, idle_s=0.01)
    result = run("swishnet-slim-int8", how)
    assert result["sampling"]["ended"] == "precision" and result["sampling"]["rounds"] >= 50
    for times in result["clips"][0]["stages"].values():
        low, high = times["interval"]
        assert low <= times["p50"] + 0.01 and times["p50"] <= high + 0.01 and high - low <= times["p50"]
        assert 0 <= times["outliers"] < len(times["samples"]) / 2
    assert result["clips"][0]["after_idle"] > 0
    assert result["context"]["trust"] in ("good", "doubtful")
    rare = RunOptions(clips=(0.5,), rounds=60, budget_s=20, warm_s=0.05, cold=1, precision=0.0005, idle_s=0.01)
    result = run("swishnet-slim-int8", rare)
    assert result["sampling"]["ended"] == "rounds"
    assert any("precision of 0.05 % was not reached in 60 rounds" in r for r in result["context"]["remarks"])


@pytest.mark.parametrize("value", ["x", "0", "99%", "-1%", ""])
def test_precisions_that_make_no_sense(value: str) -> None:
    done = CliRunner().invoke(cli.group, ["run", "--precision", value])
    assert done.exit_code == 2 and "such as 1%" in done.output


def test_the_doctor_finds_what_is_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "BACKENDS", ("numpy",))
    out = tmp_path / "doctor.json"
    done = CliRunner().invoke(cli.group, ["doctor", "--json", str(out)])
    assert done.exit_code == 0, done.output
    found = {f["subject"]: f for f in json.loads(out.read_text())["findings"]}
    assert found["interpreter numpy"]["state"] == "fine" and "works" in found["interpreter numpy"]["found"]
    assert found["shipped bundle"]["state"] == "fine"
    assert all(f["remedy"] for f in found.values() if f["state"] == "bad")
    assert found["used by default"]["state"] == "bad", "there was numpy's executor only"
    assert all(f["remedy"] for f in found.values() if f["found"] == "not installed")
    for title in ("Installed", "Interpreters", "Tools", "Timing here"):
        assert f"{title}\n" in done.output
    assert documents.read(out)[0] == "doctor"


def test_the_clock_and_the_gaps_are_measured() -> None:
    assert 1 <= steadiness.clock_step() < 1_000_000
    assert 0 <= steadiness.jitter(0.05) <= 1


def test_the_doctor_names_who_is_busy() -> None:
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        began, before = time.perf_counter(), steadiness.processor_times()
        while steadiness.processor_times()[child.pid][0] < before[child.pid][0] + 20:
            time.sleep(0.05)
        found = steadiness.busiest(before, steadiness.processor_times(), time.perf_counter() - began, least=0.0)
    finally:
        child.kill()
        child.wait()
    (mine,) = [share for share in found if share[0] == child.pid]
    assert 0 < mine[1] <= 1.3 and "while True" in mine[2]


@pytest.mark.parametrize(
    ("file", "text", "subject", "words"),
    [("/sys/fs/cgroup/cpu.max", "150000 100000", "container", "may use 1.5 core(s) by quota"),
     ("/sys/devices/system/cpu/smt/active", "1", "hyper-threading", "share one core"),
     ("/sys/devices/system/cpu/cpufreq/boost", "1", "turbo", "on:"),
     ("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet", "clock source", "hpet"),
     ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave", "governor", "powersave"),
     ("/sys/class/thermal/thermal_zone0/temp", "82000", "temperature", "82 C")],
)  # fmt: skip
def test_what_the_doctor_knows_of_a_machine(
    monkeypatch: pytest.MonkeyPatch, file: str, text: str, subject: str, words: str
) -> None:
    monkeypatch.setattr(context, "_text", lambda path: text if path == file else None)
    found = {f.subject: f for f in steadiness.steadiness(0.01)}
    assert words in found[subject].found and found[subject].remedy and found[subject].state != "fine"
