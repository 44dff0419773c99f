"""How much memory a graph's tensors need while it runs, planned as TFLite's arena planner does.

A tensor lives from the operator that writes it to the last one that reads it; inputs and outputs of the graph live
from end to end. A sum or a product takes the place of an input that nothing else reads. The planner places inputs
and outputs first, then the others by size, each into the tightest gap that is free during its life (TFLite:
arena_planner.cc and simple_memory_arena.cc; greedy by size). What kernels need besides, such as a convolution's
patches, and what a delegate sets aside is not in the graph, so it is not in the plan either.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from .tflite import Subgraph

ALIGNMENT = 64  # bytes (TFLite: kDefaultTensorAlignment)
_IN_PLACE = ("ADD", "MUL")
_SIZES = {"float32": 4, "int32": 4, "float16": 2, "int16": 2, "int64": 8, "float64": 8}


@dataclass(frozen=True)
class Placement:
    """Where a tensor lies: bytes from the arena's start, and the first and last operator of its life."""

    tensor: int
    offset: int
    size: int
    first: int
    last: int


def lifetimes(graph: Subgraph) -> dict[int, tuple[int, int]]:
    """Return the first and last operator, counted from 0, between which each tensor that is not constant lives."""
    end = max(len(graph.operators) - 1, 0)
    lives: dict[int, tuple[int, int]] = dict.fromkeys((*graph.inputs, *graph.outputs), (0, end))
    for number, operator in enumerate(graph.operators):
        for index in operator.outputs:
            lives.setdefault(index, (number, number))
        for index in operator.inputs:
            if index in lives and index not in graph.inputs and index not in graph.outputs:
                lives[index] = lives[index][0], number
    for index in graph.outputs:
        lives[index] = 0 if index in graph.inputs else _writer(graph, index), end
    return {i: life for i, life in lives.items() if graph.tensors[i].data is None}


def _writer(graph: Subgraph, index: int) -> int:
    return next((i for i, operator in enumerate(graph.operators) if index in operator.outputs), 0)


def in_place(graph: Subgraph, sizes: Mapping[int, int]) -> dict[int, int]:
    """Return, for each output that takes an input's place, the tensor whose place it is (the first of a chain)."""
    readers = Counter(i for operator in graph.operators for i in operator.inputs)
    ends = {*graph.inputs, *graph.outputs}
    owner: dict[int, int] = {}
    for operator in graph.operators:
        output = operator.outputs[0] if operator.name in _IN_PLACE else -1
        for index in operator.inputs if output not in {-1, *ends} else ():
            if index in sizes and index not in ends and readers[index] == 1 and sizes[index] == sizes[output]:
                owner[output] = owner.get(index, index)
                break
    return owner


def plan(graph: Subgraph, shapes: Mapping[int, tuple[int, ...]] | None = None) -> list[Placement]:
    """Place every tensor of a graph that does not take another's place (`in_place`).

    Parameters
    ----------
    graph : Subgraph
    shapes : mapping, optional
        Shapes by tensor where they are not those that the graph declares (after a resize).

    Examples
    --------
    >>> from edge_runtime.bundle import read
    >>> arena_bytes(read("swishnet-slim-int8").model.subgraphs[0]) > 0
    True
    """
    lives = lifetimes(graph)
    end = max(len(graph.operators) - 1, 0)

    def size(index: int) -> int:
        tensor = graph.tensors[index]
        return math.prod((shapes or {}).get(index, tensor.shape)) * _SIZES.get(tensor.dtype, 1)

    owner = in_place(graph, {i: size(i) for i in lives})
    for output, index in owner.items():
        lives[index] = lives[index][0], max(lives[index][1], lives[output][1])
    own = (i for i in lives if i not in owner)
    order = sorted(own, key=lambda i: (lives[i] != (0, end), -size(i), lives[i][0]))
    placed: list[Placement] = []
    for index in order:
        first, last = lives[index]
        near = sorted(
            (p for p in placed if p.first <= last and first <= p.last and p.size), key=lambda p: p.offset
        )
        best, tightest, at = None, math.inf, 0
        for other in near:
            room = other.offset - at
            if size(index) <= room < tightest:
                best, tightest = at, room
            at = max(at, _aligned(other.offset + other.size))
        placed.append(Placement(index, at if best is None else best, size(index), first, last))
    return placed


def _aligned(at: int) -> int:
    return -(-at // ALIGNMENT) * ALIGNMENT


def arena_bytes(graph: Subgraph, shapes: Mapping[int, tuple[int, ...]] | None = None) -> int:
    """Return the size of the arena that `plan` fills."""
    return max((_aligned(p.offset + p.size) for p in plan(graph, shapes)), default=0)
