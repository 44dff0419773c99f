"""Which class a clip is: the front end, the quantiser, the network and a softmax' answer, in one object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bundle import Bundle, Golden, read
from .errors import AudioError, BundleError, ConfigError, InterpreterError
from .frontend import FrontEnd, as_samples, check_samples
from .interpreter import Session, open_session

if TYPE_CHECKING:
    from .sandbox import SandboxSession

Float32 = NDArray[np.float32]


def quantise(x: Float32, scale: float, zero_point: int, dtype: Any) -> NDArray[Any]:
    """Return ``round(x / scale) + zero_point``, saturated to the range of `dtype`.

    Halves round to even; a `scale` of 0 means that the tensor is float and `x` is returned.
    """
    if not scale:
        return x
    low, high = _limits(dtype)
    q = x * np.float32(1 / scale)
    np.rint(q, out=q)
    q += np.float32(zero_point)
    flat = q.ravel()
    # looking costs less than clipping, and hardly anything saturates
    if flat.size and (np.minimum.reduce(flat) < low or np.maximum.reduce(flat) > high):
        np.clip(q, low, high, out=q)
    return q.astype(dtype)


@lru_cache(maxsize=8)
def _limits(dtype: Any) -> tuple[np.float32, np.float32]:
    limits = np.iinfo(dtype)
    return np.float32(limits.min), np.float32(limits.max)


def dequantise(q: NDArray[Any], scale: float, zero_point: int) -> Float32:
    """Return ``scale * (q - zero_point)`` as float32; a `scale` of 0 means that `q` is float."""
    if not scale:
        return q.astype(np.float32)
    return (q.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def shares(p: Float32) -> Float32:
    """Return probabilities (n, classes) that sum to one: those of an int8 network, multiples of 1/256, need not."""
    total = p.sum(axis=1, keepdims=True)
    return np.divide(p, total, out=np.full_like(p, 1 / p.shape[1]), where=total > 0)


def padded(clips: Float32, frames: int) -> Float32:
    """Return clips (n, frames, features) behind zeros, so that they have `frames` frames."""
    return np.pad(clips, ((0, 0), (frames - clips.shape[1], 0), (0, 0)))


def fitted(clips: Float32, frames: int) -> Float32:
    """Return clips (n, any, features) with `frames` frames: behind zeros, or without their oldest frames."""
    return padded(clips, frames) if clips.shape[1] < frames else clips[:, clips.shape[1] - frames :]


def predict(bundle: Bundle, clips: Float32, *, backend: str = "auto", sandbox: bool = False) -> Float32:
    """Return a bundle's probabilities for normalised clips of one length, shape (clips, classes)."""
    session = open_session(
        bundle.flatbuffer, sandbox=sandbox, frames=bundle.padded_frames(clips.shape[1]), backend=backend
    )
    x = fitted(clips, session.input_shape[2])
    q = quantise(x, *session.input_quantization, session.input_dtype)
    raw = np.concatenate([session.run(clip[None, None]) for clip in q])
    return dequantise(raw, *session.output_quantization)


@dataclass(frozen=True)
class ClipResult:
    """The answer for one clip.

    Attributes
    ----------
    start_s, end_s : float
        Seconds from the recording's start.
    label : str
        The most probable class.
    probabilities : dict
        By class, summing to 1.
    """

    start_s: float
    end_s: float
    label: str
    probabilities: dict[str, float]


