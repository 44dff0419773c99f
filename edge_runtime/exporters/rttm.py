"""Rich Transcription Time Marked (NIST RT-09, appendix A): what diarisation tools read. Silence is what is not listed.

Fields: type, file, channel, start, duration, orthography, speaker type, name, confidence, look-ahead; ``<NA>`` for
none. Names hold no blanks, so blanks become underscores; the file is named without folder and suffix, as usual there.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from ..segments import SILENCE

if TYPE_CHECKING:
    from . import Recording

SUFFIX = ".rttm"


def render(recording: Recording) -> str:
    """Return the lines."""
    file = _word(PurePath(recording.file).stem)
    return "".join(
        f"SPEAKER {file} 1 {s.start_s:.3f} {s.end_s - s.start_s:.3f} <NA> <NA> {_word(s.label)} "
        f"{s.confidence:.3f} <NA>\n"
        for s in recording.segments
        if s.label != SILENCE
    )


def _word(text: str) -> str:
    return "_".join(text.split()) or "_"
