"""The process in which networks are timed beside each other: ``python -m edge_bench.benchmarks.peers_worker REQUEST``.

All are in one process and take turns, each round in a new random order, so that a disturbance hits all alike. With
``only`` a single one is loaded and called once: its first call and its memory.
"""

from __future__ import annotations

import gc
import random
import time
from typing import Any

from . import memory
from .answer import serve


def sides(request: dict[str, Any]) -> list[Any]:
    """Return the networks that were asked for, ours first."""
    from edge_runtime.bundle import read

    from . import peer_sides
    from .peers import Peer

    config = read(request["bundle"]).front_end
    common = (request["clip_s"], request["backend"], request["threads"])
    only = request.get("only")
    found = [] if only not in (None, 0) else [peer_sides.ours(request["bundle"], *common)]
    for number, values in enumerate(request["peers"], 1):
        if only in (None, number):
            found.append(peer_sides.of_peer(Peer(**values), config, *common))
    return found


def together(request: dict[str, Any]) -> dict[str, Any]:
    """Return samples (us) of every network and stage, taken in turn."""
    from .statistics import settled

    made, x = sides(request), _sound(request)
    clock = time.perf_counter_ns
    overhead = min(-clock() + clock() for _ in range(1000))
    samples: list[dict[str, list[float]]] = [{"frontend": [], "model": [], "total": []} for _ in made]

    def measure(side: Any) -> tuple[float, ...]:
        t0 = clock()
        found = side.frontend(x)
        t1 = clock()
        side.model(found)
        t2 = clock()
        side.model(side.frontend(x))
        t3 = clock()
        return tuple((ns - overhead) / 1e3 for ns in (t1 - t0, t2 - t1, t3 - t2))

    order, rng = list(range(len(made))), random.Random(0)
    warming: list[list[float]] = [[] for _ in made]
    gc.disable()
    began = clock()
    warm_most, stop_at = began + int(request["budget_s"] * 1e9 / 3), began + int(request["budget_s"] * 1e9)
    while clock() < warm_most and not all(settled(times) for times in warming):
        for i in rng.sample(order, len(order)):
            warming[i].append(measure(made[i])[2])
    rounds = 0
    while rounds < 3 or (rounds < request["rounds"] and clock() < stop_at):
        for i in rng.sample(order, len(order)):
            for stage, us in zip(samples[i], measure(made[i]), strict=True):
                samples[i][stage].append(us)
        rounds += 1
    return {"sides": [side.about for side in made], "samples": samples, "rounds": rounds,
            "settled": all(settled(times) for times in warming)}  # fmt: skip


def alone(request: dict[str, Any]) -> dict[str, Any]:
    """Return the first call (us) and the peak memory of one network in a fresh process."""
    (side,), x = sides(request), _sound(request)
    began = time.perf_counter_ns()
    side.model(side.frontend(x))
    return {"cold": (time.perf_counter_ns() - began) / 1e3, "peak": memory.peak(), **memory.now().to_dict()}


def _sound(request: dict[str, Any]) -> Any:
    import numpy as np

    return np.load(request["sound"], allow_pickle=False)


if __name__ == "__main__":
    serve(lambda request: together(request) if request.get("only") is None else alone(request))
