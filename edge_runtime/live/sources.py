"""Where live sound comes from: raw PCM on a pipe, or a microphone through sounddevice. Chunks come with their time."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError, ConfigError

Int16 = NDArray[np.int16]
_QUEUE_S = 5.0  # seconds of sound that may wait for us before it is given up


@dataclass
class Chunk:
    """Sound and when it was there.

    Attributes
    ----------
    samples : np.ndarray, int16, shape (n,)
    arrived : float
        ``time.perf_counter()`` when its last sample had come.
    overruns : int
        Times that sound was lost before it, because we were too slow or the device was.
    """

    samples: Int16
    arrived: float
    overruns: int = 0


def pcm(file: BinaryIO, *, chunk: int, channels: int = 1) -> Iterator[Chunk]:
    """Read raw PCM (16 bit, little endian, interleaved channels) until it ends; an odd last byte is dropped.

    Parameters
    ----------
    file : binary file
        Such as standard input.
    chunk : int
        Samples of a channel to read at a time.
    channels : int
        Their mean is taken.
    """
    size = 2 * channels * chunk
    rest = b""
    while True:
        try:
            data = file.read1(size - len(rest)) if hasattr(file, "read1") else file.read(size - len(rest))
        except OSError as error:
            raise AudioError(f"standard input cannot be read ({error.strerror or error})") from None
        if not data and len(rest) < 2 * channels:
            return
        rest += data
        whole = len(rest) // (2 * channels) * 2 * channels
        if whole and (whole == size or not data):
            yield Chunk(_mean(np.frombuffer(rest[:whole], "<i2"), channels), time.perf_counter())
            rest = rest[whole:]


def _mean(x: NDArray[Any], channels: int) -> Int16:
    if channels == 1:
        return x.astype(np.int16)
    return np.rint(x.reshape(-1, channels).mean(axis=1)).astype(np.int16)


@contextmanager
def microphone(*, sample_rate: int, chunk: int, device: str | None = None) -> Iterator[Iterator[Chunk]]:
    """Open a microphone and give its chunks, without end.

    Raises
    ------
    ConfigError
        If sounddevice or PortAudio is not installed.
    AudioError
        If there is no such device, or it cannot give this sample rate.
    """
    try:
        sounddevice: Any = import_module("sounddevice")
    except ImportError:
        raise ConfigError("the microphone needs sounddevice; pip install 'edge-bench[listen]'") from None
    except OSError:
        raise ConfigError("sounddevice finds no PortAudio; apt install libportaudio2, or use a pipe: "
                          "arecord -f S16_LE -r 16000 | edge-bench listen -") from None  # fmt: skip
    waiting: queue.Queue[Chunk] = queue.Queue(max(2, round(_QUEUE_S * sample_rate / chunk)))
    lost = 0

    def heard(data: NDArray[Any], frames: int, times: Any, status: Any) -> None:  # in PortAudio's own thread
        nonlocal lost
        lost += bool(status.input_overflow)
        try:
            waiting.put_nowait(Chunk(data[:, 0].copy(), time.perf_counter(), lost))
            lost = 0
        except queue.Full:
            lost += 1

    def chunks() -> Iterator[Chunk]:
        while True:
            yield waiting.get()

    try:
        number: int | str | None = int(device) if device is not None and device.isdecimal() else device
        stream = sounddevice.InputStream(
            samplerate=sample_rate, blocksize=chunk, device=number, channels=1, dtype="int16", callback=heard
        )
    except (ValueError, sounddevice.PortAudioError) as error:
        raise AudioError(f"microphone {device or '(default)'} cannot be opened: {error}") from None
    with stream:
        yield chunks()
