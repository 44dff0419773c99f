"""The fresh process in which a measurement is made: ``python -m edge_bench.benchmarks.worker REQUEST``.

REQUEST and the answer on standard output are JSON. Nothing is imported before the first reading of the memory but
what this file needs, so the stages mean what they say.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import memory
from .answer import serve


def first_call(request: dict[str, Any]) -> dict[str, Any]:
    """Load a bundle, label one clip, and return the cold times (us) and the memory by stage."""
    stages = {"start": memory.now()}
    began = time.perf_counter_ns()
    import numpy as np

    from edge_runtime import Classifier

    sound = np.load(request["sound"], allow_pickle=False)
    imported = time.perf_counter_ns()
    stages["after_import"] = memory.now()
    classifier = Classifier(
        request["bundle"],
        clip_s=request["clip_s"],
        backend=request["backend"],
        threads=request["threads"],
        delegate=request["delegate"],
        sandbox=request["sandbox"],
    )
    loaded = time.perf_counter_ns()
    stages["after_load"] = memory.now()
    x = sound[: classifier.samples]
    t0 = time.perf_counter_ns()
    features = classifier.front_end(x)
    t1 = time.perf_counter_ns()
    classifier.probabilities(features)
    t2 = time.perf_counter_ns()
    stages["after_first"] = memory.now()
    for _ in range(20):
        classifier.probabilities(classifier.front_end(x))
    stages["steady"] = memory.now()
    return {
        "cold": {"frontend": (t1 - t0) / 1e3, "model": (t2 - t1) / 1e3, "total": (t2 - t0) / 1e3},
        "import": (imported - began) / 1e3,
        "load": (loaded - imported) / 1e3,
        "memory": {name: values.to_dict() for name, values in stages.items()},
        "peak": memory.peak(),
    }


def steady(request: dict[str, Any]) -> dict[str, Any]:
    """Return samples (us) of every stage and clip length, taken in turn after a warm-up.

    Each round visits the clip lengths in a new random order, and the stages of a clip one after the other, so that
    a disturbance hits all alike. The warm-up lasts `warm_s` and until the times have settled, but no longer than a
    third of the budget; sampling ends with `precision` reached everywhere, the budget, or the rounds. With `rate` so
    many clips a second are labelled afterwards as an application would: the calls begin at fixed times, with sleep
    between them.
    """
    import gc
    import random

    import numpy as np

    from edge_runtime import Classifier

    from .pinning import pin
    from .statistics import enough, settled

    core = pin(request["threads"]) if request["pin"] else None

    sound = np.load(request["sound"], allow_pickle=False)
    makers = [
        Classifier(
            request["bundle"],
            clip_s=s,
            backend=request["backend"],
            threads=request["threads"],
            delegate=request["delegate"],
            sandbox=request["sandbox"],
        )
        for s in request["clips"]
    ]
    clock = time.perf_counter_ns
    overhead = min(-clock() + clock() for _ in range(1000))
    samples: list[dict[str, list[float]]] = [{"frontend": [], "model": [], "total": []} for _ in makers]
    warming: list[list[float]] = [[] for _ in makers]
    order = list(range(len(makers)))
    rng = random.Random(0)

    def whole() -> float:
        classifier = makers[-1]
        at = rng.randrange(len(sound) - classifier.samples + 1)
        x = sound[at : at + classifier.samples]
        t0 = clock()
        classifier.probabilities(classifier.front_end(x))
        return (clock() - t0 - overhead) / 1e3

    def measure(i: int) -> tuple[float, float, float]:
        classifier = makers[i]
        # another stretch of sound each time, as an application would have
        at = rng.randrange(len(sound) - classifier.samples + 1)
        x = sound[at : at + classifier.samples]
        t0 = clock()
        features = classifier.front_end(x)
        t1 = clock()
        classifier.probabilities(features)
        t2 = clock()
        classifier.probabilities(classifier.front_end(x))
        t3 = clock()
        return tuple((ns - overhead) / 1e3 for ns in (t1 - t0, t2 - t1, t3 - t2))  # type: ignore[return-value]

    gc.disable()
    began = clock()
    stop_at = began + int(request["budget_s"] * 1e9)
    warm_until, warm_most = began + int(request["warm_s"] * 1e9), began + int(request["budget_s"] * 1e9 / 3)
    steady_now = False
    while clock() < warm_most and not (steady_now and clock() >= warm_until):
        rng.shuffle(order)
        for i in order:
            warming[i].append(measure(i)[2])
        steady_now = all(settled(times) for times in warming)
    warmed = clock()
    rounds, next_check, ended = 0, 50, "rounds"
    while rounds < request["rounds"]:
        if clock() >= stop_at:
            ended = "budget"
            break
        rng.shuffle(order)
        for i in order:
            for stage, us in zip(samples[i], measure(i), strict=True):
                samples[i][stage].append(us)
        rounds += 1
        if request["precision"] and rounds == next_check:
            # looked at ever more rarely: a look costs time, and many looks stop at lucky moments
            next_check = rounds * 5 // 4
            if all(enough(x, request["precision"]) for stages in samples for x in stages.values()):
                ended = "precision"
                break
    idle: list[list[float]] = [[] for _ in makers]
    for i in order * request["idle_calls"]:
        time.sleep(request["idle_s"])
        frontend, model, _ = measure(i)
        idle[i].append(frontend + model)
    paced: list[float] = []
    late = 0
    if request["rate"]:
        paced, late = at_rate(whole, request["rate"], request["budget_s"])
    nodes = makers[-1].session.nodes()
    return {
        "clips": samples,
        "idle": idle,
        "paced": paced,
        "late": late,
        "sampling": {
            "ended": ended, "rounds": rounds, "warm_up_s": round((warmed - began) / 1e9, 3), "settled": steady_now,
            "warm_up_rounds": len(warming[0]), "core": core,
        },
        "clock_overhead_ns": overhead,
        "backend": makers[-1].session.backend,
        "backend_version": makers[-1].session.version,
        "nodes": nodes.total,
        "delegated_nodes": nodes.delegated,
        "partitions": nodes.partitions,
    }


def at_rate(call: Callable[[], float], rate: float, budget_s: float) -> tuple[list[float], int]:
    """Return what calls at a fixed rate give, and how many began late because the one before took too long."""
    clock = time.monotonic
    found: list[float] = []
    began, late = clock(), 0
    while not found or (clock() - began < budget_s and len(found) < 10_000):
        due = began + len(found) / rate
        wait = due - clock()
        if wait > 0:
            time.sleep(wait)
        else:
            late += len(found) > 0
        found.append(call())
    return found, late


if __name__ == "__main__":
    serve(lambda request: {"first_call": first_call, "steady": steady}[request["task"]](request))
