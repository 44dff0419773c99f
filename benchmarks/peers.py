"""Other people's networks, with the front ends that they need, to be timed beside ours.

A peer is a file (``.tflite`` or ``.onnx``), a front end, and how often an application would run it: the window that its
input covers and the step to the next. A clip is given to it window by window, so all are asked about the same sound.
They answer different questions, which `answers` says; a time is no verdict on what it is worth.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError, FrontEndConfig

NONE, OURS = "none", "ours"
KINDS = {"log-mel": "log_mel", "mfcc": "mfcc", "power": "power"}


@dataclass(frozen=True)
class Peer:
    """What to run and how.

    Attributes
    ----------
    name, file : str
    front_end : str
        ``none`` (the network takes samples), ``ours``, or ``log-mel``, ``mfcc``, ``power`` with settings behind it:
        ``mfcc,mel_bands=40,coefficients=10,hop_length=320``; ``yamnet`` is that network's own.
    step_s : float, optional
        Seconds from one window to the next; without it windows do not overlap.
    answers : str
        What the network says, in words.
    window : int, optional
        Samples of a window where the file does not tell.
    """

    name: str
    file: str
    front_end: str
    step_s: float | None = None
    answers: str = ""
    window: int | None = None


def known() -> dict[str, str]:
    """Return the worked examples: name and where its file comes from."""
    return {
        "yamnet": "yamnet_spectra_in.tflite in $EDGE_BENCH_WEIGHTS (google-coral/coralmicro)",
        "mlperf-kws": "mlperf_tiny_kws_int8.tflite in $EDGE_BENCH_WEIGHTS (mlcommons/tiny)",
        "silero": "pip install onnxruntime; pip install --no-deps silero-vad",
    }


def find(text: str) -> Peer:
    """Return a peer by the name of an example, or from ``FILE`` or ``FILE:FRONT_END``.

    Raises
    ------
    ConfigError
        If the name is unknown, its file is not here, or the front end makes no sense.
    """
    if text == "yamnet":
        return Peer("yamnet", _weights("yamnet_spectra_in.tflite", text), "yamnet", 0.48, "521 sounds every 0.48 s")
    if text == "mlperf-kws":
        front_end = "mfcc,frame_length=480,hop_length=320,mel_bands=40,coefficients=10,fmin=20,fmax=4000"
        return Peer(text, _weights("mlperf_tiny_kws_int8.tflite", text), front_end, 1.0, "12 words every second")
    if text == "silero":
        return Peer("silero", _silero(), NONE, None, "speech or not every 32 ms", 512)
    path, _, front_end = text.partition(":")
    if Path(path).suffix not in (".tflite", ".onnx"):
        raise ConfigError(f"--against {text}: is none of {', '.join(known())} and no .tflite or .onnx file")
    if not Path(path).is_file():
        raise ConfigError(f"--against {path}: no such file")
    front_end = front_end or NONE
    if front_end != OURS:
        configuration(front_end)
    return Peer(Path(path).stem, path, front_end)


def configuration(front_end: str) -> FrontEndConfig | None:
    """Return the configuration of a front end's text; None for ``none``.

    Raises
    ------
    ConfigError
        If the kind or a setting is unknown.

    Examples
    --------
    >>> configuration("mfcc,coefficients=10").features
    10
    """
    if front_end == NONE:
        return None
    if front_end == "yamnet":
        return FrontEndConfig(kind="power", mel_bands=64, mel_scale="htk", mel_norm="none", fmin=125.0, fmax=7500.0)
    kind, *settings = front_end.split(",")
    if kind not in KINDS:
        raise ConfigError(f"front end {kind!r} is unknown, must be one of {', '.join((NONE, OURS, *KINDS))}")
    values: dict[str, Any] = {}
    numbers = {f.name for f in fields(FrontEndConfig) if f.type in ("int", "float")}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in numbers:
            raise ConfigError(f"front end {front_end!r}: {setting!r} is no setting, such as mel_bands=40")
        try:
            values[key] = float(value) if key in ("fmin", "fmax", "power_floor") else int(value)
        except ValueError:
            raise ConfigError(f"front end {front_end!r}: {value!r} is no number for {key}") from None
    return FrontEndConfig(kind=KINDS[kind], **values)


def _weights(name: str, peer: str) -> str:
    folder = os.environ.get("EDGE_BENCH_WEIGHTS", "")
    path = Path(folder) / name
    if not folder or not path.is_file():
        raise ConfigError(f"--against {peer}: needs {known()[peer]}, which is not here")
    return str(path)


def _silero() -> str:
    here = importlib.util.find_spec("silero_vad")  # not imported: that would want torch
    path = Path(here.origin).parent / "data" / "silero_vad.onnx" if here and here.origin else None
    if path is None or not path.is_file() or importlib.util.find_spec("onnxruntime") is None:
        raise ConfigError(f"--against silero: {known()['silero']}")
    return str(path)
