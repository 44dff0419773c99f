"""What the integers of each activation are to reach: measured on calibration clips, or known beforehand.

* Operators that only move numbers about share one scale with what they move: `groups`.
* Sigmoid, tanh and softmax have the ranges that TFLite fixes.
* What only a sigmoid or a tanh looks at need not be told apart beyond +-6 in int8, where both are flat: +-6 in place of
  +-24 gives four times the resolution where it counts. A gate's input has +-6 or half of that, whichever costs least
  behind the sigmoid or tanh (a tanh is nearly flat at 3), and its output +-1; equal scales are stored once.
* The mean over time sees three instants in a clip of 2 s. In one of 0.5 or 1 s it sees one, which ranges wider: it
  shares the scale of what it averages.

A range is chosen from a histogram of the calibration clips: all of it (``min-max``), all but a ten-thousandth at each
end (``percentile``), or the one with the smallest mean squared error of rounding and clipping together (``mse``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_runtime import BundleError, ConfigError, tflite
from edge_runtime.executor import Executor

from .quantiser import INT8, Activations, Range
from .slices import is_identity

Float32 = NDArray[np.float32]

METHODS = ("min-max", "percentile", "mse")
GATE_RANGE = (-6.0, 6.0 * 127 / 128)
# A step of 1/127.5. TFLite's kernels round a product twice and XNNPACK once: with this step no pair of a sigmoid and a
# tanh comes out differently (`tests/test_quantize.py` tries all 65,536); with 1/127 up to 2 % of a network's products
# did, and with 1/128 one in 256 lies in the middle of two steps.
GATED_RANGE = (-128 / 127.5, 127 / 127.5)
TAIL = 1e-4
BINS = 2048

MOVING = {
    "SPLIT", "STRIDED_SLICE", "RESHAPE", "TRANSPOSE", "CONCATENATION", "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "MEAN",
    "SLICE", "SQUEEZE", "EXPAND_DIMS",
}  # fmt: skip
SQUASHING = {"LOGISTIC", "TANH"}
SHARES = (1.0, 0.5)  # of GATE_RANGE


def fixed_range(operator: str, kind: Activations) -> Range | None:
    """Return the range that TFLite asks of an operator's output, if it does."""
    if kind is INT8:
        return {"LOGISTIC": (0.0, 255 / 256), "SOFTMAX": (0.0, 255 / 256), "TANH": (-1.0, 127 / 128)}.get(operator)
    return (-1.0, 32767 / 32768) if operator in ("LOGISTIC", "SOFTMAX", "TANH") else None


@dataclass
class Group:
    """Activations that share one scale.

    Attributes
    ----------
    members : set of int
        Tensor numbers.
    fixed : range, optional
        Known beforehand.
    limit : range, optional
        No need to reach beyond.
    squashed_by : set of str
        The operators that read it, if those are sigmoids and tanhs alone.
    """

    members: set[int] = field(default_factory=set)
    fixed: Range | None = None
    limit: Range | None = None
    squashed_by: set[str] = field(default_factory=set)


def groups(graph: tflite.Subgraph, *, kind: Activations = INT8, input_limit: float | None = None) -> list[Group]:
    """Return the activations of a float graph by scale, the input's first.

    Raises
    ------
    BundleError
        If two operators ask for different fixed scales of one group.
    """
    group_of = {index: Group({index}) for index in graph.inputs}
    group_of |= {index: Group({index}) for operator in graph.operators for index in operator.outputs}
    for operator in graph.operators:
        if operator.name in MOVING or is_identity(graph, operator):
            moved = [i for i in (*operator.inputs, *operator.outputs) if i in group_of]
            for index in moved[1:]:
                whole, part = group_of[moved[0]], group_of[index]
                if part is not whole:
                    whole.members |= part.members
                    group_of |= dict.fromkeys(part.members, whole)
    found = list({id(group): group for group in group_of.values()}.values())
    maker = {index: operator.name for operator in graph.operators for index in operator.outputs}
    readers: dict[int, set[str]] = {id(group): set() for group in found}
    for operator in graph.operators:
        for index in operator.inputs:
            if index in group_of and operator.name not in MOVING and not is_identity(graph, operator):
                readers[id(group_of[index])].add(operator.name)
        wanted = fixed_range(operator.name, kind)
        if operator.name == "MUL" and {maker.get(i) for i in operator.inputs} == SQUASHING:
            wanted = GATED_RANGE if kind is INT8 else fixed_range("TANH", kind)
        if wanted is not None:
            group = group_of[operator.outputs[0]]
            if group.fixed not in (None, wanted):
                raise BundleError(f"the output of {operator.name} is joined with one of another fixed scale")
            group.fixed = wanted
    for group in found:
        if kind is INT8 and readers[id(group)] and readers[id(group)] <= SQUASHING:
            group.limit = GATE_RANGE
            group.squashed_by = readers[id(group)]
    if input_limit is not None:
        group_of[graph.inputs[0]].limit = (-input_limit, input_limit)
    return found


