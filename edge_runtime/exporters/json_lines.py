"""JSON lines: one object a segment, as ``edge-bench segment --json`` prints them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import Recording

SUFFIX = ".jsonl"
SCHEMA = "edge-bench/segment/1"


def render(recording: Recording) -> str:
    """Return the lines."""
    lines = [
        {"schema": SCHEMA, "file": recording.file, "start_s": s.start_s, "end_s": s.end_s, "label": s.label,
         "confidence": round(s.confidence, 6)}
        for s in recording.segments
    ]  # fmt: skip
    return "".join(json.dumps(line) + "\n" for line in lines)
