"""Read and write RIFF/WAVE files with numpy alone.

The standard library's `wave` refuses float samples and WAVE_FORMAT_EXTENSIBLE, which recorders
write every day. No header is believed: sizes are held against the file before they are used.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import AudioError, ConfigError

PathLike = str | os.PathLike[str]
# name -> format tag, bits per sample, numpy type (24 bit is widened to 32)
_FORMATS = {
    "pcm8": (1, 8, "u1"),
    "pcm16": (1, 16, "<i2"),
    "pcm24": (1, 24, "<i4"),
    "pcm32": (1, 32, "<i4"),
    "float32": (3, 32, "<f4"),
    "float64": (3, 64, "<f8"),
}
_CODECS = {2: "MS ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x31: "GSM", 0x55: "MP3"}
_EXTENSIBLE = 0xFFFE
# What follows the format tag in the sub-format GUID of every EXTENSIBLE file that we can read.
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# Sizes left behind by a recorder that could not seek back to fill them in.
_STREAMED = (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
# A file of zeros is an endless row of empty chunks; no recording has this many.
_MAX_CHUNKS = 4096
_BLOCK = 65536


@dataclass(frozen=True)
class WavInfo:
    """What a WAV header says: rate in Hz, a format such as pcm16, the first frame's byte offset."""

    sample_rate: int
    channels: int
    sample_format: str
    frames: int
    data_offset: int
    bytes_per_frame: int


@contextmanager
def open_file(path: PathLike) -> Iterator[BinaryIO]:
    """Open a regular, non-empty file for reading; every OSError inside becomes an AudioError."""
    try:
        status = os.stat(path)  # before opening it, because opening a pipe waits for a writer
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{path}: is a directory; name a recording in it")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"{path}: is a device or a pipe; give a regular file")
        if status.st_size == 0:
            raise AudioError(f"{path}: the file is empty (0 bytes); record or copy it again")
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        reason = error.strerror or error
        raise AudioError(f"{path}: cannot be read ({reason}); check path and permissions") from None


def read_info(path: PathLike) -> WavInfo:
    """Read the header of a WAV file.

    Raises
    ------
    AudioError
        If the file cannot be read, is no WAV, is truncated, or has a codec that is not supported.
    """
    with open_file(path) as file:
        return _parse(file, path)


def read_blocks(
    path: PathLike, *, block_frames: int = _BLOCK, first: int = 0, stop: int | None = None, integers: bool = False
) -> Iterator[NDArray[Any]]:
    """Read a WAV file in pieces, in constant memory; it is opened when the first is asked for.

    Parameters
    ----------
    path : path
    block_frames : int
        Frames in a piece.
    first, stop : int
        Frame to begin with and the one to end before, by default the whole file; none beyond its end.
    integers : bool
        Give 16 bit PCM of one channel as int16, as it lies in the file.

    Yields
    ------
    numpy.ndarray of float32, shape (frames, channels)
        `block_frames` frames, fewer in the last block; full scale is -1 to 1.

    Raises
    ------
    AudioError
        As `read_info`; also where float samples are NaN or infinite.
    ConfigError
        If `block_frames` is not positive.
    """
    if block_frames < 1:
        raise ConfigError(f"block_frames is {block_frames}; it must be at least 1")
    if first < 0:
        raise ConfigError(f"first frame is {first}; it must be 0 or more")
    with open_file(path) as file:
        info = _parse(file, path)
        end = info.frames if stop is None else min(stop, info.frames)
        file.seek(info.data_offset + first * info.bytes_per_frame)
        for number in range(first, end, block_frames):
            count = min(block_frames, end - number)
            raw = file.read(count * info.bytes_per_frame)
            if len(raw) < count * info.bytes_per_frame:
                raise AudioError(f"{path}: became shorter while it was read; read it again")
            as_they_are = integers and (info.sample_format, info.channels) == ("pcm16", 1)
            samples: NDArray[Any] = _int16(raw) if as_they_are else _decode(raw, info.sample_format)
            block = samples.reshape(count, info.channels)
            if info.sample_format.startswith("float"):  # integers cannot be anything but numbers
                check_finite(block, path, number)
            yield block


