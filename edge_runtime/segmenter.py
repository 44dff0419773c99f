"""Who sounds when: a recording or a live stream to segments of one class, in one object.

Conventions: segments are contiguous and cover the recording. Frame i stands for the time from ``i * hop_s`` to
``(i + 1) * hop_s``; there is an answer for every frame. Streaming gives the same frames, scores and segments as the
whole recording at once, equal to the bit on one machine, however it is cut.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import audio, median
from .bundle import Bundle, read
from .decisions import UNKNOWN, Decisions, Segmentation
from .dense_stream import Answers, DenseStream
from .errors import AudioError, ConfigError, InterpreterError
from .segments import SILENCE, Segment
from .sequence import Gap, SequenceCheck

TELL_S = 20.0  # seconds of a file after which progress is told
_BLOCK = 1 << 18  # samples of a recording that are worked on at a time

Progress = Callable[[float, float], None]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Frames:
    """What the network says of the frames that have come, before smoothing.

    Attributes
    ----------
    probabilities : np.ndarray, float32, shape (frames, classes)
        In the order in which they come: the answer at frame t is about frame ``t - smoothing.delay``.
    dbfs : np.ndarray, float32, shape (frames,)
        Level of each frame's hop.
    """

    probabilities: Float32
    dbfs: Float32


@dataclass(frozen=True)
class Now:
    """The newest moment that is decided, for a live display; shortest durations do not apply to it.

    Attributes
    ----------
    at_s : float
        Its end, in seconds of the stream.
    label : str
        A class, ``silence`` or ``unknown``.
    confidence : float
    """

    at_s: float
    label: str
    confidence: float


class Segmenter:
    """Segments recordings and streams with a bundle's dense form.

    One object holds one stream. For several at once make one for each; they may share a `Bundle`, and each may live in
    a thread of its own. Calls from several threads to one object wait for one another.

    Parameters
    ----------
    bundle : Bundle, path or str
        A bundle, its path, or the name of a shipped one.
    settings : Segmentation, optional
        Smoothing, temperature and what is unknown; by default what the bundle carries.
    decision_hop_s : float
        How often a live stream is decided, in seconds. It changes when an answer comes, never the answer.
    watch : callable, optional
        Gets the `Frames` of every step, for whoever wants more than segments.
    on_gap : callable, optional
        Gets every `Gap` that the times given to `push` show; they are listed in `gaps`, too.
    backend, threads
        See `edge_runtime.interpreter.Session`.

    Attributes
    ----------
    gaps : list of Gap

    Raises
    ------
    BundleError, ConfigError, InterpreterError

    Examples
    --------
    A whole recording:

    >>> import numpy as np
    >>> from edge_runtime import Segmenter
    >>> with Segmenter("swishnet-slim-int8") as segmenter:
    ...     found = segmenter.segment(np.zeros(32000, np.float32))
    >>> [(s.start_s, s.end_s, s.label) for s in found]
    [(0.0, 2.0, 'silence')]

    A stream, in pieces of any length:

    >>> with Segmenter("swishnet-slim-int8") as segmenter:
    ...     for second in range(4):
    ...         found = segmenter.push(np.zeros(16000, np.float32))
    ...     found += segmenter.finish()
    >>> [(s.start_s, s.end_s, s.label) for s in found]
    [(0.0, 4.0, 'silence')]

    Several streams at once share a bundle, and each has a segmenter of its own, in a thread where that suits; times of
    recording show what was lost on the way:

    >>> from edge_runtime.bundle import read
    >>> bundle = read("swishnet-slim-int8")
    >>> streams = [Segmenter(bundle, decision_hop_s=0.2) for _ in range(2)]
    >>> for second in (0, 1, 3):
    ...     found = [s.push(np.zeros(16000, np.float32), time_s=100 + second) for s in streams]
    >>> print(streams[1].gaps[0])
    1.000 s of sound dropped at 2.000 s
    >>> streams[0].now.label, streams[0].labels
    ('silence', ('speech', 'music', 'noise', 'silence'))
    >>> streams[0].reset()  # the next sample is the first of a new stream
    """

    def __init__(
        self,
        bundle: Bundle | str | Path = "swishnet-slim-int8",
        *,
        settings: Segmentation | None = None,
        decision_hop_s: float = 0.1,
        watch: Callable[[Frames], None] | None = None,
        on_gap: Callable[[Gap], None] | None = None,
        backend: str = "auto",
        threads: int = 1,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read(bundle)
        self.settings = Segmentation.of(self.bundle) if settings is None else settings
        self.hop_s = self.bundle.front_end.hop_s
        if not self.hop_s * 0.999 <= decision_hop_s <= 60:
            raise ConfigError(f"decision hop is {decision_hop_s} s, must be from {self.hop_s} s (one frame) to 60 s")
        self._decisions = Decisions(self.bundle.classes, self.settings, hop_s=self.hop_s)
        self._hop = round(decision_hop_s / self.hop_s)
        self._stream: DenseStream | None = DenseStream(
            self.bundle, decision_hop=self._hop, backend=backend, threads=threads
        )
        self._watch, self._on_gap = watch, on_gap
        self._sequence = SequenceCheck(self.bundle.front_end.sample_rate)
        self._lock = threading.RLock()
        self.gaps: list[Gap] = []

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the interpreter's memory; the object cannot be used afterwards."""
        with self._lock:
            self._stream = None

    @property
    def stream(self) -> DenseStream:
        """The front end and the network.

        Raises
        ------
        InterpreterError
            If the segmenter was closed.
        """
        if self._stream is None:
            raise InterpreterError("this segmenter is closed; make a new one")
        return self._stream

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels that segments may have."""
        silence = () if self.settings.smoothing.silence_dbfs is None else (SILENCE,)
        unknown = (UNKNOWN,) if self.settings.unknown_below else ()
        return (*self.bundle.classes, *silence, *unknown)

    @property
    def look_ahead_s(self) -> float:
        """Seconds of sound after a moment within which its label is known; the time to compute comes on top.

        Smoothing (delay, half of the median, the longest shortest duration), a frame, and the decision hop. A live
        label (`now`) does not wait for shortest durations.
        """
        config = self.bundle.front_end
        frames = self.settings.smoothing.look_ahead(self.hop_s) + self._hop - 1
        return round(frames * self.hop_s + config.frame_length / config.sample_rate, 6)

    @property
    def now(self) -> Now | None:
        """The newest moment that is decided; None before there is one."""
        smoother = self._decisions.smoother
        if smoother.label is None:
            return None
        label, sure = smoother.label, smoother.sure
        if label != SILENCE and sure < self.settings.unknown_below:
            label = UNKNOWN
        return Now(round(smoother.frames * self.hop_s, 6), label, sure)

    def reset(self) -> None:
        """Forget the stream; the next sample is the first of a new one."""
        with self._lock:
            self.stream.reset()
            self._decisions.reset()
            self._sequence.reset()
            self.gaps = []

    def push(self, samples: ArrayLike, *, time_s: float | None = None) -> tuple[Segment, ...]:
        """Take samples and return the segments that they complete.

        Parameters
        ----------
        samples : array_like, shape (n,)
            At the bundle's sample rate; float32 in [-1, 1] or int16; any number, also none.
        time_s : float, optional
            When the first of them was recorded, on any clock that counts seconds. Dropped and repeated chunks are then
            reported. The times of segments count the samples that came, whatever was lost.

        Raises
        ------
        AudioError
            For samples that are not finite or of the wrong shape; the stream stays as it was before the call.
        """
        with self._lock:
            answers = self.stream.push(samples)
            gap = self._sequence.take(time_s, np.size(samples))
            if gap is not None:
                self.gaps.append(gap)
                if self._on_gap:
                    self._on_gap(gap)
            return self.decide(answers)

    def finish(self) -> tuple[Segment, ...]:
        """End the stream: return the segments that are left, none of a stream shorter than a frame.

        The next sample is the first of a new stream.
        """
        with self._lock:
            config = self.bundle.front_end
            end_s = round(self.stream.samples / config.sample_rate, 6)
            last = self.decide(self.stream.finish())
            last += self._decisions.finish(end_s)
            self._sequence.reset()
            return last

    def decide(self, answers: Answers) -> tuple[Segment, ...]:
        """Take answers of a `DenseStream`, which may have run elsewhere, and return the segments that they complete."""
        if not len(answers):
            return ()
        found, probabilities = self._decisions.push(answers)
        if self._watch:
            self._watch(Frames(probabilities, answers.dbfs))
        return found

    def segment(self, samples: ArrayLike) -> tuple[Segment, ...]:
        """Return the segments of a whole recording.

        Parameters
        ----------
        samples : array_like, shape (n,)
            At the bundle's sample rate; float32 in [-1, 1] or int16.

        Raises
        ------
        AudioError
            If the recording is shorter than one frame or holds samples that are not finite.
        ConfigError
            If a stream is open.
        """
        x = np.asarray(samples)
        if x.ndim != 1:
            raise AudioError(f"samples have shape {x.shape}, expected one channel of shape (n,)")
        return self._whole((x[i : i + _BLOCK] for i in range(0, len(x), _BLOCK)), "recording")

    def segment_file(self, path: audio.PathLike, *, progress: Progress | None = None) -> tuple[Segment, ...]:
        """Return the segments of a recording on disk, read in blocks: memory does not grow with its length.

        Parameters
        ----------
        path : path
            Any format and sample rate that `edge_runtime.audio` reads.
        progress : callable, optional
            Gets the seconds done and the seconds there are.

        Raises
        ------
        AudioError
            If it cannot be read, or is shorter than one frame.
        ConfigError
            If a stream is open.
        """
        rate = self.bundle.front_end.sample_rate
        total = audio.info(path).seconds if progress else 0.0

        def blocks() -> Iterable[Float32]:
            done, told = 0, 0.0
            for block in audio.pieces(path, sample_rate=rate):
                yield block
                done += len(block)
                if progress and done / rate - told >= TELL_S:
                    told = done / rate
                    progress(told, total)
            if progress and done / rate > told:
                progress(done / rate, total)

        return self._whole(blocks(), str(path))

    def _whole(self, blocks: Iterable[ArrayLike], what: str) -> tuple[Segment, ...]:
        config = self.bundle.front_end
        with self._lock:
            if self.stream.samples:
                raise ConfigError("a stream is open in this segmenter; finish() or reset() it first")
            try:
                found: list[Segment] = []
                waiting: list[Answers] = []
                for block in blocks:
                    waiting.append(self.stream.push(block, hurry=False))
                    if sum(map(len, waiting)) >= median.BLOCK:  # a running median costs less in long pieces
                        found += self.decide(Answers.joined(waiting))
                        waiting = []
                if waiting:
                    found += self.decide(Answers.joined(waiting))
                n = self.stream.samples
                if n < config.frame_length:
                    raise AudioError(
                        f"{what}: has {n} samples, at least {config.frame_length} "
                        f"({config.frame_length / config.sample_rate * 1000:g} ms) are needed"
                    )
                return (*found, *self.finish())
            finally:
                self.reset()
