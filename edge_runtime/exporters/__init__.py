"""Segments in the formats that other tools read; one small module each.

A format has a ``SUFFIX`` for its files and a ``render(Recording) -> str``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from ..files import write_aside
from ..segments import Segment
from . import audacity, comma, json_lines, lab, rttm, textgrid, webvtt


@dataclass(frozen=True)
class Recording:
    """What is written.

    Attributes
    ----------
    file : str
        Name of the recording, as the user gave it.
    segments : tuple of Segment
        Contiguous and in order.
    """

    file: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Format:
    """A way to write segments."""

    suffix: str
    render: Callable[[Recording], str]


FORMATS = {
    "jsonl": Format(json_lines.SUFFIX, json_lines.render),
    "csv": Format(comma.SUFFIX, comma.render),
    "audacity": Format(audacity.SUFFIX, audacity.render),
    "rttm": Format(rttm.SUFFIX, rttm.render),
    "textgrid": Format(textgrid.SUFFIX, textgrid.render),
    "lab": Format(lab.SUFFIX, lab.render),
    "webvtt": Format(webvtt.SUFFIX, webvtt.render),
}


def format_of(name: str) -> Format:
    """Return a format by its name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in FORMATS:
        raise ConfigError(f"format {name!r} is unknown, must be one of {', '.join(FORMATS)}")
    return FORMATS[name]


def write(path: Path, recording: Recording, name: str) -> None:
    """Write segments to a file in the format `name`; a reader sees the old file or all of the new one."""
    text = format_of(name).render(recording)
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="")
