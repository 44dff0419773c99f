"""Samples to features: power spectrum, log-mel and MFCC, for a recording or a stream.

Conventions
-----------
Samples are float32 in [-1, 1], shape (n,). Features are float32, shape (frames, features), one frame
every ``hop_length`` samples; frame i covers samples ``i * hop_length`` to ``i * hop_length +
frame_length``. Nothing is padded at the ends. Decibels are ``10 log10(power)``.

How it is fast: frames are windowed into a zero-padded buffer a block at a time, so that everything
stays in the cache and memory does not grow with the recording; the mel filters are two dense
products, one for the low and one for the high bands; the decibel factor, the cosine transform and
the normalisation are one product.

How streaming is bit-equal to batch: each matrix product runs on tiles of 16 rows, and frame i
always sits in row ``i % 16`` of its tile. So a frame meets the same instructions whatever arrives
with it, and a row of a product does not depend on the other rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import filters
from .config import FrontEndConfig
from .errors import AudioError
from .level import mean_squares

Float32 = NDArray[np.float32]
Sound = NDArray[Any]  # float32 in [-1, 1] or int16

TILE = 16
BLOCK = 13 * TILE  # 208 frames: a 2 s clip in one block, its spectra still in a 1 MiB cache
TRANSFORM = BLOCK // 2  # frames in one call of the FFT, which plans anew each time; a whole block gains nothing more
# np.fft computes in float64, in numpy 2 as well. Given float32 it casts in and out, and freeing those large buffers can
# make malloc hand the pages back to the system on every call; fetching them again can cost more than the FFT.
# So we cast, into buffers that stay. numpy 2 writes its result into one, too; numpy 1 allocates it, and that alone is
# harmless with glibc's default thresholds.
_FFT_TAKES_OUT = int(np.__version__.partition(".")[0]) >= 2
_DB = 10.0 / np.log(10.0)
_FLOAT32, _INT16 = np.dtype(np.float32), np.dtype(np.int16)
_FULL_SCALE = np.float32(1 / 32768)  # a power of two: nothing is rounded


class _Tables(NamedTuple):
    window: Float32
    low_bins: slice  # spectrum bins that the low half of the mel bands reads
    low: Float32
    high_bins: slice
    high: Float32
    last: Float32  # log-mel (natural) to features, shape (mel_bands, features)
    bias: Float32


class _Views(NamedTuple):
    windowed: NDArray[np.float64]
    transforms: tuple[tuple[NDArray[np.float64], NDArray[np.complex64]], ...]
    spectrum: NDArray[np.complex64]
    power: Float32
    power_low: Float32
    power_high: Float32
    mel_low: Float32
    mel_high: Float32
    mel: Float32
    mel_rows: Float32
    last_tiles: Float32
    last: Float32


def _used_bins(weights: NDArray[np.float64]) -> slice:
    used = np.flatnonzero(weights.any(axis=1))
    return slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1)


@lru_cache(maxsize=8)
def _tables(config: FrontEndConfig) -> _Tables:
    mel = filters.mel_filters(config)
    half = config.mel_bands // 2
    low, high = _used_bins(mel[:, :half]), _used_bins(mel[:, half:])
    mfcc = config.kind == "mfcc"
    last = (filters.dct(config.mel_bands, config.coefficients) if mfcc else np.eye(config.mel_bands)) * _DB
    bias = np.zeros(last.shape[1])
    if config.mean and config.kind != "power":
        scale = np.asarray(config.scale)
        last, bias = last * scale, -np.asarray(config.mean) * scale
    return _Tables(
        filters.window(config).astype(np.float32),
        low,
        np.ascontiguousarray(mel[low, :half], np.float32),
        high,
        np.ascontiguousarray(mel[high, half:], np.float32),
        np.ascontiguousarray(last, np.float32),
        bias.astype(np.float32),
    )


def as_samples(samples: ArrayLike) -> Float32:
    """Return `samples` as float32, shape (n,); int16 is divided by 32768.

    Raises
    ------
    AudioError
        If the array is not one-dimensional or holds neither int16 nor floating point numbers.
    """
    array = np.asarray(samples)
    if array.ndim != 1:
        raise AudioError(f"samples have shape {array.shape}, expected one channel of shape (n,)")
    if array.dtype == _FLOAT32:
        return array if array.flags.c_contiguous else np.ascontiguousarray(array)
    if array.dtype == _INT16:
        return np.multiply(array, _FULL_SCALE, dtype=np.float32)
    if array.dtype.kind != "f":
        raise AudioError(f"samples are {array.dtype}, expected float32 in [-1, 1] or int16")
    limit = np.float64(np.finfo(np.float32).max)
    huge = np.flatnonzero(np.isfinite(array) & (np.abs(array) > limit))
    if huge.size:
        raise AudioError(f"sample {huge[0]} is {array[huge[0]]:g}: far above full scale, expected values in [-1, 1]")
    return array.astype(np.float32)


_PIECE = 8192  # samples; longer sums would be given to several threads
LARGEST_SAMPLE = 1e6  # a float recording may leave [-1, 1] a little; beyond this it is no recording


def check_samples(samples: Float32, offset: int = 0) -> None:
    """Refuse samples that are not finite or absurdly large; `offset` is the number of the first.

    Raises
    ------
    AudioError
        Naming the first such sample.
    """
    for start in range(0, len(samples), _PIECE):
        piece = samples[start : start + _PIECE]
        # The sum of squares is cheaper than looking at every sample and needs no memory. A larger copy at this place
        # can make malloc hand pages back to the system on every call.
        if np.dot(piece, piece) <= LARGEST_SAMPLE:
            continue
        bad = ~(np.abs(piece) <= LARGEST_SAMPLE)
        if bad.any():
            at = int(np.argmax(bad))
            why = "far above full scale" if np.isfinite(piece[at]) else "samples must be finite"
            raise AudioError(f"sample {offset + start + at} is {piece[at]:g}: {why}, expected values in [-1, 1]")


def checked(samples: ArrayLike, offset: int = 0) -> Sound:
    """Return samples fit for a front end: int16 as they are, all else as `as_samples` and `check_samples` have it."""
    array = np.asarray(samples)
    if array.dtype == _INT16 and array.ndim == 1:  # within full scale, whatever they are
        return array
    x = as_samples(array)
    check_samples(x, offset)
    return x


def framed(samples: Float32, at: int, count: int, config: FrontEndConfig) -> Float32:
    """Return a view of `count` frames from sample `at` on, shape (count, frame_length)."""
    hop = config.hop_length * 4
    # made this way it is bounds-checked and cheaper than as_strided
    return np.ndarray((count, config.frame_length), np.float32, samples, at * 4, (hop, 4))


class FrontEnd:
    """Features of recordings.

    One object serves one thread at a time: it owns the work buffers. Building one is cheap, the tables
    are shared.

    Parameters
    ----------
    config : FrontEndConfig

    Examples
    --------
    >>> import numpy as np
    >>> from edge_runtime import FrontEnd, FrontEndConfig
    >>> FrontEnd(FrontEndConfig())(np.zeros(32000, np.float32)).shape
    (198, 20)
    """

    def __init__(self, config: FrontEndConfig) -> None:
        self.config = config
        self._tables = tables = _tables(config)
        bins = config.fft_length // 2 + 1
        self._padded = np.zeros((BLOCK, config.fft_length), np.float64)
        self._transformed = np.zeros((TRANSFORM, bins), np.complex128)
        self._spectrum = np.empty((BLOCK, bins), np.complex64)
        self._power = np.zeros((BLOCK, bins), np.float32)
        self._mel = np.ones((BLOCK, config.mel_bands), np.float32)
        self._last = np.zeros((BLOCK, tables.last.shape[1]), np.float32)
        self._floor = np.array([config.power_floor], np.float32)
        self._views: dict[tuple[int, int], _Views] = {}

    def _cut(self, row: int, count: int) -> _Views:
        """Return the parts of the work buffers that `count` frames from `row` on need.

        Kept, because cutting them anew costs a streaming hop dear.
        """
        views = self._views.get((row, count))
        if views is None:
            tables = self._tables
            rows, tiles = slice(row, row + count), slice(0, -(-(row + count) // TILE))
            power = self._power.reshape(-1, TILE, self._power.shape[1])[tiles]
            mel = self._mel.reshape(-1, TILE, self._mel.shape[1])[tiles]
            half = tables.low.shape[1]
            views = self._views[row, count] = _Views(
                self._padded[rows, : self.config.frame_length],
                tuple(
                    (self._padded[part], self._spectrum[part])
                    for i in range(row, row + count, TRANSFORM)
                    for part in (slice(i, min(i + TRANSFORM, row + count)),)
                ),
                self._spectrum[rows],
                self._power[rows],
                power[:, :, tables.low_bins],
                power[:, :, tables.high_bins],
                mel[:, :, :half],
                mel[:, :, half:],
                mel,
                self._mel[rows],
                self._last.reshape(-1, TILE, self._last.shape[1])[tiles],
                self._last[rows],
            )
        return views

    def __call__(self, samples: ArrayLike) -> Float32:
        """Return the features of a whole recording.

        Parameters
        ----------
        samples : array_like, shape (n,)
            float32 in [-1, 1] or int16.

        Returns
        -------
        np.ndarray, float32, shape (frames, features)
            ``frames = (n - frame_length) // hop_length + 1``, none for a shorter recording.

        Raises
        ------
        AudioError
            For a sample that is NaN, infinite or absurdly large, or an array of the wrong shape.
        """
        x = as_samples(checked(samples))
        count = self.config.frames(len(x))
        out = np.empty((count, self.config.features), np.float32)
        for start in range(0, count, BLOCK):
            self.block(x, start, out[start : start + BLOCK])
        return out

    def block(self, samples: Float32, first: int, out: Float32) -> None:
        """Write the features of frames ``first ... first + len(out) - 1`` to `out`.

        Parameters
        ----------
        samples : np.ndarray, float32, shape (n,), contiguous
            From the recording's start.
        first : int
            Number of the first frame, counted from the recording's start.
        out : np.ndarray, float32, shape (m, features)
            ``first % TILE + m`` may not be above ``BLOCK``.
        """
        self.features(framed(samples, first * self.config.hop_length, len(out), self.config), first, out)

    def features(self, frames: Float32, first: int, out: Float32) -> None:
        """Write the features of frames that are cut already, shape (m, frame_length), to `out`; see `block`."""
        config, tables = self.config, self._tables
        view = self._cut(first % TILE, len(out))
        np.multiply(frames, tables.window, out=view.windowed)  # in float32, and widened on the way out
        for padded, spectrum in view.transforms:
            if _FFT_TAKES_OUT:
                transformed = self._transformed[: len(padded)]
                np.fft.rfft(padded, out=transformed)  # type: ignore[call-arg, unused-ignore]
                spectrum[...] = transformed
            else:
                spectrum[...] = np.fft.rfft(padded)
        np.absolute(view.spectrum, out=view.power)
        np.multiply(view.power, view.power, out=view.power)
        if config.kind == "power":
            np.copyto(out, view.power)
            return
        np.matmul(view.power_low, tables.low, out=view.mel_low)
        np.matmul(view.power_high, tables.high, out=view.mel_high)
        np.maximum(view.mel_rows, self._floor, out=view.mel_rows)
        np.log(view.mel_rows, out=view.mel_rows)
        np.matmul(view.mel, tables.last, out=view.last_tiles)
        np.add(view.last, tables.bias, out=out)


class StreamingFrontEnd:
    """Features of a stream, bit-equal to `FrontEnd` however the stream is cut.

    Parameters
    ----------
    config : FrontEndConfig

    Examples
    --------
    >>> import numpy as np
    >>> from edge_runtime import FrontEndConfig, StreamingFrontEnd
    >>> stream = StreamingFrontEnd(FrontEndConfig())
    >>> [len(stream.push(np.zeros(160, np.float32))) for _ in range(4)]
    [0, 0, 1, 1]
    """

    def __init__(self, config: FrontEndConfig) -> None:
        self.config = config
        self._front_end = FrontEnd(config)
        self._buffer = np.zeros(config.samples(2 * BLOCK), np.float32)
        self._views: dict[tuple[int, int], Float32] = {}
        self.reset()

    def reset(self) -> None:
        """Forget the stream; the next sample is the first of a new one."""
        self._kept = 0  # samples in the buffer, from its beginning on: those that the next frame begins with
        self.frames = 0  #: frames given so far

    @property
    def samples(self) -> int:
        """Samples taken so far."""
        return self.frames * self.config.hop_length + self._kept

    def push(self, samples: ArrayLike) -> Float32:
        """Take samples and return the frames that they complete.

        Parameters
        ----------
        samples : array_like, shape (n,)
            float32 in [-1, 1] or int16; any number, also none.

        Returns
        -------
        np.ndarray, float32, shape (frames, features)

        Raises
        ------
        AudioError
            For samples that are not finite; the stream stays as it was before the call.
        """
        x = checked(samples, self.samples)
        if self._kept + len(x) <= len(self._buffer):
            return self._take(x)
        return np.concatenate([self._take(piece) for piece in self._pieces(x)])

    def push_measured(self, samples: ArrayLike) -> tuple[Float32, Float32]:
        """As `push`, and return the mean square of each hop that the samples complete, too.

        A hop is complete before the frame that begins with it, so powers run ahead of frames.
        """
        x = checked(samples, self.samples)
        powers: list[Float32] = []
        if self._kept + len(x) <= len(self._buffer):
            return self._take(x, powers), powers[0]
        features = [self._take(piece, powers) for piece in self._pieces(x)]
        return np.concatenate(features), np.concatenate(powers)

    def _pieces(self, x: Sound) -> list[Sound]:
        step = len(self._buffer) - self.config.frame_length
        return [x[i : i + step] for i in range(0, len(x), step)]

    def _take(self, x: Sound, powers: list[Float32] | None = None) -> Float32:
        """Return the features of the frames that a piece completes, and add the powers of such hops to `powers`."""
        config, buffer, begin = self.config, self._buffer, self._kept
        stop = begin + len(x)
        if x.dtype == _FLOAT32:
            buffer[begin:stop] = x
        else:
            np.multiply(x, _FULL_SCALE, out=buffer[begin:stop])
        if powers is not None:
            hop = config.hop_length
            powers.append(mean_squares(buffer[begin // hop * hop : stop], hop))
        count = config.frames(stop)
        out = np.empty((count, config.features), np.float32)
        done = 0
        while done < count:
            first = self.frames + done
            m = min(count - done, BLOCK - first % TILE)
            self._front_end.features(self._frames(done, m), first, out[done : done + m])
            done += m
        used = count * config.hop_length
        self._kept = stop - used
        if used:
            buffer[: self._kept] = buffer[used:stop]
        self.frames += count
        return out

    def _frames(self, first: int, count: int) -> Float32:
        """Return frames of the buffer; the views are kept, because making one costs a streaming hop dear."""
        view = self._views.get((first, count))
        if view is None:
            view = self._views[first, count] = framed(
                self._buffer, first * self.config.hop_length, count, self.config
            )
        return view
