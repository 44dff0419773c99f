"""Comma-separated values with a header, for spreadsheets and pandas."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import Recording

SUFFIX = ".csv"


def render(recording: Recording) -> str:
    """Return header and rows, lines ended by a line feed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["file", "start_s", "end_s", "label", "confidence"])
    for s in recording.segments:
        writer.writerow([recording.file, f"{s.start_s:.6f}", f"{s.end_s:.6f}", s.label, f"{s.confidence:.4f}"])
    return out.getvalue()
