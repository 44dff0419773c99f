"""mir_eval's .lab (``mir_eval.io.load_labeled_intervals``): start, end and label, separated by blanks.

A label may hold no blank there, so blanks become underscores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import Recording

SUFFIX = ".lab"


def render(recording: Recording) -> str:
    """Return the lines."""
    return "".join(f"{s.start_s:.6f} {s.end_s:.6f} {'_'.join(s.label.split())}\n" for s in recording.segments)
