"""Pairs of fresh processes that measure in turns, in random order."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from edge_runtime import EdgeBenchError, errors

from .gate_worker import STAGES

PATIENCE_S = 60.0  # a side that says nothing for so long is stuck


@dataclass(frozen=True)
class Side:
    """What one process of a pair measures."""

    bundle: str
    clip_s: float
    backend: str
    threads: int
    sound: str
    clock: str = "wall"
    planted: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Pair:
    """What a pair gave, by stage.

    Attributes
    ----------
    logs : dict
        ``log(second / first)``: the median over the turns of the ratio of the turn's medians.
    first, second : dict
        Median time of a call, microseconds.
    peaks : (int or None, int or None)
        Peak RSS of both processes, bytes.
    """

    logs: dict[str, float]
    first: dict[str, float]
    second: dict[str, float]
    peaks: tuple[int | None, int | None]
    backend: str


class Worker:
    """A process that answers; a context manager that never leaves it behind."""

    def __init__(self, side: Side, cpu: int | None) -> None:
        request = {**side.__dict__, "planted": dict(side.planted), "cpu": cpu}
        environment = dict(os.environ)
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(side.threads)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_bench.benchmarks.gate_worker", json.dumps(request)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                try:
                    stream.close()
                except OSError:  # it died with a request in the pipe
                    pass
        if kind is not None:
            self._process.kill()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def answer(self) -> dict[str, Any]:
        """Return the next line.

        Raises
        ------
        EdgeBenchError
            What the process reports, or that it died or is stuck.
        """
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], PATIENCE_S)[0]:
            raise EdgeBenchError(f"a measuring process said nothing for {PATIENCE_S:g} s: is the machine overloaded?")
        try:
            value: dict[str, Any] = json.loads(out.readline())
        except ValueError:
            raise EdgeBenchError(
                f"a measuring process died (exit status {self._process.poll()}); try `edge-bench run` on its bundle"
            ) from None
        if "error" in value:
            raise getattr(errors, value["kind"])(value["error"])
        return value

    def ask(self, **task: Any) -> dict[str, Any]:
        """Send a request and return the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise EdgeBenchError("a measuring process died; try `edge-bench run` on its bundle") from None
        return self.answer()


def run_pair(
    first: Side, second: Side, rng: random.Random, *, turns: int = 8, rounds: int = 6, cpu: int | None = None
) -> Pair:  # fmt: skip
    """Measure two sides in fresh processes on one processor core: they start together and take turns.

    Each turn of both is in random order, and which process is started first is random too.
    """
    sides = [first, second]
    order = rng.sample((0, 1), 2)
    gathered: list[list[dict[str, list[float]]]] = [[], []]
    with Worker(sides[order[0]], cpu) as one, Worker(sides[order[1]], cpu) as two:
        workers = {order[0]: one, order[1]: two}
        ready = [workers[i].answer() for i in (0, 1)]
        # as many calls in a sample of either: the first of them finds colder caches
        calls = {stage: max(r["calls"][stage] for r in ready) for stage in STAGES}
        for _ in range(turns):
            for i in rng.sample((0, 1), 2):
                gathered[i].append(workers[i].ask(task="turn", rounds=rounds, calls=calls))
        ends = [workers[i].ask(task="end") for i in (0, 1)]
    logs: dict[str, float] = {}
    times: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for stage in STAGES:
        medians = [np.array([np.median(turn[stage]) for turn in gathered[i]]) for i in (0, 1)]
        logs[stage] = float(np.median(np.log(medians[1] / medians[0])))
        for i in (0, 1):
            times[i][stage] = float(np.median(medians[i]))
    return Pair(
        logs, times[0], times[1], (ends[0]["peak"], ends[1]["peak"]), f"{ready[1]['backend']} {ready[1]['version']}"
    )


def calibrate(side: Side, plant: dict[str, float], *, cpu: int | None = None) -> tuple[tuple[str, int], ...]:
    """Return the spins that make stages of `side` slower by the factors of `plant`."""
    with Worker(side, cpu) as worker:
        worker.answer()
        return tuple(worker.ask(task="calibrate", plant=plant).items())


def cores() -> list[int | None]:
    """Return the cores that this process may use; [None] where the system does not tell."""
    try:
        return [*sorted(os.sched_getaffinity(0))]
    except AttributeError:
        return [None]
