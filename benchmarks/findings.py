"""One line of an examination by ``edge-bench doctor``."""

from __future__ import annotations

from dataclasses import dataclass

FINE, NOTE, BAD = "fine", "note", "bad"


@dataclass(frozen=True)
class Finding:
    """Fine, a note or bad; what was found; what to do about it (empty when fine)."""

    subject: str
    state: str
    found: str
    remedy: str = ""
