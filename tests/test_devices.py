"""Devices and repeatability: every way runs or says why not, what is concluded, pinning, calls at a fixed rate."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_bench.benchmarks import cli, devices, documents, pinning, repeatability, worker
from edge_bench.benchmarks.ask import ask
from edge_bench.benchmarks.repeat_worker import naive
from edge_runtime.bundle import read

SHIPPED = "swishnet-slim-int8"


def test_every_interpreter_runs_or_says_why_not(tmp_path: Path) -> None:
    out = tmp_path / "devices.json"
    arguments = ["--no-frameworks", "--repeats", "1", "--budget", "0.01", "--threads", "1", "--clip", "0.5"]
    done = CliRunner().invoke(cli.group, ["devices", *arguments, "--json", str(out)])
    assert done.exit_code == 0, done.output
    _, found = documents.read(out, "devices")
    rows = {(row["device"], row["runtime"]): row for row in found["rows"]}
    assert set(rows) == {("cpu", "litert"), ("cpu", "tflite-runtime"), ("cpu", "numpy"),
                         ("cpu", "litert compiled"), ("gpu", "litert compiled")}  # fmt: skip
    for row in rows.values():
        if "absent" in row:
            assert len(row["absent"]) > 10, "a reason"
            assert row["absent"] in done.output
        else:
            assert row["with_copies"]["p50"] > 0 and row["without_copies"]["p50"] > 0
            assert row["with_copies"]["samples"] >= 5 and len(row["with_copies"]["by_process"]) == 1
    assert "absent" not in rows["cpu", "numpy"], "our own executor always runs"


def row(device: str, us: float) -> dict[str, Any]:
    return {"device": device, "runtime": f"r{us:g}", "with_copies": {"p50": us}}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row("cpu", 50), row("cpu", 40), row("gpu", 300)], "CPU is faster than the GPU: 40 us (r40), 300 us (r300)"),
        ([row("cpu", 50), row("gpu", 30)], "the CPU is slower than the GPU"),
        ([row("cpu", 50), {"device": "gpu", "absent": "none"}], "no GPU here; one clip at a time takes 50"),
        ([{"device": "cpu", "absent": "none"}], "nothing runs here"),
    ],
)
def test_what_is_concluded(rows: list[dict[str, Any]], words: str) -> None:
    assert words in devices.finding(rows)


def test_threads_double_up_to_the_cores() -> None:
    def threads(most: int) -> list[int]:
        ways = devices.ways(most_threads=most, frameworks=False)
        return [way.threads for way in ways if way.runtime == "litert"]

    assert (threads(1), threads(2), threads(4), threads(6)) == ([1], [1, 2], [1, 2, 4], [1, 2, 4, 6])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs TensorFlow")
def test_the_network_in_keras_runs_on_tensorflows_cpu() -> None:
    """What a GPU would run, on the device that is here; a GPU that is not here is a reason."""
    request = {"bundle": SHIPPED, "clip_s": 0.5, "batch": 8, "budget_s": 0.02, "threads": 1}
    backend = {"KERAS_BACKEND": "tensorflow"}
    found = ask("edge_bench.train.device_worker", {**request, "device": "cpu"}, more=backend)
    assert all(min(found[name]) > 0 for name in devices.TIMES)
    hidden = {**backend, "CUDA_VISIBLE_DEVICES": "-1"}
    found = ask("edge_bench.train.device_worker", {**request, "device": "gpu"}, more=hidden)
    assert found == {"absent": "no GPU that TensorFlow sees here"}


@pytest.mark.slow
def test_the_medians_of_runs_and_their_spread(tmp_path: Path) -> None:
    foreign, out = tmp_path / "theirs.tflite", tmp_path / "r.json"
    foreign.write_bytes(read(SHIPPED).flatbuffer)
    done = CliRunner().invoke(
        cli.group, ["repeatability", str(foreign), "--runs", "2", "--budget", "0.1", "--json", str(out)]
    )
    assert done.exit_code == 0, done.output
    _, found = documents.read(out, "repeatability")
    rows = {r["name"]: r for r in found["rows"]}
    assert found["model"] == "theirs" and {"controls", "without"} <= set(rows)
    for r in rows.values():
        assert len(r["p50"]) == 2 and r["median"] > 0 and r["range"] >= 0
    broken = tmp_path / "x.tflite"
    broken.write_bytes(b"TFL3" * 8)
    done = CliRunner().invoke(cli.group, ["repeatability", str(broken)])
    assert type(done.exception).__name__ == "BundleError"


def test_spread_of_equal_runs_is_nothing() -> None:
    assert repeatability.spread([5.0, 5.0, 5.0])["range"] == 0 == repeatability.spread([5.0, 5.0])["variation"]
    assert repeatability.spread([90.0, 100.0, 110.0])["range"] == pytest.approx(0.2)


def test_both_ways_of_timing_count_their_calls() -> None:
    calls = []
    times = naive(lambda: calls.append(0), warm=5, calls=50)
    assert len(times) == 50 and len(calls) == 55
    code = "from edge_bench.benchmarks.repeat_worker import controlled; "
    code += "print(len(controlled(lambda: None, budget_s=0.05)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 1, "in a process of its own: it stops the garbage collector"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_process_is_pinned_to_one_of_its_own_cores() -> None:
    allowed = os.sched_getaffinity(0)
    core = pinning.quietest_core(0.01)
    assert core in allowed and os.sched_getaffinity(0) == allowed, "looking changes nothing"
    code = "import os; from edge_bench.benchmarks.pinning import pin; print(pin(2), pin(1) in os.sched_getaffinity(0), "
    code += "len(os.sched_getaffinity(0)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "True", "1"]


def test_the_least_busy_core_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([{0: 100, 1: 100, 2: 100}, {0: 109, 1: 102, 2: 102}])
    monkeypatch.setattr(pinning, "busy_ticks", lambda: next(readings))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert pinning.quietest_core(0.0) == 2
    monkeypatch.setattr(pinning, "busy_ticks", dict)
    assert pinning.quietest_core(0.0) == 2, "where nothing is told, the last"


class Clock:
    """Time that passes when it is slept or spent."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_calls_at_a_rate_begin_at_fixed_times(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, began = Clock(), []
    monkeypatch.setattr(worker, "time", clock)

    def call() -> float:
        began.append(round(clock.now, 3))
        clock.now += 0.25 if len(began) == 2 else 0.01  # the second takes too long
        return 10.0

    found, late = worker.at_rate(call, 10, 1.0)
    assert began[:6] == [0.0, 0.1, 0.35, 0.36, 0.4, 0.5], "what is late is made up for, then the times are the old ones"
    assert late == 2 and found == [10.0] * len(began)
