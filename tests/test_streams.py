"""Generated streams: planned by seed, labelled where they change, the same bytes again, finished after a break."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
from click.testing import CliRunner

from edge_bench.benchmarks.cli import group
from edge_bench.train import corpus, stream_files, streams
from edge_bench.train.stream_files import read_folder, read_labels, write_streams
from edge_runtime import CorpusError, EdgeBenchError, audio
from edge_runtime.segments import SILENCE

LABELS = (SILENCE, *helpers.CLASSES)


def sources(count: int = 40, seconds: float = 4.0) -> dict[str, tuple[streams.Source, ...]]:
    """Many short recordings of a constant each, so that a stream tells where its pieces come from."""
    made = {}
    for number, label in enumerate(LABELS):
        made[label] = tuple(
            streams.Source(f"{label}{i}", np.full(round(seconds * streams.RATE), 100 * number + 1, np.int16))
            for i in range(count)
        )
    return made


@pytest.fixture(scope="module")
def data(corpus_root: Path) -> corpus.Corpus:
    return corpus.load(corpus_root)


@pytest.fixture(scope="module")
def folder(data: corpus.Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("streams")
    write_streams(data, "validation", out, count=3, seed=7, workers=1)
    return out


@pytest.mark.parametrize("number", range(8))
def test_a_plan_keeps_what_the_module_promises(number: int) -> None:
    have = sources()
    planned = streams.plan(have, 3, number)
    assert planned == streams.plan(have, 3, number) != streams.plan(have, 4, number)
    samples, intervals = streams.render(planned, have)
    assert 20 - 1 <= len(samples) / streams.RATE <= 120 + 0.1
    assert intervals[0][0] == 0 and intervals[-1][1] == len(samples) / streams.RATE
    assert all(a[1] == b[0] and a[2] != b[2] for a, b in pairwise(intervals))
    assert all(b > a for a, b, _ in intervals)
    used = [(s.label, p.source) for s in planned for p in s.pieces]
    assert len(used) == len(set(used)), "no recording twice while there are others"
    assert planned[0].fade == 0


def test_the_stretches_have_the_lengths_of_the_paper_and_half_of_the_transitions_are_abrupt() -> None:
    have = sources(count=60, seconds=30.0)
    plans = [streams.plan(have, 0, n) for n in range(150)]
    for label, mean in streams.MEAN_S.items():
        chosen = [s for plan in plans for s in plan[:-1] if s.label == label]
        lengths = [sum(p.length for p in s.pieces) / streams.RATE for s in chosen]
        assert np.mean(lengths) == pytest.approx(mean, rel=0.12), label
    fades = [s.fade for plan in plans for s in plan[1:]]
    assert np.mean(np.array(fades) == 0) == pytest.approx(0.5, abs=0.06)
    assert max(fades) <= streams.RATE


def test_one_short_recording_is_repeated_when_there_is_no_other() -> None:
    planned = streams.plan(sources(count=1, seconds=1.0), 0, 0)
    samples, _ = streams.render(planned, sources(count=1, seconds=1.0))
    assert len(samples) > 19 * streams.RATE


def test_a_cross_fade_keeps_power_and_the_boundary_is_its_middle() -> None:
    rng = np.random.default_rng(0)
    noise = (3000 * rng.standard_normal((2, 5 * streams.RATE))).astype(np.int16)
    have = {"speech": (streams.Source("a", noise[0]),), "music": (streams.Source("b", noise[1]),)}
    whole = streams.Piece(0, 0, 5 * streams.RATE)
    plan = (streams.Stretch("speech", (whole,), -20.0, 0), streams.Stretch("music", (whole,), -20.0, streams.RATE))
    samples, intervals = streams.render(plan, have)
    assert intervals == [(0.0, 4.5, "speech"), (4.5, 9.0, "music")]
    parts = [streams.level(samples[round(a * 16000) : round((a + 0.2) * 16000)]) for a in (1, 4.0, 4.4, 4.8, 6)]
    assert parts == pytest.approx([-20] * 5, abs=0.4)


def test_quiet_parts_are_what_silence_removal_leaves_out_but_no_zeros() -> None:
    rng = np.random.default_rng(1)
    tone = (1e-4 * rng.standard_normal(16000)).astype(np.float32)
    zeros = np.zeros(16000, np.float32)
    x = np.concatenate([helpers.speech(2, 0), tone, helpers.speech(2, 1), zeros, helpers.speech(1)])
    parts = streams.quiet_parts(x)
    assert len(parts) == 1 and 0.6 * 16000 < len(parts[0]) <= 16000
    assert streams.level(parts[0]) == pytest.approx(-80, abs=1)


def test_room_tone_is_the_quietest_stretch_brought_down() -> None:
    x = helpers.noise(2.0, 3)
    x[8000:16000] *= 0.05
    part = streams.quietest_part(x)
    assert len(part) == 4800 and streams.level(part) <= -59.9
    assert not len(streams.quietest_part(x[:100]))


def test_the_same_seed_gives_the_same_bytes(data: corpus.Corpus, folder: Path, tmp_path: Path) -> None:
    manifest = write_streams(data, "validation", tmp_path / "again", count=2, seed=7, workers=1)
    for entry in manifest["files"]:
        for name in (entry["file"], entry["labels"]):
            assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    other = write_streams(data, "validation", tmp_path / "other", count=1, seed=8, workers=1)
    assert other["files"][0]["sha256"] != manifest["files"][0]["sha256"]


def test_the_manifest_names_recordings_of_the_split_only(data: corpus.Corpus, folder: Path) -> None:
    manifest = json.loads((folder / "streams.json").read_text())
    assert (manifest["split"], manifest["seed"], manifest["corpus"]) == ("validation", 7, data.revision())
    of_split = {r.name: r.label for r in data.split("validation")}
    for entry in manifest["files"]:
        assert entry["seconds"] == pytest.approx(len(audio.load(folder / entry["file"])) / 16000, abs=1e-3)
        for segment in entry["segments"]:
            for name in segment["recordings"]:
                assert name in of_split and segment["label"] in (SILENCE, of_split[name])


def test_what_is_heard_is_what_the_labels_say(folder: Path) -> None:
    for file in read_folder(folder, LABELS).files:
        x = audio.load(file.audio)
        assert np.abs(x).max() <= 0.96
        for start, end, label in file.intervals:
            middle = x[round((start + end) / 2 * 16000) :][:160]
            if label == SILENCE:
                assert streams.level(middle) < -45


def test_an_interrupted_run_goes_on_and_an_altered_stream_is_made_again(
    data: corpus.Corpus, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_streams(data, "validation", out, count=2, seed=7, workers=1)
    kept = (out / "stream-0000.wav").stat().st_mtime_ns
    (out / "stream-0001.wav").write_bytes(b"damaged")
    with pytest.raises(CorpusError, match=r"stream-0001.wav: is missing or was altered"):
        read_folder(out, LABELS)
    write_streams(data, "validation", out, count=3, seed=7, workers=1)
    assert (out / "stream-0000.wav").stat().st_mtime_ns == kept
    for path in folder.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_a_folder_of_other_streams_is_left_alone(data: corpus.Corpus, folder: Path) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(CorpusError, match="holds streams of another seed"):
        write_streams(data, "validation", folder, count=3, seed=1, workers=1)
    with pytest.raises(CorpusError, match="at least 1"):
        write_streams(data, "validation", folder, count=0, workers=1)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_one_clear_line(data: corpus.Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EdgeBenchError, match=r"file.*cannot be written"):
        write_streams(data, "validation", tmp_path / "file" / "out", count=1, workers=1)


def test_labels_are_read_as_audacity_and_mir_eval_write_them(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeff0.0\t1.5\tspeech\n\\\t100.0\t8000.0\n\n1.5 2.25 music\r\n", encoding="utf-8")
    assert read_labels(path, LABELS) == ((0.0, 1.5, "speech"), (1.5, 2.25, "music"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 1 jingle", "line 1: label 'jingle' is not one of"), ("0 1", "expected start, end and label"),
        ("a b speech", "expected start"), ("2 1 speech", "is empty or overlaps"),
        ("0 2 speech\n1 3 music", "line 2: 1.0 to 3.0 s is empty or overlaps"), ("nan 1 speech", "is empty"),
        ("", "holds no interval"),
    ],
)  # fmt: skip
def test_labels_that_make_no_sense_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.lab"
    path.write_text(text)
    with pytest.raises(CorpusError, match=says):
        read_labels(path, LABELS)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [("{", "cannot be read"), ("[]", "is no manifest"), ('{"schema": "other"}', "is no manifest")],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, manifest: str, says: str) -> None:
    (tmp_path / "streams.json").write_text(manifest)
    with pytest.raises(CorpusError, match=says):
        read_folder(tmp_path, LABELS)


def test_folders_without_streams_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such folder"):
        read_folder(tmp_path / "none", LABELS)
    with pytest.raises(CorpusError, match=r"no streams.json, and no recording"):
        read_folder(tmp_path, LABELS)
    (tmp_path / "streams.json").write_text(json.dumps({"schema": stream_files.SCHEMA, "files": []}))
    with pytest.raises(CorpusError, match="not finished"):
        read_folder(tmp_path, LABELS)


def test_the_command_makes_streams_and_says_so(corpus_root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    out = tmp_path / "out"
    arguments = ["streams", "--corpus", str(corpus_root), "--out", str(out), "--count", "1"]
    done = CliRunner().invoke(group, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and "1 streams" in done.output
    assert sorted(p.name for p in out.iterdir()) == ["stream-0000.lab", "stream-0000.wav", "streams.json"]
