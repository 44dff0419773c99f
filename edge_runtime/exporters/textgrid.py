"""Praat's TextGrid in its long form, one interval tier, through praatio (``pip install 'edge-bench[segment]'``)."""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from . import Recording

SUFFIX = ".TextGrid"
TIER = "class"


def render(recording: Recording) -> str:
    """Return the text.

    Raises
    ------
    ConfigError
        If praatio is not installed, or there are no segments.
    """
    try:
        praat = import_module("praatio.textgrid")
    except ImportError:
        raise ConfigError("TextGrid needs praatio, which is not installed; pip install praatio") from None
    if not recording.segments:
        raise ConfigError(f"{recording.file}: has no segments; a TextGrid holds at least one")
    begin, end = recording.segments[0].start_s, recording.segments[-1].end_s
    grid = praat.Textgrid(begin, end)
    grid.addTier(praat.IntervalTier(TIER, [(s.start_s, s.end_s, s.label) for s in recording.segments], begin, end))
    with tempfile.TemporaryDirectory() as folder:  # praatio writes files only
        path = Path(folder) / "a.TextGrid"
        grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)
        return path.read_text(encoding="utf-8")
