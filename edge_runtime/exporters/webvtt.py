"""WebVTT: captions for a player in a browser. Silence has no caption."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..segments import SILENCE

if TYPE_CHECKING:
    from . import Recording

SUFFIX = ".vtt"


def render(recording: Recording) -> str:
    """Return the captions; a label and its confidence in percent each."""
    cues = [
        f"{_time(s.start_s)} --> {_time(s.end_s)}\n{_text(s.label)} {100 * s.confidence:.0f} %\n"
        for s in recording.segments
        if s.label != SILENCE
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _time(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _text(label: str) -> str:
    """Return a label as cue text, where <, > and & have a meaning."""
    return label.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