def read_wav(path: PathLike) -> tuple[NDArray[np.float32], int]:
    """Read a whole WAV file: samples of shape (frames, channels) and the sample rate in Hz.

    Raises
    ------
    AudioError
        As `read_blocks`.
    """
    info = read_info(path)
    nothing = np.zeros((0, info.channels), np.float32)
    return np.concatenate([nothing, *read_blocks(path)]), info.sample_rate


def check_finite(samples: NDArray[Any], path: PathLike, first: int) -> None:
    """Raise AudioError for NaN or Inf in (frames, channels); row 0 is frame `first` of the file."""
    with np.errstate(over="ignore"):  # what float32 cannot hold counts as infinite
        finite = np.isfinite(samples.astype(np.float32, copy=False))
    if not finite.all():
        row, channel = np.argwhere(~finite)[0]
        found = f"{samples[row, channel]} at frame {first + row}, channel {channel}"
        raise AudioError(f"{path}: {found}, is no sample; repair the recording or leave it out")


def _parse(file: BinaryIO, path: PathLike) -> WavInfo:
    head = file.read(12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        raise AudioError(f"{path}: not a RIFF/WAVE file, it starts with {head!r}; convert it")
    fmt = wide = b""
    position = 12
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            raise AudioError(f"{path}: ends before its samples (no data chunk); copy it again")
        name, length = header[:4], int.from_bytes(header[4:], "little")
        position += 8
        if name == b"data":
            rate, channels, sample_format, frame = _parse_format(fmt, path)
            if length == 0xFFFFFFFF and len(wide) == 16:
                length = int.from_bytes(wide[8:], "little")
            present = os.fstat(file.fileno()).st_size - position
            after = 8 + int.from_bytes(head[4:8], "little") - position
            # Where the RIFF size covers what follows, a size of 0 is no recorder's omission but
            # an empty recording with other chunks after it.
            if length in _STREAMED and not (length == 0 and 0 < after <= present):
                length = present
            if length > present:
                sizes = f"{length} bytes and {present} are in the file"
                raise AudioError(f"{path}: truncated, its header promises {sizes}; copy it again")
            return WavInfo(rate, channels, sample_format, length // frame, position, frame)
        if name == b"fmt ":
            fmt = file.read(min(length, 40))
        elif name == b"ds64":
            wide = file.read(16)  # the RIFF size and the data size, 64 bit each
        position += length + length % 2  # a byte of padding follows a chunk of odd size
    raise AudioError(f"{path}: no data chunk among its first {_MAX_CHUNKS} chunks; convert it")


def _parse_format(fmt: bytes, path: PathLike) -> tuple[int, int, str, int]:
    """Sample rate, channels, sample format and bytes per frame."""
    if len(fmt) < 16:
        raise AudioError(f"{path}: its fmt chunk has {len(fmt)} of 16 bytes; copy it again")
    tag, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == _EXTENSIBLE and fmt[26:] == _GUID_TAIL:
        (tag,) = struct.unpack_from("<H", fmt, 24)
    if tag not in (1, 3):
        codec = f"format tag 0x{tag:04x}, {_CODECS.get(tag, 'unknown')}"
        raise AudioError(f"{path}: unsupported codec ({codec}); convert it to 16 bit PCM")
    if channels == 0 or rate == 0:
        raise AudioError(f"{path}: {channels} channels at {rate} Hz in its header; convert it")
    for name, (known_tag, known_bits, _) in _FORMATS.items():
        if (tag, bits, frame) == (known_tag, known_bits, channels * bits // 8):
            return rate, channels, name, frame
    found = f"format tag {tag}, {bits} bit, {channels} channels, {frame} bytes per frame"
    raise AudioError(f"{path}: unsupported samples ({found}); convert it to 16 bit PCM")


def _int16(raw: bytes) -> NDArray[Any]:
    return np.frombuffer(raw, "<i2").astype(np.int16, copy=False)


def _decode(raw: bytes, sample_format: str) -> NDArray[np.float32]:
    """Bytes of one of `_FORMATS` to float32, the channels still interleaved."""
    tag, bits, dtype = _FORMATS[sample_format]
    if bits == 24:  # into the upper three bytes of 32 bit, which keeps the sign
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        raw, bits = wide.tobytes(), 32
    samples = np.frombuffer(raw, dtype)
    if tag == 3:
        with np.errstate(over="ignore", invalid="ignore"):  # check_finite refuses the outcome
            return samples.astype(np.float32)
    if bits == 8:
        samples = samples.astype(np.int16) - 128
    # cast and scaled in one pass; a power of two has no rounding
    return np.multiply(samples, np.float32(2.0 ** (1 - bits)), dtype=np.float32)


def write_wav(
    path: PathLike, samples: NDArray[Any], sample_rate: int, *, sample_format: str = "pcm16"
) -> None:
    """Write a WAV file in one step: a reader sees the old file or all of the new one.

    Parameters
    ----------
    samples : numpy.ndarray of float, shape (n,) or (n, channels)
        Full scale is -1 to 1; the PCM formats round, and clip what is louder.
    sample_rate : int
        In Hz.
    sample_format : str
        pcm8, pcm16, pcm24, pcm32, float32 or float64.

    Raises
    ------
    AudioError
        If a sample is NaN or infinite, or the file cannot be written.
    ConfigError
        If the shape, the sample rate or the format cannot be written as WAV.
    """
    if sample_format not in _FORMATS:
        raise ConfigError(f"sample format {sample_format!r} is not one of {', '.join(_FORMATS)}")
    frames = samples[:, np.newaxis] if samples.ndim == 1 else samples
    if frames.ndim != 2 or frames.dtype.kind != "f" or not 0 < frames.shape[1] < 8192:
        found = f"{samples.dtype} of shape {samples.shape}"
        raise ConfigError(f"{path}: samples are {found}; give floats, (n,) or (n, channels)")
    tag, bits, _ = _FORMATS[sample_format]
    frame = frames.shape[1] * bits // 8
    length = len(frames) * frame
    if not 0 < sample_rate * frame < 2**32 or length > 2**32 - 64:
        raise ConfigError(f"{path}: {length} bytes at {sample_rate} Hz do not fit a WAV file")
    fmt = (16, tag, frames.shape[1], sample_rate, sample_rate * frame, frame, bits)
    chunks = struct.pack("<4s4sIHHIIHH", b"WAVE", b"fmt ", *fmt)
    if tag == 3:  # the standard wants the number of frames of what is not PCM
        chunks += struct.pack("<4sII", b"fact", 4, len(frames))
    chunks += struct.pack("<4sI", b"data", length)
    riff = struct.pack("<4sI", b"RIFF", len(chunks) + length + length % 2)
    blocks = [frames[first : first + _BLOCK] for first in range(0, len(frames), _BLOCK)]
    for index, block in enumerate(blocks):
        check_finite(block, path, index * _BLOCK)
    temporary = os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(riff + chunks)
            file.writelines(_encode(block, sample_format) for block in blocks)
            file.write(b"\0" * (length % 2))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise AudioError(f"{path}: cannot be written ({reason}); check folder and disk") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _encode(samples: NDArray[Any], sample_format: str) -> bytes:
    """Float samples of shape (n, channels) to the bytes of one of `_FORMATS`."""
    tag, bits, dtype = _FORMATS[sample_format]
    if tag == 3:
        return samples.astype(dtype).tobytes()
    full = 2.0 ** (bits - 1)
    # In float64, where every 32 bit integer is exact.
    numbers = np.clip(np.rint(samples.astype(np.float64) * full), -full, full - 1)
    integers = (numbers + 128 if bits == 8 else numbers).astype(dtype)
    if bits == 24:
        integers = integers.reshape(-1, 1).view(np.uint8)[:, :3]
    return bytes(integers.tobytes())
