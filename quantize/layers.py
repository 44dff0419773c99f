"""What integers do to each operator of a graph: noise, saturation, dead channels, and who is to blame.

The float graph and the integer one run side by side in numpy (`edge_runtime.executor`), tensor by tensor. What only a
sigmoid or a tanh looks at is cut to +-6 or less on purpose (`edge_bench.quantize.ranges`): it is compared with the
float numbers cut alike, and what the cut costs is the sigmoid's or tanh's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import BundleError, tflite
from edge_runtime.classify import dequantise, quantise
from edge_runtime.executor import Executor

from .ranges import MOVING, groups
from .slices import is_identity

Float32 = NDArray[np.float32]
FLAT = {"LOGISTIC", "TANH", "SOFTMAX"}  # they reach their limits by nature


@dataclass(frozen=True)
class LayerNoise:
    """One operator.

    Attributes
    ----------
    number : int
        In the graph, from 0.
    op, shape
        Name and output shape.
    sqnr_db : float
        Signal to quantisation noise of its output, with the noise of all before it.
    added : float
        Noise to signal beyond that of its noisiest input: what this operator is to blame for.
    saturated : float
        Share of outputs at a limit of the integers; 0 where that is wanted.
    dead_channels : int
        Channels that gave one integer for all clips while the float ones moved.
    """

    number: int
    op: str
    shape: tuple[int, ...]
    sqnr_db: float
    added: float
    saturated: float
    dead_channels: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "shape": list(self.shape)}


def layer_noise(integers: bytes, exact: bytes, clips: Float32) -> list[LayerNoise]:
    """Return all operators that calculate, in their order.

    Parameters
    ----------
    integers, exact : bytes
        One graph in int8 and in float32: the same operators in the same order.
    clips : np.ndarray, float32, shape (clips, frames, features)
        As long as the graphs' input.

    Raises
    ------
    BundleError
        If the graphs are not of the same operators.
    """
    graphs = [tflite.read(flatbuffer).subgraphs[0] for flatbuffer in (integers, exact)]
    if [o.name for o in graphs[0].operators] != [o.name for o in graphs[1].operators]:
        raise BundleError("the integer graph and the float graph are not the same network")
    runners = Executor(integers), Executor(exact)
    sums = [_Sum() for _ in graphs[0].operators]
    inputs = _Sum()
    of_int8 = np.dtype(runners[0].input_dtype) == np.int8
    cut = {i for group in groups(graphs[1]) if of_int8 and group.squashed_by for i in group.members}
    for clip in clips:
        fed = quantise(clip[None, None], *runners[0].input_quantization, runners[0].input_dtype)
        coarse, fine = runners[0].tensors(fed), runners[1].tensors(clip[None, None])
        inputs.add(fed, graphs[0].tensors[graphs[0].inputs[0]], clip[None, None])
        for total, a, b in zip(sums, graphs[0].operators, graphs[1].operators, strict=True):
            total.add(
                coarse[a.outputs[0]], graphs[0].tensors[a.outputs[0]], fine[b.outputs[0]], cut=b.outputs[0] in cut
            )
    noise = {graphs[0].inputs[0]: inputs.noise}
    found = []
    for number, (total, mine, its) in enumerate(zip(sums, graphs[0].operators, graphs[1].operators, strict=True)):
        before = max((noise[i] for i in mine.inputs if i in noise), default=0.0)
        noise |= dict.fromkeys(mine.outputs, total.noise)
        if mine.name in MOVING - {"MEAN"} or is_identity(graphs[1], its):
            continue
        found.append(
            LayerNoise(
                number, mine.name, graphs[0].tensors[mine.outputs[0]].shape,
                round(float(-10 * np.log10(max(total.noise, 1e-12))), 2), max(0.0, total.noise - before),
                0.0 if mine.name in FLAT or its.outputs[0] in cut else total.saturated, total.dead,
            )
        )  # fmt: skip
    return found


def to_blame(layers: Sequence[LayerNoise]) -> list[LayerNoise]:
    """Return the operators that add noise, the worst first."""
    return sorted((layer for layer in layers if layer.added > 0), key=lambda layer: -layer.added)


class _Sum:
    """Signal, noise and limits of one tensor over all clips."""

    def __init__(self) -> None:
        self._signal = self._error = 0.0
        self._at_limit = self._count = 0
        self._ends: Any = None

    def add(self, values: NDArray[Any], tensor: tflite.Tensor, exact: NDArray[Any], *, cut: bool = False) -> None:
        quantization = tensor.quantization
        assert quantization is not None
        scale, zero_point = quantization.scale[0], quantization.zero_point[0]
        real = dequantise(values, scale, zero_point)
        limits = np.iinfo(values.dtype)
        if cut:
            exact = np.clip(exact, *dequantise(np.array([limits.min, limits.max], values.dtype), scale, zero_point))
        self._signal += float((exact.astype(np.float64) ** 2).sum())
        self._error += float(((real - exact).astype(np.float64) ** 2).sum())
        # a ReLU's zeros lie at the lower limit by nature
        low = values == limits.min if zero_point != limits.min else np.zeros(values.shape, bool)
        self._at_limit += int((low | (values == limits.max)).sum())
        self._count += values.size
        flat = [a.reshape(-1, a.shape[-1]).astype(np.float64) for a in (values, exact)]
        ends = [np.stack([a.min(0), a.max(0)]) for a in flat]
        if self._ends is None:
            self._ends = ends
        self._ends = [np.stack([np.minimum(o[0], n[0]), np.maximum(o[1], n[1])])
                     for o, n in zip(self._ends, ends, strict=True)]  # fmt: skip

    @property
    def noise(self) -> float:
        return self._error / max(self._signal, 1e-12)

    @property
    def saturated(self) -> float:
        return self._at_limit / max(self._count, 1)

    @property
    def dead(self) -> int:
        mine, exact = self._ends
        return int(((mine[0] == mine[1]) & (exact[0] != exact[1])).sum())
