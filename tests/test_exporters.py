"""Every format is read back by the tool that it is for, or by its own rules."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import pairwise
from pathlib import Path

import mir_eval
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime import ConfigError, Segment
from edge_runtime.exporters import FORMATS, Recording, comma, format_of, lab, rttm, webvtt, write

FOUND = (
    Segment(0.0, 1.23, "speech", 0.9876543),
    Segment(1.23, 61.5, "silence", 1.0),
    Segment(61.5, 3723.004, "music", 0.5),
    Segment(3723.004, 3724.0, "noise", 0.25),
)
RECORDING = Recording("some folder/my show, 1.wav", FOUND)

LABELS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    times = [0.0]
    for step in draw(st.lists(st.integers(1, 10_000_000), min_size=1, max_size=8)):
        times.append(round(times[-1] + step / 1000, 3))
    segments = tuple(
        Segment(a, b, draw(LABELS), draw(st.floats(0, 1))) for a, b in pairwise(times)
    )
    return Recording("a.wav", segments)


def test_json_lines() -> None:
    lines = [json.loads(line) for line in format_of("jsonl").render(RECORDING).splitlines()]
    assert lines[0] == {
        "schema": "edge-bench/segment/1", "file": RECORDING.file, "start_s": 0.0, "end_s": 1.23, "label": "speech",
        "confidence": 0.987654,
    }  # fmt: skip
    assert [Segment(x["start_s"], x["end_s"], x["label"], 0) for x in lines] == [
        Segment(s.start_s, s.end_s, s.label, 0) for s in FOUND
    ]


@given(recordings())
def test_csv(recording: Recording) -> None:
    rows = list(csv.DictReader(io.StringIO(comma.render(recording), newline="")))
    assert [(float(r["start_s"]), float(r["end_s"]), r["label"]) for r in rows] == [
        (s.start_s, s.end_s, s.label) for s in recording.segments
    ]
    assert {r["file"] for r in rows} == {"a.wav"}


def test_audacity() -> None:
    lines = format_of("audacity").render(RECORDING).splitlines()
    assert lines[2] == "61.500000\t3723.004000\tmusic" and len(lines) == len(FOUND)


def test_rttm() -> None:
    """Ten fields a line; silence is what is not listed."""
    lines = [line.split(" ") for line in rttm.render(RECORDING).splitlines()]
    assert [len(line) for line in lines] == [10, 10, 10]
    assert lines[0] == ["SPEAKER", "my_show,_1", "1", "0.000", "1.230", "<NA>", "<NA>", "speech", "0.988", "<NA>"]
    assert float(lines[1][3]) + float(lines[1][4]) == pytest.approx(3723.004)


def test_lab_by_mir_eval(tmp_path: Path) -> None:
    write(tmp_path / "a.lab", RECORDING, "lab")
    intervals, labels = mir_eval.io.load_labeled_intervals(str(tmp_path / "a.lab"))
    np.testing.assert_allclose(intervals, [(s.start_s, s.end_s) for s in FOUND])
    assert labels == [s.label for s in FOUND]
    assert lab.render(Recording("a", (Segment(0, 1, "two words", 1),))) == "0.000000 1.000000 two_words\n"


def test_textgrid_by_praatio(tmp_path: Path) -> None:
    textgrid = pytest.importorskip("praatio.textgrid")
    write(tmp_path / "a.TextGrid", RECORDING, "textgrid")
    tier = textgrid.openTextgrid(str(tmp_path / "a.TextGrid"), includeEmptyIntervals=True).getTier("class")
    assert [(e.start, e.end, e.label) for e in tier.entries] == [(s.start_s, s.end_s, s.label) for s in FOUND]
    with pytest.raises(ConfigError, match="no segments"):
        format_of("textgrid").render(Recording("a", ()))


@given(recordings())
def test_webvtt(recording: Recording) -> None:
    header, *cues = webvtt.render(recording).split("\n\n")
    assert header == "WEBVTT"
    shown = [s for s in recording.segments if s.label != "silence"]
    assert len(cues) == len(shown)
    for cue, s in zip(cues, shown, strict=True):
        times, text = cue.rstrip("\n").split("\n", 1)
        match = re.fullmatch(r"(\d{2,}):(\d\d):(\d\d)\.(\d{3}) --> (\d{2,}):(\d\d):(\d\d)\.(\d{3})", times)
        assert match
        h, m, sec, ms, *_ = (int(g) for g in match.groups())
        assert 3600 * h + 60 * m + sec + ms / 1000 == pytest.approx(s.start_s, abs=1e-6) and m < 60 and sec < 60
        assert "-->" not in text and "<" not in text


def test_unknown_format_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format 'xml' is unknown, must be one of jsonl, csv"):
        format_of("xml")
    for name in FORMATS:
        if name != "textgrid":
            write(tmp_path / "new" / "a", RECORDING, name)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a"]
