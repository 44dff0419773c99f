"""Timing several functions, or several commands, in turn, so that a disturbance hits all alike."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def interleave(
    functions: Mapping[str, Callable[[], Any]], *, rounds: int = 300, calls: Mapping[str, int] | None = None,
    warm: int = 20, seed: int = 0,
) -> dict[str, list[float]]:  # fmt: skip
    """Return microseconds of one call, `rounds` samples for each function.

    Every round visits all functions in a new random order. `calls` says how many calls make a sample of a function
    too short to be timed alone; the sample is their mean.
    """
    many = dict.fromkeys(functions, 1) | dict(calls or {})
    samples: dict[str, list[float]] = {name: [] for name in functions}
    order = list(functions)
    rng = random.Random(seed)
    clock = time.perf_counter_ns
    overhead = min(-clock() + clock() for _ in range(1000))
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(warm + rounds):
            rng.shuffle(order)
            for name in order:
                function, n = functions[name], many[name]
                began = clock()
                for _ in range(n):
                    function()
                if number >= warm:
                    samples[name].append((clock() - began - overhead) / n / 1000)
    finally:
        if collecting:
            gc.enable()
    return samples


def ratio(contender: Sequence[float], reference: Sequence[float], *, seed: int = 0) -> tuple[float, float, float]:
    """Return the median of the paired ratios and its 95 % bootstrap interval."""
    logs = np.log(np.asarray(contender) / np.asarray(reference))
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(logs, (1000, len(logs))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high))


@dataclass(frozen=True)
class Process:
    """What a finished process used: wall seconds and the largest RSS in bytes."""

    seconds: float
    peak: int


# A process that is started counts the memory of the one that starts it as its own: a bare interpreter starts it.
_LAUNCHER = """
import os, sys, time
nowhere = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
began = time.perf_counter()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=nowhere)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - began, usage.ru_maxrss * 1024)
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
"""


def run_process(command: Sequence[str]) -> Process:
    """Run a command to its end and return its wall time and peak memory.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command]
    done = subprocess.run(launcher, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    seconds, peak = done.stdout.split()
    return Process(float(seconds), int(peak))
