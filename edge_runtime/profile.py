"""What share of the time each operator takes, on any interpreter: by cutting the graph off behind it.

The cost of an operator is what the graph up to it takes longer than the graph before it; all that the rest would read
is an output, or a delegate would leave out the branches that are not joined yet. All the graphs are timed in turn, in
a new order each round, so that a disturbance hits all alike: a few invokes one after the other, of which the quickest
counts (the first finds cold caches), and the medians of the rounds are compared. The first operator includes what an
invoke costs by itself.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import tflite
from .interpreter import Session
from .truncate import truncated

IN_A_ROW = 4  # invokes of one graph


@dataclass(frozen=True)
class Profile:
    """Times of one graph.

    Attributes
    ----------
    backend, version : str
    total_us : float
        Median of an invoke of the whole graph with warm caches, microseconds.
    shares : tuple of float
        By operator, summing to 1.
    rounds : int
        How often each cut was timed.
    """

    backend: str
    version: str
    total_us: float
    shares: tuple[float, ...]
    rounds: int


def measure(
    flatbuffer: bytes, *, frames: int | None = None, backend: str = "auto", kernels: str = "default",
    rounds: int = 200, budget_s: float = 3.0, subgraph: int = 0, seed: int = 0,
) -> Profile:  # fmt: skip
    """Time a graph operator by operator.

    Parameters
    ----------
    flatbuffer : bytes
    frames : int, optional
        Length of the input's third axis, if other than the graph's own.
    backend, kernels
        See `edge_runtime.interpreter.Session`.
    rounds : int
        At most.
    budget_s : float
        Seconds of timing, at most; at least three rounds are made.

    Raises
    ------
    InterpreterError
        If no interpreter runs the graph.
    """
    model = tflite.read(flatbuffer)
    count = len(model.subgraphs[subgraph].operators)
    whole = Session(
        truncated(flatbuffer, subgraph=subgraph, model=model), frames=frames, backend=backend, kernels=kernels
    )
    leaves_out = whole.backend != "numpy"
    sessions = [
        Session(
            truncated(flatbuffer, n, subgraph=subgraph, model=model, all_alive=leaves_out), frames=frames,
            backend=whole.backend, kernels=kernels,
        )
        for n in range(1, count)
    ]  # fmt: skip
    sessions.append(whole)
    rng = np.random.default_rng(seed)
    for session in sessions:
        x = rng.standard_normal(session.input_shape) * (1 if session.input_dtype.kind == "f" else 30)
        session.fill()[...] = x.astype(session.input_dtype)
        session.invoke()
    clock, order, shuffle = time.perf_counter_ns, list(range(count)), random.Random(seed)
    samples: list[list[int]] = [[] for _ in sessions]
    until = time.monotonic() + budget_s
    for done in range(rounds):
        if done >= 3 and time.monotonic() > until:
            break
        shuffle.shuffle(order)
        for i in order:
            taken = []
            for _ in range(IN_A_ROW):
                began = clock()
                sessions[i].invoke()
                taken.append(clock() - began)
            samples[i].append(min(taken))
    shares = tuple(float(share) for share in shares_of(np.array(samples, np.float64).T))
    return Profile(whole.backend, whole.version, float(np.median(samples[-1])) / 1000, shares, len(samples[0]))


def shares_of(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what share of the time each operator adds.

    Parameters
    ----------
    times : np.ndarray, float64, shape (rounds, operators)
        Of the graphs cut off behind each operator, in one unit.

    Returns
    -------
    np.ndarray, shape (operators,)
        None is negative, they sum to 1; equal if no time was seen to pass.
    """
    costs = np.diff(_rising(np.median(times, axis=0)), prepend=0.0).clip(0)
    total = costs.sum()
    return costs / total if total > 0 else np.full(len(costs), 1 / len(costs))


def examine(
    flatbuffer: bytes, subgraph: int = 0, *, backend: str = "auto", budget_s: float = 3.0
) -> dict[str, Any]:
    """Return what only an interpreter can tell, as plain values: times, and the arena that it allocated.

    ``arena`` holds bytes from the first to the last tensor by kernels, their scratch included; nothing where the
    interpreter has no arena.
    """
    found = measure(flatbuffer, backend=backend, budget_s=budget_s, subgraph=subgraph)
    graph = tflite.read(flatbuffer).subgraphs[subgraph]
    constant = {tensor.index for tensor in graph.tensors if tensor.data is not None}
    sizes = {}
    for kernels in ("reference", "plain"):
        session = Session(truncated(flatbuffer, subgraph=subgraph), backend=found.backend, kernels=kernels)
        spans = [span for index, span in session.addresses().items() if index not in constant]
        if spans:
            sizes[kernels] = max(at + size for at, size in spans) - min(at for at, _ in spans)
    return {
        "backend": found.backend, "version": found.version, "total_us": found.total_us, "rounds": found.rounds,
        "shares": list(found.shares), "arena": sizes,
    }  # fmt: skip


def _rising(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest sequence that never falls (pool adjacent violators): a longer graph does not take less."""
    pools: list[tuple[float, int]] = []
    for value in values.tolist():
        mean, count = value, 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, count = (before * many + mean * count) / (many + count), many + count
        pools.append((mean, count))
    return np.concatenate([np.full(count, mean) for mean, count in pools])
