"""Samples of a stream to logits, one row every hop: the front end and the dense network, bit-equal for any chunking.

The network runs on blocks of one fixed shape that begin at fixed frames of the stream, behind their left context. A
block that is not full yet may be run early, so that a live stream need not wait for it: a causal network's answer at a
frame does not depend on what comes later in the block, so the bits are those of the full block. For a network of whole
numbers a few frames are then run alone, at a sixth of the cost: its sums have no rounding that a shape could change.

A stream may also begin in the middle of a recording (`first`), so that blocks of a long one can be done apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bundle import Bundle
from .classify import dequantise, quantise
from .dense import DenseForm
from .errors import ConfigError, InterpreterError
from .frontend import TILE, StreamingFrontEnd
from .interpreter import Session
from .level import decibels
from .truncate import truncated

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """What a stream's frames have given.

    Attributes
    ----------
    logits : np.ndarray, float32, shape (frames, classes)
    power : np.ndarray, float32, shape (frames,)
        Mean square of each frame's hop.
    """

    logits: Float32
    power: Float32

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def dbfs(self) -> Float32:
        """Level of each frame's hop, shape (frames,)."""
        return decibels(self.power)

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Return answers that follow one another as one."""
        return cls(np.concatenate([p.logits for p in parts]), np.concatenate([p.power for p in parts]))


_RUNS = 3  # on a few frames each that cost less than one of the whole block, which costs six


class _Early:
    """The network on a few frames alone, for a live stream; only where it computes in whole numbers."""

    def __init__(self, flatbuffer: bytes, whole: Session, context: int, hop: int, threads: int) -> None:
        self._flatbuffer, self._backend, self._threads = flatbuffer, whole.backend, threads
        self._context, self._frames = context, -(-hop // TILE) * TILE
        few = 2 * self._frames <= whole.input_shape[2] - context
        self._may = few and np.issubdtype(whole.input_dtype, np.integer) and whole.backend != "numpy"
        self._session: Session | None = None

    def takes(self, frames: int) -> bool:
        """Say whether so many frames can be run alone; the interpreter is made when it is first needed."""
        if not self._may or frames > _RUNS * self._frames:
            return False
        if self._session is None:
            try:
                self._session = Session(
                    self._flatbuffer, frames=self._context + self._frames, backend=self._backend,
                    threads=self._threads,
                )  # fmt: skip
            except InterpreterError:  # a graph of fixed shapes
                self._may = False
        return self._may

    def run(self, fed: NDArray[Any], first: int, stop: int) -> NDArray[Any]:
        """Return the answers at places `first` up to `stop` of the whole network's input."""
        assert self._session is not None
        found = []
        while first < stop:
            upto = min(first + self._frames, stop)
            begin = max(0, upto - self._frames - self._context)
            rows = self._session.run(fed[:, :, begin : begin + self._context + self._frames])[0, 0]
            found.append(rows[first - begin - self._context : upto - begin - self._context])
            first = upto
        return found[0] if len(found) == 1 else np.concatenate(found)


