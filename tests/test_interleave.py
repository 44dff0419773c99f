"""Functions and commands in turn."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edge_bench.benchmarks.interleave import interleave, ratio, run_process


def test_functions_take_turns() -> None:
    calls: list[str] = []
    samples = interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=20, warm=3, calls={"a": 1, "b": 2}
    )
    assert {name: len(times) for name, times in samples.items()} == {"a": 20, "b": 20}
    assert calls.count("b") == 2 * calls.count("a")
    for i in range(0, 69, 3):
        assert sorted(calls[-69:][i : i + 3]) == ["a", "b", "b"], "every round has both"


def test_the_ratio_of_pairs() -> None:
    rng = np.random.default_rng(0)
    noise = rng.lognormal(0, 0.3, 200)  # that both of a pair share
    found, low, high = ratio(3 * noise, noise)
    assert low <= found <= high and found == pytest.approx(3) and high - low < 1e-9


def test_a_process_has_a_time_and_a_peak_of_its_own() -> None:
    held = np.ones(20_000_000)
    small = run_process([sys.executable, "-c", "import time; time.sleep(0.2)"])
    large = run_process([sys.executable, "-c", "x = bytearray(64 << 20)"])
    assert held.nbytes > 150e6 and small.peak < 60e6 < large.peak < 140e6, "what this process holds does not count"
    assert 0.2 <= small.seconds < 20


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([sys.executable, "-c", "import sys; sys.exit('no such thing')"], "ended with 1: no such thing"),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], "ended with 137"),
        (["no-such-command-here"], "No such file or directory"),
    ],
)
def test_a_process_that_fails_says_why(command: list[str], words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        run_process(command)
