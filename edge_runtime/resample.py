"""Band-limited change of the sample rate: by soxr where it is installed, else by numpy.

The numpy engine is a polyphase filter, a sinc under a Kaiser window that reaches 64 samples of
the slower rate to each side. Below 0.9 of the lower Nyquist frequency it is flat to 0.01 dB;
aliases and images lie below -80 dB. It is the engine of `Resampler` too, which takes a recording
in pieces and returns the very bits of `resample` with engine 'numpy'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .errors import ConfigError

MAX_RATIO = 256  # between the two rates
_MAX_RATE = 2**32  # Hz; more does not fit a WAV header
_REACH = 64  # of the filter to each side, in samples of the slower rate
_CUTOFF = 0.945  # of the lower Nyquist frequency, in the middle of the filter's slope
_BETA = 9.0  # of the Kaiser window; 90 dB
_BLOCK = 512  # outputs that are computed together, about
_TILE = 64  # outputs in a row of one matrix product, at least
_MATRIX_SIZE = 2**19  # entries; 2 MiB
_STEPS = 1024  # of the interpolated filter, per sample of the slower rate


@dataclass(frozen=True)
class _Plan:
    """How the outputs of one ratio are computed.

    Either `matrix` (inputs, tile) makes `tile` outputs at a time, or, where the matrix would be
    too large, `rows` (phases + 1, taps) holds the filter at evenly spaced phases.
    """

    up: int
    down: int
    reach: int  # of the filter to each side, in inputs
    block: int  # outputs made from one span
    span: int  # inputs needed for one block
    matrix: NDArray[np.float32] | None
    rows: NDArray[np.float32] | None


def resample(
    x: NDArray[Any], rate_in: int, rate_out: int, *, engine: str = "auto"
) -> NDArray[np.float32]:
    """Change the sample rate of a signal.

    Parameters
    ----------
    x : numpy.ndarray, shape (n,)
        Real samples. What lies before and after them counts as silence.
    rate_in, rate_out : int
        In Hz, at most a factor of 256 apart.
    engine : str
        'soxr' (the library, quality HQ), 'numpy' (ours) or 'auto': soxr if installed, else ours.

    Returns
    -------
    numpy.ndarray of float32, shape (ceil(n * rate_out / rate_in),)
        Output k lies at the time k / rate_out; there is no delay.

    Raises
    ------
    ConfigError
        If a rate is not positive, the ratio is absurd, `x` is not one-dimensional and real, or
        the engine is unknown or not installed.
    """
    signal = _as_signal(x)
    up, down = _ratio(rate_in, rate_out)
    if engine not in ("auto", "soxr", "numpy"):
        raise ConfigError(f"resampling engine {engine!r} is not one of auto, soxr, numpy")
    soxr = None if engine == "numpy" else _import_soxr()
    if soxr is None and engine == "soxr":
        raise ConfigError("resampling engine 'soxr' is not installed; pip install soxr")
    if up == down:
        return np.array(signal)
    if soxr is None:
        resampler = Resampler(rate_in, rate_out)
        return np.concatenate([resampler.push(signal), resampler.flush()])
    out = np.zeros(-(-len(signal) * up // down), np.float32)
    if len(out):
        samples = soxr.resample(signal, rate_in, rate_out, quality="HQ")[: len(out)]
        out[: len(samples)] = samples
    return out


class Resampler:
    """Change the sample rate of a recording that arrives in pieces, with the numpy engine.

    The outputs of all `push` and the final `flush`, put together, are the bits of
    ``resample(whole, rate_in, rate_out, engine="numpy")``, however the recording was cut: outputs
    are computed in blocks that start at fixed places of the output.

    Parameters
    ----------
    rate_in, rate_out : int
        In Hz, at most a factor of 256 apart.

    Attributes
    ----------
    delay_s : float
        The longest time, in seconds of the recording, that an output waits for inputs that come
        after it: the filter's reach plus one block (about 40 ms at 16 kHz).

    Raises
    ------
    ConfigError
        If a rate is not positive or the ratio is absurd.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self._up, self._down = _ratio(rate_in, rate_out)
        self._plan = None if self._up == self._down else _make_plan(self._up, self._down)
        self._received = 0  # inputs
        self._made = 0  # outputs
        self._flushed = False
        # The first output needs inputs from before the recording: silence.
        reach, span = (self._plan.reach, self._plan.span) if self._plan else (1, 0)
        self._buffer = np.zeros(reach - 1, np.float32)
        self._dropped = 0  # inputs, the silence included, that have left the buffer
        self.delay_s = (span + 1 - reach) / rate_in

    def push(self, block: NDArray[Any]) -> NDArray[np.float32]:
        """Take the next inputs, shape (n,), and return the outputs that are complete by now.

        Raises
        ------
        ConfigError
            If `block` is not one-dimensional and real, or comes after `flush`.
        """
        if self._flushed:
            raise ConfigError("push after flush; make a new Resampler for the next recording")
        signal = _as_signal(block)
        self._received += len(signal)
        return signal.copy() if self._plan is None else self._run(self._plan, signal)

    def flush(self) -> NDArray[np.float32]:
        """End the recording and return the remaining outputs."""
        self._flushed = True
        if self._plan is None:
            return np.zeros(0, np.float32)
        missing = -(-self._received * self._up // self._down) - self._made
        parts = [np.zeros(0, np.float32)]
        while sum(map(len, parts)) < missing:
            parts.append(self._run(self._plan, np.zeros(self._plan.span, np.float32)))
        return np.concatenate(parts)[:missing]

    def _run(self, plan: _Plan, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        """Append to the buffer, make every block whose inputs are there, forget used inputs."""
        self._buffer = np.concatenate([self._buffer, signal])
        parts = [np.zeros(0, np.float32)]
        start = self._made * plan.down // plan.up - self._dropped
        while start + plan.span <= len(self._buffer):
            parts.append(_make_block(plan, self._buffer[start : start + plan.span], self._made))
            self._made += plan.block
            start = self._made * plan.down // plan.up - self._dropped
        self._buffer = self._buffer[start:].copy()
        self._dropped += start
        return np.concatenate(parts)


def _as_signal(x: NDArray[Any]) -> NDArray[np.float32]:
    array = np.asarray(x)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        found = f"{array.dtype} of shape {array.shape}"
        raise ConfigError(f"resampling takes one channel of real samples, (n,), not {found}")
    return array.astype(np.float32, copy=False)


def _ratio(rate_in: int, rate_out: int) -> tuple[int, int]:
    """Outputs per inputs in lowest terms."""
    for rate in (rate_in, rate_out):
        if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)):
            raise ConfigError(f"a sample rate is a whole number of Hz, not {rate!r}")
        if not 0 < rate < _MAX_RATE:
            raise ConfigError(f"a sample rate of {rate} Hz makes no sense; it must be positive")
    if max(rate_in, rate_out) > MAX_RATIO * min(rate_in, rate_out):
        raise ConfigError(f"{rate_in} Hz and {rate_out} Hz are more than {MAX_RATIO} times apart")
    common = math.gcd(rate_in, rate_out)
    return int(rate_out) // common, int(rate_in) // common