class DenseStream:
    """A bundle's logits over a stream of samples.

    Not to be shared between threads; any number of them may share one `Bundle`.

    Parameters
    ----------
    bundle : Bundle
    decision_hop : int
        Frames from one run of the network to the next where less than a block has arrived. It changes when an answer
        comes, never the answer.
    first : int
        Frame of the recording that the stream begins with; feed it from sample `first_sample` on.
    backend, threads
        See `edge_runtime.interpreter.Session`.

    Raises
    ------
    BundleError, ConfigError, InterpreterError
    """

    def __init__(
        self, bundle: Bundle, *, decision_hop: int = 10, first: int = 0, backend: str = "auto", threads: int = 1
    ) -> None:
        self.form = form = DenseForm.of(bundle)
        if not isinstance(decision_hop, int) or isinstance(decision_hop, bool) or not 1 <= decision_hop <= form.block:
            raise ConfigError(f"decision hop is {decision_hop!r} frames, must be from 1 to {form.block}")
        if not form.may_begin(first):
            raise ConfigError(f"a stream cannot begin at frame {first}, only at multiples of {form.block}")
        self.config, self._hop, self._first = bundle.front_end, decision_hop, first
        flatbuffer = truncated(bundle.flatbuffer, subgraph=form.subgraph, model=bundle.model)
        self._session = Session(flatbuffer, backend=backend, threads=threads)
        self._early = _Early(flatbuffer, self._session, form.context, decision_hop, threads)
        self.backend, self.version = self._session.backend, self._session.version
        self._front_end = StreamingFrontEnd(self.config)
        scale, zero_point = self._session.input_quantization
        self._mean_frame = quantise(np.zeros(1, np.float32), scale, zero_point, self._session.input_dtype)[0]
        shape = (1, 1, form.context + form.block, self.config.features)
        self._input: NDArray[Any] = np.empty(shape, self._session.input_dtype)
        self._fed = self._input[0, 0]
        self._none = Answers(np.empty((0, len(bundle.classes)), np.float32), np.empty(0, np.float32))
        self.reset()

    def reset(self) -> None:
        """Forget the stream; the next sample is the first of a new one."""
        self._front_end.reset()
        lead = self.form.lead if self._first else 0
        self._front_end.frames = self._first - lead
        self._fed[...] = self._mean_frame  # before a recording lie mean frames, as before a clip
        self._skip = max(0, lead - self.form.context)  # frames of the lead that the context has no room for
        self._at = 0 if lead else self.form.context  # where in the network's input the next frame goes
        self._answered = self.form.context  # and the next one without an answer lies
        self._frames = self._first - (self.form.context if lead else 0)  # number of the next frame to be fed
        self._unwanted = lead  # hops of the lead, which has no answers
        self._power = np.empty(0, np.float32)  # of the hops without an answer

    @property
    def first_sample(self) -> int:
        """Number of the recording's sample that the stream is to be fed from."""
        return (self._first - (self.form.lead if self._first else 0)) * self.config.hop_length

    @property
    def samples(self) -> int:
        """Samples taken so far, those before the stream's beginning included."""
        return self._front_end.samples

    def push(self, samples: ArrayLike, *, hurry: bool = True) -> Answers:
        """Take samples and return the answers that are due.

        Parameters
        ----------
        samples : array_like, shape (n,)
            At the bundle's rate; float32 in [-1, 1] or int16; any number, also none.
        hurry : bool
            False lets answers wait until their block is full: nobody waits for those of a recording.

        Raises
        ------
        AudioError
            For samples that are not finite; the stream stays as it was before the call.
        """
        features, power = self._front_end.push_measured(samples)
        before = min(self._unwanted, len(power))
        self._unwanted -= before
        if len(power):
            self._power = np.concatenate([self._power, power[before:]])
        skip = min(self._skip, len(features))
        self._skip -= skip
        raw = self._feed(features[skip:])
        due = self._at - self._frames % self._hop
        if hurry and due > self._answered:
            raw.append(self._run(due))
        return self._answers(raw)

    def finish(self) -> Answers:
        """End the stream: return the answers that are left and begin a new one."""
        answers = self._answers([self._run(self._at)] if self._at > self._answered else [])
        self.reset()
        return answers

    def _feed(self, features: Float32) -> list[NDArray[Any]]:
        """Put features into the network's input; return the raw answers of the blocks that they fill."""
        fed, form = self._fed, self.form
        scale, zero_point = self._session.input_quantization
        raw = []
        done = 0
        while done < len(features):
            n = min(len(features) - done, len(fed) - self._at)
            fed[self._at : self._at + n] = quantise(features[done : done + n], scale, zero_point, fed.dtype)
            self._at += n
            done += n
            if self._at == len(fed):
                raw.append(self._run(self._at))
                fed[: form.context] = fed[form.block :].copy()
                self._at = self._answered = form.context
        self._frames += len(features)
        return raw

    def _run(self, stop: int) -> NDArray[Any]:
        """Return the raw answers from the first one missing up to place `stop` of the network's input."""
        context, first = self.form.context, self._answered
        self._answered = stop
        if stop < len(self._fed) and self._early.takes(stop - first):
            return self._early.run(self._input, first, stop)
        rows: NDArray[Any] = self._session.run(self._input)[0, 0, first - context : stop - context]
        return rows

    def _answers(self, raw: list[NDArray[Any]]) -> Answers:
        if not raw:
            return self._none
        whole = raw[0] if len(raw) == 1 else np.concatenate(raw)
        power, self._power = self._power[: len(whole)], self._power[len(whole) :]
        return Answers(dequantise(whole, *self._session.output_quantization), power)
