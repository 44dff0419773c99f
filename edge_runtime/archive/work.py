"""The work on one recording, or on a block of a long one: what runs in a worker process, here or on another machine.

A block's answers are, bit for bit, those that the whole recording has there (`edge_runtime.dense_stream`), so that how
an archive is cut cannot change its segments.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

from .. import audio, wav
from ..bundle import Bundle, parse, read
from ..decisions import Segmentation
from ..dense import DenseForm
from ..dense_stream import Answers, DenseStream
from ..errors import AudioError, EdgeBenchError
from ..segmenter import Segmenter
from ..segments import Segment

_READ = 160_000  # samples that a block is read by


@dataclass(frozen=True)
class Job:
    """What is the same for all recordings.

    Attributes
    ----------
    model : bytes
        The bundle's file, so that a worker on another machine needs none.
    what : str
        Where it came from, for messages.
    settings : Segmentation
    backend : str
    """

    model: bytes
    what: str
    settings: Segmentation
    backend: str = "auto"

    @classmethod
    def of(cls, bundle: str, settings: Segmentation | None = None, *, backend: str = "auto") -> Job:
        """Read a bundle; without settings, those that it carries."""
        built = read(bundle)
        with open(built.path, "rb") as file:
            model = file.read()
        return cls(model, built.path, Segmentation.of(built) if settings is None else settings, backend)

    def changed(self, settings: Segmentation, *, unknown_below: float | None = None) -> Job:
        """Return this job with other settings."""
        if unknown_below is not None:
            settings = replace(settings, unknown_below=unknown_below)
        return replace(self, settings=settings)

    @property
    def bundle(self) -> Bundle:
        """The bundle."""
        return _parse(self.model, self.what)


@dataclass(frozen=True)
class Block:
    """Frames ``first`` up to ``stop`` of a long recording."""

    first: int
    stop: int


@dataclass(frozen=True)
class Done:
    """The segments of a whole recording of `seconds`."""

    seconds: float
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Failed:
    """Why there are none, in one line."""

    message: str


@lru_cache(maxsize=2)
def _parse(model: bytes, what: str) -> Bundle:
    return parse(model, what=what)


@lru_cache(maxsize=1)
def _segmenter(model: bytes, what: str, settings: str, backend: str) -> Segmenter:
    """Return the segmenter of a process: making one takes longer than a short recording."""
    bundle = _parse(model, what)
    return Segmenter(bundle, settings=Segmentation.from_dict(json.loads(settings)), backend=backend)


@dataclass(frozen=True)
class Cut:
    """A long recording of `seconds`, cut into blocks."""

    seconds: float
    blocks: tuple[Block, ...]


def cut(path: str, bundle: Bundle, frames: int) -> Cut | None:
    """Return the blocks that a recording is worth cutting into; None where it is not.

    Only a WAV file at the bundle's own rate can be read from the middle without reading, or resampling, what is before.

    Parameters
    ----------
    frames : int
        Frames in a block, about.
    """
    form = DenseForm.of(bundle)
    step = -(-frames // form.block) * form.block
    while not form.may_begin(step):
        step += form.block
    config = bundle.front_end
    try:
        if os.path.getsize(path) < 2 * step * config.hop_length or not audio.is_wav(path):
            return None
        info = wav.read_info(path)
    except (EdgeBenchError, OSError):
        return None  # whoever reads it says what is wrong
    count = config.frames(info.frames)
    if info.sample_rate != config.sample_rate or count < 2 * step:
        return None
    starts = range(0, count - step // 2, step)  # the last block takes a short rest
    blocks = tuple(Block(a, b) for a, b in zip(starts, [*starts[1:], count], strict=True))
    return Cut(round(info.frames / info.sample_rate, 6), blocks)


def segment_whole(job: Job, path: str) -> Done | Failed:
    """Return the segments of a recording."""
    try:
        settings = json.dumps(job.settings.to_dict(), sort_keys=True)
        found = _segmenter(job.model, job.what, settings, job.backend).segment_file(path)
        return Done(found[-1].end_s, found)
    except EdgeBenchError as error:
        return Failed(_naming(path, str(error)))
    except Exception as error:  # a fault of ours must not end the work on an archive
        return Failed(f"{path}: {type(error).__name__}: {error}")


def answer_block(job: Job, path: str, block: Block) -> Answers | Failed:
    """Return the answers for a block of a recording."""
    try:
        bundle = job.bundle
        stream = DenseStream(bundle, first=block.first, backend=job.backend)
        stop = bundle.front_end.samples(block.stop)
        parts = [stream.push(x, hurry=False) for x in _samples(path, stream.first_sample, stop)]
        parts.append(stream.finish())
        return Answers.joined(parts)
    except EdgeBenchError as error:
        return Failed(_naming(path, str(error)))
    except Exception as error:
        return Failed(f"{path}: {type(error).__name__}: {error}")


def _samples(path: str, first: int, stop: int) -> Iterator[NDArray[Any]]:
    done = first
    for block in wav.read_blocks(path, block_frames=_READ, first=first, stop=stop, integers=True):
        mono = audio.downmix(block)
        done += len(mono)
        yield mono
    if done < stop:
        raise AudioError(f"{path}: became shorter while it was read; read it again")


def _naming(path: str, message: str) -> str:
    return message if path in message else f"{path}: {message}"