def _import_soxr() -> Any:
    try:
        return import_module("soxr")
    except ImportError:
        return None


@lru_cache(maxsize=4)
def _make_plan(up: int, down: int) -> _Plan:
    reach = math.ceil(_REACH * max(1.0, down / up))
    taps = 2 * reach
    # A tile is a whole number of filter periods (up outputs, down inputs): one matrix fits all.
    periods = -(-_TILE // up)
    tile, inputs = periods * up, periods * down + taps
    if tile * inputs <= _MATRIX_SIZE:
        place = np.arange(tile) * down
        matrix = np.zeros((inputs, tile), np.float32)
        rows = (place // up)[:, np.newaxis] + np.arange(taps)
        matrix[rows, np.arange(tile)[:, np.newaxis]] = _filters(place % up / up, up, down)
        block = tile * max(1, _BLOCK // tile)
        span = block // up * down + taps
        return _Plan(up, down, reach, block, span, matrix, None)
    phases = math.ceil(_STEPS * min(1.0, up / down))
    block = min(_BLOCK, max(1, _MATRIX_SIZE // 2 // taps))
    span = -(-block * down // up) + taps
    filters = _filters(np.arange(phases + 1) / phases, up, down)
    return _Plan(up, down, reach, block, span, None, filters)


def _filters(phase: NDArray[np.float64], up: int, down: int) -> NDArray[np.float32]:
    """Taps for outputs that lie `phase` of an input after an input; shape (phases, taps).

    Every row adds up to 1, so that a constant stays what it is.
    """
    slower = max(1.0, down / up)
    reach = math.ceil(_REACH * slower)
    time = np.arange(1 - reach, reach + 1) - phase[:, np.newaxis]
    window = np.i0(_BETA * np.sqrt(np.maximum(0.0, 1 - (time / reach) ** 2)))
    taps = np.sinc(_CUTOFF / slower * time) * window
    return np.asarray(taps / taps.sum(axis=1, keepdims=True), np.float32)


def _make_block(plan: _Plan, x: NDArray[np.float32], first: int) -> NDArray[np.float32]:
    """`plan.block` outputs, of which output `first` is the first, from `plan.span` inputs."""
    if plan.matrix is not None:
        inputs, tile = plan.matrix.shape
        step = tile // plan.up * plan.down
        # Copied, because the rows overlap and BLAS does not take that.
        tiles = sliding_window_view(x, inputs)[::step][: plan.block // tile].copy()
        return np.asarray(tiles @ plan.matrix, np.float32).reshape(-1)
    assert plan.rows is not None
    place = first * plan.down % plan.up + np.arange(plan.block, dtype=np.int64) * plan.down
    windows = sliding_window_view(x, plan.rows.shape[1])[place // plan.up]
    phase = place % plan.up / plan.up * (len(plan.rows) - 1)
    below = phase.astype(np.int64)
    weight = (phase - below).astype(np.float32)
    low = (plan.rows[below] * windows).sum(axis=1)
    high = (plan.rows[below + 1] * windows).sum(axis=1)
    return np.asarray(low + weight * (high - low), np.float32)