class Classifier:
    """Labels clips with a bundle's network.

    Parameters
    ----------
    bundle : Bundle, path or str
        A bundle, its path, or the name of a shipped one.
    clip_s : float
        Length of a clip in seconds; the network was trained on 0.5, 1 and 2.
    backend, threads, delegate
        See `edge_runtime.interpreter.Session`.
    sandbox : bool
        Run the network in a process with limits; see `edge_runtime.sandbox`.

    Raises
    ------
    BundleError, InterpreterError, ConfigError

    Examples
    --------
    >>> import numpy as np
    >>> from edge_runtime import Classifier
    >>> with Classifier("swishnet-slim-int8") as classifier:
    ...     results = classifier.classify(np.zeros(64000, np.float32))
    >>> [(r.start_s, r.end_s) for r in results]
    [(0.0, 2.0), (2.0, 4.0)]
    """

    def __init__(
        self,
        bundle: Bundle | str | Path = "swishnet-slim-int8",
        *,
        clip_s: float = 2.0,
        backend: str = "auto",
        threads: int = 1,
        delegate: str | None = None,
        sandbox: bool = False,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read(bundle)
        config = self.bundle.front_end
        if not 0 < clip_s <= 60:
            raise ConfigError(f"clip length is {clip_s} s, must be above 0 and at most 60")
        self.frames = self.bundle.clip_frames(clip_s)
        if not self.frames:
            raise ConfigError(
                f"clip length {clip_s} s is shorter than one frame ({config.frame_length / config.sample_rate} s)"
            )
        self.clip_s = clip_s
        self.samples = round(clip_s * config.sample_rate)
        self._session: Session | SandboxSession | None = open_session(
            self.bundle.flatbuffer,
            sandbox=sandbox,
            frames=self.bundle.padded_frames(self.frames),
            backend=backend,
            threads=threads,
            delegate=delegate,
        )
        self.drops_oldest = self.session.input_shape[2] < self.frames
        self.front_end = FrontEnd(config)
        scale, zero_point = self.session.input_quantization
        self._padding = quantise(np.zeros(1, np.float32), scale, zero_point, self.session.input_dtype)[0]
        self._input = np.full(self.session.input_shape, self._padding, self.session.input_dtype)

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the interpreter's memory; the object cannot be used afterwards."""
        if self._session is not None:
            self._session.close()
        self._session = None

    @property
    def session(self) -> Session | SandboxSession:
        """The interpreter.

        Raises
        ------
        InterpreterError
            If the classifier was closed.
        """
        if self._session is None:
            raise InterpreterError("this classifier is closed; make a new one")
        return self._session

    def network_input(self, features: Float32) -> NDArray[Any]:
        """Return the network's input for a clip's features: quantised, behind mean frames where there is room.

        The array is re-used by the next call.
        """
        scale, zero_point = self.session.input_quantization
        if self.drops_oldest and features.ndim == 2:
            features = features[max(0, len(features) - self._input.shape[2]) :]
        room = self._input.shape[2] - len(features)
        if features.ndim != 2 or room < 0 or features.shape[1] != self._input.shape[3]:
            raise ConfigError(
                f"features have shape {features.shape}, expected at most {self._input.shape[2]} frames of "
                f"{self._input.shape[3]}"
            )
        self._input[0, 0, :room] = self._padding
        self._input[0, 0, room:] = quantise(features, scale, zero_point, self.session.input_dtype)
        return self._input

    def probabilities(self, features: Float32) -> Float32:
        """Return the class probabilities of one clip from its features, shape (classes,)."""
        raw = self.session.run(self.network_input(features))[0]
        p = dequantise(raw, *self.session.output_quantization)
        total = p.sum()
        # as `shares`, which costs one clip 2 % of the model's instructions
        return p / total if total > 0 else np.full(len(p), 1 / len(p), np.float32)

    def clips(self, samples: ArrayLike, *, hop_s: float | None = None) -> Iterator[tuple[float, float, Float32]]:
        """Yield (start_s, end_s, probabilities) of every clip; see `classify`."""
        x = as_samples(samples)
        config = self.bundle.front_end
        if len(x) < config.frame_length:
            raise AudioError(
                f"recording has {len(x)} samples, at least {config.frame_length} "
                f"({config.frame_length / config.sample_rate * 1000:g} ms) are needed"
            )
        check_samples(x)  # the whole, so that the message counts from the recording's start
        if hop_s is not None and not 1 / config.sample_rate <= hop_s <= 1e6:
            raise ConfigError(f"hop is {hop_s} s, must be above 0")
        hop = self.samples if hop_s is None else round(hop_s * config.sample_rate)
        rate = config.sample_rate
        for start in range(0, max(len(x) - self.samples, 0) + 1, hop):
            piece = x[start : start + self.samples]
            yield start / rate, (start + len(piece)) / rate, self.probabilities(self.front_end(piece))

    def classify(self, samples: ArrayLike, *, hop_s: float | None = None) -> list[ClipResult]:
        """Label a recording clip by clip.

        Parameters
        ----------
        samples : array_like, shape (n,)
            At the bundle's sample rate, float32 in [-1, 1] or int16.
        hop_s : float, optional
            Step between clips; without it they do not overlap. A tail shorter than a clip is dropped, unless the
            recording has only that.

        Raises
        ------
        AudioError
            If the recording is shorter than one frame or holds samples that are not finite.
        """
        return [
            ClipResult(
                start, end, self.bundle.classes[int(p.argmax())],
                dict(zip(self.bundle.classes, p.tolist(), strict=True)),
            )
            for start, end, p in self.clips(samples, hop_s=hop_s)
        ]  # fmt: skip


@dataclass(frozen=True)
class GoldenReport:
    """How far this machine is from the workstation on the golden vectors.

    Attributes
    ----------
    features : float
        Largest difference of a normalised feature.
    input_lsb, output_lsb : float
        Largest difference of a raw input or output value (steps of the quantiser; 0 is bit-equal).
    """

    vectors: int
    features: float
    input_lsb: float
    output_lsb: float


def make_golden(bundle: Bundle, waveform: NDArray[np.int16], *, clip_frames: tuple[int, ...]) -> Golden:
    """Return what this machine gets for a waveform of 0.5 s, repeated for the longer clips."""
    outputs = {}
    features, first = np.empty(0, np.float32), np.empty(0)
    rate = bundle.front_end.sample_rate
    for frames in sorted(clip_frames):
        n = bundle.front_end.samples(frames)
        with Classifier(bundle, clip_s=n / rate) as classifier:
            own = classifier.front_end(np.resize(waveform, n))
            fed = classifier.network_input(own)
            outputs[str(frames)] = classifier.session.run(fed)
            if not first.size:
                features, first = own, fed.copy()
    return Golden(waveform, features, first, outputs)


def check_golden(bundle: Bundle, *, backend: str = "auto", sandbox: bool = False) -> GoldenReport:
    """Run the golden vectors here and return the differences.

    Raises
    ------
    BundleError
        If the bundle has no golden vector, or one that does not fit the model.
    """
    if not bundle.golden:
        raise BundleError(f"{bundle.path}: has no golden vectors")
    worst = [0.0, 0.0, 0.0]
    rate = bundle.front_end.sample_rate
    for vector in bundle.golden:
        for number, frames in enumerate(sorted(vector.outputs, key=int)):
            n = bundle.front_end.samples(int(frames))
            with Classifier(bundle, clip_s=n / rate, backend=backend, sandbox=sandbox) as classifier:
                features = classifier.front_end(np.resize(vector.waveform, n))
                fed = classifier.network_input(features)
                if number == 0:  # the features and the input that are kept are those of the shortest clip
                    worst[0] = max(worst[0], _distance(features, vector.features))
                    worst[1] = max(worst[1], _distance(fed, vector.input))
                worst[2] = max(worst[2], _distance(classifier.session.run(fed), vector.outputs[frames]))
    return GoldenReport(len(bundle.golden), *worst)


def golden_fine(report: GoldenReport, bundle: Bundle, backend: str) -> bool:
    """Return whether a machine's results are close enough to the workstation's.

    A feature may differ by 0.01 standard deviations (another numpy or processor rounds otherwise), a quantised output
    by 3 steps (by 16 with numpy, which rounds as TFLite's reference kernels do), a float output by 1e-3.
    """
    steps = 16 if backend == "numpy" else 3
    return report.features <= 0.01 and report.output_lsb <= (steps if bundle.info["precision"] != "float32" else 1e-3)


def _distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    if a.shape != b.shape:
        raise BundleError(f"golden vector of shape {b.shape} where this machine gets {a.shape}")
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