class _Histogram:
    """Counts of values in bins that double in width when a value falls outside."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self._width = 0.0
        self._counts = np.zeros(2 * BINS)  # bin BINS begins at 0

    def add(self, values: NDArray[np.float32]) -> None:
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        reach = max(-low, high, 1e-9)
        if not self._width:
            self._width = 2 * reach / BINS
        while reach >= self._width * BINS:
            merged = self._counts.reshape(-1, 2).sum(1)
            self._counts = np.concatenate([np.zeros(BINS // 2), merged, np.zeros(BINS // 2)])
            self._width *= 2
        place = np.floor(values.ravel() / self._width).astype(np.int64) + BINS
        self._counts += np.bincount(np.clip(place, 0, 2 * BINS - 1), minlength=2 * BINS)

    def _bins(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the centres and counts of the bins that hold something."""
        used = self._counts > 0
        return ((np.arange(2 * BINS) - BINS + 0.5) * self._width)[used], self._counts[used]

    def percentile(self) -> Range:
        total = np.cumsum(self._counts)
        edges = (np.arange(2 * BINS + 1) - BINS) * self._width
        first = int(np.searchsorted(total, TAIL * total[-1], side="right"))
        last = int(np.searchsorted(total, (1 - TAIL) * total[-1]))
        return max(self.low, float(edges[first])), min(self.high, float(edges[last + 1]))

    def least_error(self, kind: Activations) -> Range:
        values, weights = self._bins()
        best, smallest = (self.low, self.high), np.inf
        for share in np.linspace(0.2, 1.0, 41):
            scale, zero = kind.scale_and_zero((share * self.low, share * self.high))
            steps = np.clip(np.rint(values / scale) + zero, kind.low, kind.high)
            error = float((weights * ((steps - zero) * scale - values) ** 2).sum())
            if error <= smallest:
                best, smallest = (share * self.low, share * self.high), error
        return best

    def least_error_behind(self, operators: set[str], limit: Range) -> Range:
        """Return the share of `limit` whose rounding and clipping cost least behind sigmoids or tanhs.

        Rounding is taken as even within a step: bins are about as wide as a step, so they cannot tell it.
        """
        values, weights = self._bins()

        def error(bounds: Range) -> float:
            (low, high), (step, _) = bounds, INT8.scale_and_zero(bounds)
            inside = (values >= low) & (values <= high)
            total = np.zeros(len(values))
            for operator in operators:
                pace = 1.0 if operator == "TANH" else 0.5  # sigmoid(x) = (1 + tanh(x / 2)) / 2
                squashed, clipped = np.tanh(pace * values), np.tanh(pace * np.clip(values, low, high))
                rounding = (pace**2 * (1 - squashed**2) * step) ** 2 / 12
                total += np.where(inside, rounding, (pace * (clipped - squashed)) ** 2)
            return float((weights * total).sum())

        return min(((share * limit[0], share * limit[1]) for share in SHARES), key=error)

    def range(self, method: str, kind: Activations) -> Range:
        if method == "min-max":
            return self.low, self.high
        return self.percentile() if method == "percentile" else self.least_error(kind)


def measure(
    flatbuffer: bytes,
    clips: Float32,
    *,
    method: str = "min-max",
    kind: Activations = INT8,
    input_limit: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[int, Range]:
    """Return the range of every activation of a float graph, by tensor number.

    Parameters
    ----------
    clips : np.ndarray, float32, shape (clips, frames, features)
        As long as the graph's input, which may have ones in front of them.
    method : {'min-max', 'percentile', 'mse'}
    input_limit : float, optional
        The input need not reach farther than this on either side.

    Raises
    ------
    ConfigError
        If the method is unknown or there is no clip.
    """
    if method not in METHODS:
        raise ConfigError(f"range choice {method!r} is unknown, must be one of {', '.join(METHODS)}")
    if not len(clips):
        raise ConfigError("static recipes need calibration clips")
    graph = tflite.read(flatbuffer).subgraphs[0]
    found = groups(graph, kind=kind, input_limit=input_limit)
    histograms = [_Histogram() for _ in found]
    runner = Executor(flatbuffer)
    for number, clip in enumerate(clips):
        if progress and (number % 50 == 0 or number + 1 == len(clips)):
            progress("calibrating", number + 1, len(clips))
        tensors = runner.tensors(clip.reshape(runner.input_shape))
        for group, histogram in zip(found, histograms, strict=True):
            if group.fixed is None:
                for index in group.members:
                    histogram.add(tensors[index])
    return {
        index: chosen
        for group, histogram in zip(found, histograms, strict=True)
        for chosen in [_chosen(group, histogram, method, kind)]
        for index in group.members
    }


def _chosen(group: Group, histogram: _Histogram, method: str, kind: Activations) -> Range:
    if group.fixed is not None:
        return group.fixed
    if group.limit is None:
        return histogram.range(method, kind)
    if group.squashed_by:
        return histogram.least_error_behind(group.squashed_by, group.limit)
    low, high = histogram.range(method, kind)
    return max(low, group.limit[0]), min(high, group.limit[1])
