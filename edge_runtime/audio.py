"""Recordings of any format as one channel of float32 at the wanted sample rate.

WAV is read by `wav`, which needs numpy alone. Everything else (FLAC, OGG, MP3, ...) goes through
the optional package `soundfile`. The first bytes of a file decide, not its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import wav
from .errors import AudioError, ConfigError
from .resample import MAX_RATIO, Resampler, resample

PathLike = str | os.PathLike[str]
# Name of a format, and the bytes of its files from some offset on.
_MAGIC = (
    ("WAV", 0, b"RIFF"),
    ("WAV", 0, b"RF64"),
    ("RIFX", 0, b"RIFX"),
    ("FLAC", 0, b"fLaC"),
    ("OGG", 0, b"OggS"),
    ("MP3", 0, b"ID3"),
    ("AIFF", 0, b"FORM"),
    ("AU", 0, b".snd"),
    ("CAF", 0, b"caff"),
    ("WavPack", 0, b"wvpk"),
    ("WebM", 0, b"\x1aE\xdf\xa3"),
    ("MP4", 4, b"ftyp"),
)
_BLOCK = 160_000  # samples of all channels that are decoded at a time: ten seconds at 16 kHz, in a second-level cache
_SLOWEST = 1000  # Hz; a damaged header that says less would blow up to gigabytes
_LOUDEST = 2.0**31  # raw 32 bit integers kept as float; what is above was never sound
_UNENDING = 2**62  # libsndfile gives more frames than that where the header says no number


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a recording says; `format` is for people, such as 'FLAC PCM_16'."""

    sample_rate: int
    channels: int
    frames: int
    seconds: float
    format: str


def info(path: PathLike) -> AudioInfo:
    """Read the header of a recording. Its samples are not looked at, and there may be none.

    Raises
    ------
    AudioError
        As `load`.
    """
    if _sniff(path) == "WAV":
        header = wav.read_info(path)
        rate, channels, frames = header.sample_rate, header.channels, header.frames
        return AudioInfo(rate, channels, frames, frames / rate, f"WAV {header.sample_format}")
    with _decoder(path) as file:
        rate, channels, frames = file.samplerate, file.channels, file.frames
        return AudioInfo(rate, channels, frames, frames / rate, f"{file.format} {file.subtype}")


def load(path: PathLike, *, sample_rate: int = 16000) -> NDArray[np.float32]:
    """Read a whole recording.

    Parameters
    ----------
    path : path
        A recording of any format.
    sample_rate : int
        In Hz, what the recording is brought to by `resample` with engine 'auto'.

    Returns
    -------
    numpy.ndarray of float32, shape (n,), n > 0
        The mean of the channels; full scale is -1 to 1.

    Raises
    ------
    AudioError
        If the file is missing, a directory, empty or not readable, holds no frames, NaN or Inf,
        cannot be decoded, or needs soundfile, which is not installed.
    ConfigError
        If `sample_rate` makes no sense.
    """
    _check_rate(sample_rate)
    rate = _source_rate(path, sample_rate)
    return resample(np.concatenate(list(_mono_blocks(path))), rate, sample_rate)


def stream(
    path: PathLike, *, sample_rate: int = 16000, block_s: float = 1.0
) -> Iterator[NDArray[np.float32]]:
    """Read a recording in pieces; memory does not grow with its length.

    The blocks together are what `load` returns, but the rate is always changed by our own
    `Resampler`: the bits are those of `resample` with engine 'numpy', whatever is installed.

    Yields
    ------
    numpy.ndarray of float32, shape (m,)
        `block_s` seconds, rounded to samples; fewer in the last block, but at least one sample.

    Raises
    ------
    AudioError
        As `load`, when the block is asked for in which the fault lies.
    ConfigError
        If `sample_rate` or `block_s` makes no sense; at once.
    """
    _check_rate(sample_rate)
    if not 0.5 <= block_s * sample_rate < 2**31:
        raise ConfigError(f"block_s is {block_s}; it must be positive and hold at least one sample")
    return _stream(path, sample_rate, max(1, round(block_s * sample_rate)))


def pieces(path: PathLike, *, sample_rate: int = 16000) -> Iterator[NDArray[Any]]:
    """Read a recording in pieces of the length and the form that cost least; otherwise as `stream`.

    Yields
    ------
    numpy.ndarray of float32 or int16, shape (m,)
        Some seconds; may be empty. int16 where that is what the file holds: one channel at this rate.

    Raises
    ------
    AudioError
        As `stream`.
    ConfigError
        If `sample_rate` makes no sense; at once.
    """
    _check_rate(sample_rate)
    return _resampled(path, sample_rate, integers=True)


