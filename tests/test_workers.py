"""Pools of processes: as many as there are cores to use, and none is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_bench.train import workers

CODE = """
import os, sys, time
from edge_bench.train.workers import worker_pool

def begin(text):
    print(text, os.getpid(), flush=True)

with worker_pool(1, start=begin, arguments=("worker",)) as pool:
    pool.submit(time.sleep, float(sys.argv[1])).result()
"""


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_workers_begin_and_end_with_the_pool() -> None:
    done = subprocess.run([sys.executable, "-c", CODE, "0"], capture_output=True, text=True, check=True)
    word, pid = done.stdout.split()
    assert word == "worker" and not running(int(pid))


def test_a_worker_whose_parent_was_killed_ends() -> None:
    process = subprocess.Popen([sys.executable, "-c", CODE, "60"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline().split()[1])
    assert running(pid)
    process.kill()
    process.wait()
    until = time.monotonic() + 20
    while running(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not running(pid)


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="no fork here")
def test_a_worker_leaves_its_parents_garbage_alone() -> None:
    code = """
import gc, os
from edge_bench.train.workers import worker_pool

class Cycle:
    def __init__(self):
        self.itself = self
    def __del__(self):
        print("freed by", "parent" if os.getpid() == parent else "worker", flush=True)

parent = os.getpid()
gc.disable()
Cycle()
with worker_pool(1) as pool:
    pool.submit(gc.collect).result()
gc.collect()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["freed by parent"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_cores_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert workers.cores() == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert workers.cores() == 8, "never more than there are"
