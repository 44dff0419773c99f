"""A decision every frame: the signature ``dense`` over a recording's features, and its answers pooled over time.

Conventions: features and logits are float32, (frames, features) and (frames, classes). The logits of frame t come from
frames ``t - receptive_field + 1 ... t`` and nothing later; before the recording lie mean frames (zeros), as before a
clip. `edge_runtime.smoothing` says which frame an answer is given to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle, read
from .classify import dequantise, quantise
from .errors import BundleError, ConfigError
from .frontend import TILE
from .interpreter import SignatureSession

Float32 = NDArray[np.float32]
#: Frames between an answer without pooling and the frame that it is about, for SwishNet (receptive field 108 frames).
#: Found on 100 validation streams with a median of 200 frames: frame accuracy is 95.4 % at 45, 95.0 at 30 and 95.2 at
#: 60, and 40 and 50 are no better. Averaging over n frames adds n // 2.
DELAY = 45
_STEPS_OF_ONE = 4096  # logits are summed in steps of 1/4096: whole numbers add up alike for any chunking


@dataclass(frozen=True)
class DenseForm:
    """Shape of a bundle's dense signature: frames that it answers in one run, and the context before them."""

    block: int
    context: int
    subgraph: int

    @classmethod
    def of(cls, bundle: Bundle) -> DenseForm:
        """Read it from a bundle.

        Raises
        ------
        BundleError
            If the bundle has no dense form.
        """
        form = bundle.info["forms"].get("dense")
        if form is None:
            raise BundleError(f"{bundle.path}: has no signature 'dense'; quantise it again")
        wide, block = int(form["input"]["shape"][2]), int(form["output"]["shape"][2])
        return cls(block, wide - block, int(form["subgraph"]))

    @property
    def lead(self) -> int:
        """Frames that a stream in the middle needs before its first: the context, in whole tiles of the front end."""
        return -(-self.context // TILE) * TILE

    def may_begin(self, frame: int) -> bool:
        """Say whether a stream can begin at a frame with the bits that the whole recording has there."""
        return frame == 0 or (frame >= self.lead and frame % self.block == 0 and frame % TILE == 0)


class DenseNetwork:
    """A bundle's dense form over whole recordings.

    Parameters
    ----------
    bundle : Bundle, path or str
    backend, threads
        See `edge_runtime.interpreter.Session`.

    Raises
    ------
    BundleError
        If the bundle has no dense form.
    InterpreterError
    """

    def __init__(self, bundle: Bundle | str | Path, *, backend: str = "auto", threads: int = 1) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read(bundle)
        self._form = DenseForm.of(self.bundle)
        self._session = SignatureSession(self.bundle.flatbuffer, "dense", backend=backend, threads=threads)

    def logits(self, features: Float32) -> Float32:
        """Return the logits of every frame, shape (frames, classes), from normalised features (frames, features)."""
        session, block, context = self._session, self._form.block, self._form.context
        count = -(-len(features) // block)
        fed = np.zeros((context + count * block, features.shape[1]), np.float32)
        fed[context : context + len(features)] = features
        q = quantise(fed, *session.input_quantization, session.input_dtype)
        raw = [session.run(q[None, None, i * block :][:, :, : context + block])[0, 0] for i in range(count)]
        if not raw:
            return np.zeros((0, len(self.bundle.classes)), np.float32)
        return dequantise(np.concatenate(raw)[: len(features)], *session.output_quantization)


def softmax(logits: Float32) -> Float32:
    """Return probabilities along the last axis."""
    # the classes in front: numpy is slow along short rows
    e = np.ascontiguousarray(logits.T, np.float32)
    e = np.exp(e - np.maximum.reduce(e))
    e /= np.add.reduce(e)
    return e.T


class Pool:
    """Probabilities from logits averaged over the last frames, of a stream: equal to the bit for any chunking.

    Parameters
    ----------
    length : int
        Frames to average; at the beginning those that there are.
    classes : int
    """

    def __init__(self, length: int, classes: int) -> None:
        if not isinstance(length, int) or not 1 <= length <= 1 << 16:
            raise ConfigError(f"pool is {length!r}, must be a whole number of frames from 1 to {1 << 16}")
        self._length, self._classes = length, classes
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._before = np.zeros((0, self._classes), np.int64)

    def push(self, logits: Float32) -> Float32:
        """Return the probabilities of the frames, shape (frames, classes)."""
        rounded = np.rint(logits * np.float32(_STEPS_OF_ONE))
        if self._length == 1:
            rounded /= np.float32(_STEPS_OF_ONE)
            return softmax(rounded)
        steps = rounded.astype(np.int64)
        whole = np.concatenate([self._before, steps])
        sums = np.concatenate([np.zeros((1, self._classes), np.int64), np.cumsum(whole, axis=0)])
        stop = np.arange(len(self._before), len(whole)) + 1
        start = np.maximum(stop - self._length, 0)
        self._before = whole[max(len(whole) - self._length + 1, 0) :]
        mean = (sums[stop] - sums[start]) / (_STEPS_OF_ONE * (stop - start))[:, None]
        return softmax(mean.astype(np.float32))


def pooled(logits: Float32, length: int) -> Float32:
    """Return the probabilities of a whole recording; see `Pool`."""
    return Pool(length, logits.shape[1]).push(logits)