def _stream(path: PathLike, sample_rate: int, size: int) -> Iterator[NDArray[np.float32]]:
    waiting = np.zeros(0, np.float32)
    for part in _resampled(path, sample_rate):
        waiting = np.concatenate([waiting, part])
        while len(waiting) >= size:
            yield waiting[:size].copy()
            waiting = waiting[size:]
    if len(waiting):
        yield waiting


def _resampled(path: PathLike, sample_rate: int, *, integers: bool = False) -> Iterator[NDArray[Any]]:
    rate = _source_rate(path, sample_rate)
    if rate == sample_rate:
        yield from _mono_blocks(path, integers=integers)
        return
    resampler = Resampler(rate, sample_rate)
    for block in _mono_blocks(path):
        yield resampler.push(block)
    yield resampler.flush()


def is_wav(path: PathLike) -> bool:
    """Say whether a file begins like a WAV that `wav` reads.

    Raises
    ------
    AudioError
        If it cannot be read.
    """
    return _sniff(path) == "WAV"


def downmix(x: NDArray[Any]) -> NDArray[Any]:
    """Return the mean of float32 channels, (frames, channels) to (frames,); one channel as it is, of any type."""
    if x.shape[1] == 1:
        return np.ascontiguousarray(x[:, 0])
    # In float64, where the sum of the channels cannot overflow.
    return np.asarray(x.mean(axis=1, dtype=np.float64), np.float32)


def _check_rate(sample_rate: int) -> None:
    Resampler(sample_rate, sample_rate)  # refuses it with a ConfigError


def _source_rate(path: PathLike, sample_rate: int) -> int:
    """The recording's own sample rate, if it can be brought to `sample_rate`."""
    rate = info(path).sample_rate
    if rate < _SLOWEST or max(rate, sample_rate) > MAX_RATIO * min(rate, sample_rate):
        raise AudioError(
            f"{path}: its header says {rate} Hz, which cannot be brought to {sample_rate} Hz; "
            "correct the header"
        )
    return rate


def _mono_blocks(path: PathLike, *, integers: bool = False) -> Iterator[NDArray[Any]]:
    """All samples of a recording at its own rate, checked."""
    within = False  # full scale, whatever they are
    if _sniff(path) == "WAV":
        header = wav.read_info(path)
        within = not header.sample_format.startswith("float")
        blocks = wav.read_blocks(path, block_frames=max(1, _BLOCK // header.channels), integers=integers)
    else:
        blocks = _decoded(path)
    frames = 0
    for block in blocks:
        mono = downmix(block)
        # the extremes first, which need no memory; NaN fails every comparison
        if not within and not (mono.max(initial=0) <= _LOUDEST and mono.min(initial=0) >= -_LOUDEST):
            wav.check_finite(block, path, frames)
            at = int(np.argmax(np.abs(mono) > _LOUDEST))
            raise AudioError(f"{path}: {mono[at]:g} at frame {frames + at}, full scale is 1; repair the recording")
        frames += len(mono)
        yield mono
    if frames == 0:
        raise AudioError(f"{path}: holds no samples (0 frames); record or copy it again")


def _decoded(path: PathLike) -> Iterator[NDArray[np.float32]]:
    with _decoder(path) as file:
        frames = max(1, _BLOCK // file.channels)
        while len(block := file.read(frames, dtype="float32", always_2d=True)):
            yield block


@contextmanager
def _decoder(path: PathLike) -> Iterator[Any]:
    """An open soundfile.SoundFile; what it raises becomes an AudioError."""
    kind = _sniff(path)
    try:
        soundfile = import_module("soundfile")
    except (ImportError, OSError):  # OSError where the package is there but not libsndfile
        raise AudioError(
            f"{path}: format {kind} needs soundfile, which is not there; pip install soundfile"
        ) from None
    with wav.open_file(path) as raw:
        try:
            # By its descriptor: given the name, soundfile would believe the extension.
            with soundfile.SoundFile(raw.fileno(), closefd=False) as file:
                if file.frames > _UNENDING:  # soundfile fails at the end of such a file
                    raise RuntimeError("its header does not say how long it is")
                yield file
        except RuntimeError as error:  # all errors of soundfile are of this kind
            reason = str(error).rpartition(": ")[2].rstrip(".\n")
            raise AudioError(
                f"{path}: format {kind} cannot be decoded ({reason}); copy or convert it again"
            ) from None


def _sniff(path: PathLike) -> str:
    """Name of a file's format by its first bytes."""
    with wav.open_file(path) as file:
        head = file.read(12)
    for name, offset, magic in _MAGIC:
        if head[offset:].startswith(magic):
            return name
    # An MPEG frame: 11 bits set, then a layer that is not 0, which would be AAC.
    if len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0 and head[1] & 0x06:
        return "MP3"
    return f"unknown (first bytes {head[:4]!r})"
