"""One side of a gate's pair: ``python -m edge_bench.benchmarks.gate_worker REQUEST``.

A fresh process that loads a bundle, says it is ready, and measures when it is told to: one JSON line on standard
output for every line on standard input. Both sides of a pair are alive together and take turns, so a disturbance that
lasts longer than a turn hits both.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from . import memory

SAMPLE_NS = 1_000_000  # a sample lasts at least this long, so that the clock's steps do not matter
STAGES = ("frontend", "model", "total")
CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}


def spin(turns: int) -> None:
    """Burn time that is a fixed number of steps, as slower code would."""
    for _ in range(turns):
        pass


def stage_calls(classifier: Any, x: Any, planted: dict[str, int]) -> dict[str, Callable[[], Any]]:
    """Return what a call of each stage is, with a slow-down planted where asked."""
    features = classifier.front_end(x)

    def front_end() -> Any:
        return classifier.front_end(x)

    def model() -> Any:
        return classifier.probabilities(features)

    def slower(call: Callable[[], Any], turns: int) -> Callable[[], Any]:
        def planted_call() -> None:
            call()
            spin(turns)

        return planted_call if turns else call

    def total() -> None:
        classifier.probabilities(classifier.front_end(x))
        if planted:
            spin(sum(planted.values()))

    return {
        "frontend": slower(front_end, planted.get("frontend", 0)),
        "model": slower(model, planted.get("model", 0)),
        "total": total,
    }


def sample(call: Callable[[], Any], calls: int, clock: Callable[[], int] = time.perf_counter_ns) -> float:
    """Return microseconds of one call, the mean of `calls` of them."""
    began = clock()
    for _ in range(calls):
        call()
    return (clock() - began) / calls / 1e3


def calls_of(call: Callable[[], Any]) -> int:
    """Return how many calls last long enough to be a sample, from the fastest of a few."""
    fastest = min(sample(call, 1) for _ in range(10))
    return max(1, -(-SAMPLE_NS // max(1, int(fastest * 1e3))))


def calibrate(stages: dict[str, Callable[[], Any]], plant: dict[str, float]) -> dict[str, int]:
    """Return the spin's length for each stage that shall take `plant[stage]` times its time.

    The stage and the spin are timed in turn and the fastest of each counts, so the length is a ratio of two times of
    the same clock rate.
    """
    steps = 2000
    found = {}
    for name, factor in plant.items():
        calls = calls_of(stages[name])
        times = [(sample(stages[name], calls), sample(lambda: spin(steps), 20)) for _ in range(60)]
        base, burnt = (min(column) for column in zip(*times, strict=True))
        found[name] = round((factor - 1) * base / burnt * steps)
    return found


def elsewhere() -> list[bytes]:
    """Return memory of random size to be kept, so that what is allocated next lies elsewhere than in other processes.

    Where buffers lie within a page can make all of a process some percent faster or slower, and a path that is a
    letter longer moves them: without this, two sides could differ in every pair alike [1]_.

    References
    ----------
    .. [1] T. Mytkowicz et al., "Producing wrong data without doing anything obviously wrong!", ASPLOS 2009.
    """
    return [bytes(1024 + 16 * random.randrange(4096)) for _ in range(3)]


def main() -> None:
    """Serve requests until standard input ends."""
    request = json.loads(sys.argv[1])
    kept = elsewhere()

    def answer(value: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    from edge_runtime import EdgeBenchError

    try:
        import numpy as np

        from edge_runtime import Classifier

        kept += elsewhere()
        classifier = Classifier(
            request["bundle"], clip_s=request["clip_s"], backend=request["backend"], threads=request["threads"]
        )
        x = np.load(request["sound"], allow_pickle=False)[: classifier.samples]
        stages = stage_calls(classifier, x, request["planted"])
    except EdgeBenchError as error:
        answer({"error": str(error), "kind": type(error).__name__})
        return
    if request["cpu"] is not None:  # only now: both sides of a pair start at once
        try:
            os.sched_setaffinity(0, {request["cpu"]})
        except (AttributeError, OSError):  # not Linux, or not allowed: the sides still take turns
            pass
    gc.disable()
    clock = CLOCKS[request["clock"]]
    calls = {name: calls_of(call) for name, call in stages.items()}
    answer({"calls": calls, "backend": classifier.session.backend, "version": classifier.session.version})
    for line in sys.stdin:
        task = json.loads(line)
        if task["task"] == "calibrate":
            answer(calibrate(stages, task["plant"]))
        elif task["task"] == "turn":
            for call in stages.values():  # caches that the other side's turn left cold
                sample(call, 2)
            times: dict[str, list[float]] = {name: [] for name in STAGES}
            for _ in range(task["rounds"]):
                for name, call in stages.items():
                    times[name].append(sample(call, task["calls"][name], clock))
            answer(times)
        else:
            answer({"peak": memory.peak()})


if __name__ == "__main__":
    main()
