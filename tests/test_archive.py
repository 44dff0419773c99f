"""Many recordings: what cannot be used is said and the others are done, however the work is cut and whoever does it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
from click.testing import CliRunner

from edge_runtime import ConfigError, Segment, Segmentation, Segmenter, Smoothing
from edge_runtime.archive import inputs, work
from edge_runtime.archive.cli import segment
from edge_runtime.archive.engines import Pool, Serial
from edge_runtime.archive.outputs import Outputs
from edge_runtime.archive.run import Archive
from edge_runtime.archive.work import Done, Failed, Job
from edge_runtime.wav import read_blocks, write_wav

RATE = 16000
MODEL = "swishnet-slim-int8"
QUICK = Segmentation(Smoothing(delay=20, median=41, silence_dbfs=-55.0))


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    parts = [
        [helpers.speech, helpers.music, helpers.noise][i % 3](1.7, seed + i) for i in range(int(seconds / 1.7) + 1)
    ]
    return np.concatenate(parts)[: round(seconds * RATE)]


@pytest.fixture
def job() -> Job:
    return Job.of(MODEL, QUICK)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three good recordings of different kinds and one of every mistake."""
    root = tmp_path / "archive"
    (root / "deep").mkdir(parents=True)
    write_wav(root / "a.wav", sound(3.0), RATE)
    write_wav(root / "deep" / "a.wav", sound(4.0, 7), RATE)
    stereo = np.stack([sound(2.0, 3), sound(2.0, 4)], axis=1)
    write_wav(root / "stereo48.wav", np.repeat(stereo, 3, axis=0), 48000, sample_format="pcm24")
    write_wav(root / "slow8.wav", sound(2.0, 5)[::2], 8000)
    write_wav(root / "float.wav", sound(1.0, 6), RATE, sample_format="float32")
    (root / "zero.wav").write_bytes(b"")
    write_wav(root / "one.wav", np.zeros(1, np.float32), RATE)
    (root / "cut.wav").write_bytes((root / "a.wav").read_bytes()[:30])
    (root / "text.wav").write_text("this is no sound")
    nan = bytearray((root / "float.wav").read_bytes())
    nan[-8:-4] = np.float32(np.nan).tobytes()
    (root / "nan.wav").write_bytes(nan)
    (root / "a.copy").write_bytes((root / "a.wav").read_bytes())
    (root / "notes.txt").write_text("not looked at")
    return root


GOOD = ("a.wav", "deep/a.wav", "float.wav", "slow8.wav", "stereo48.wav")
BAD = ("cut.wav", "nan.wav", "one.wav", "text.wav", "zero.wav")


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(segment, [str(a) for a in arguments])


def test_what_arguments_mean(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, refused = inputs.find([str(tree)])
    assert [s.name for s in found] == ["a", "cut", "float", "nan", "one", "slow8", "stereo48", "text", "zero", "deep/a"]
    assert refused == []
    monkeypatch.chdir(tree)
    found, refused = inputs.find(["a.wav", "a.copy", "./a.wav", "**/a.wav", "none*.wav", "missing.wav"])
    assert [(s.path, s.name) for s in found] == [("a.wav", "a.wav"), ("a.copy", "a.copy"), ("deep/a.wav", "a.wav-2")]
    assert [r.message for r in refused] == [
        "none*.wav: no file matches; check the path", "missing.wav: no such file or folder; check the path",
    ]  # fmt: skip
    (tree / "empty").mkdir()
    assert "holds no recordings" in inputs.find(["empty"])[1][0].message


def test_a_folder_without_permission(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tree / "deep"
    if os.geteuid() == 0:  # may read all folders; what the system says to others is put in its mouth
        scandir = os.scandir

        def refusing(path: Any) -> Any:
            if Path(path) == closed:
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refusing)
    else:
        closed.chmod(0)
    found, refused = inputs.find([str(tree)])
    assert [r.message for r in refused] == [f"{closed}: cannot be read (Permission denied); check its permissions"]
    assert "a" in [s.name for s in found]


def test_bad_files_are_named_and_the_others_done(tree: Path, tmp_path: Path) -> None:
    done = run(tree, tree / "a.copy", "--json", tmp_path / "all.jsonl")
    assert done.exit_code == 2
    lines = [json.loads(x) for x in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert {x["file"] for x in lines} == {str(tree / n) for n in (*GOOD, "a.copy")}
    errors = [x for x in done.stderr.splitlines() if x.startswith("edge-bench: ")]
    assert sorted(e.split(": ")[1] for e in errors) == sorted(str(tree / n) for n in BAD)
    assert "6 segmented, 5 failed: 15.0 s of sound" in done.stderr
    with Segmenter(MODEL) as segmenter:
        expected = segmenter.segment_file(tree / "a.wav")
    mine = [x for x in lines if x["file"] == str(tree / "a.wav")]
    assert [(x["start_s"], x["end_s"], x["label"]) for x in mine] == [(s.start_s, s.end_s, s.label) for s in expected]
    assert run(tree / "a.wav").exit_code == 0
    assert run(tree / "zero.wav").exit_code == 2


def test_a_file_that_vanishes(tree: Path, job: Job) -> None:
    source = inputs.find([str(tree / "a.wav")])[0][0]
    (tree / "a.wav").unlink()
    (outcome,) = Archive(job, Serial()).run([source])
    assert isinstance(outcome.result, Failed) and "No such file" in outcome.result.message
    path = str(tree / "deep" / "a.wav")
    blocks = work.cut(path, job.bundle, 64)
    assert blocks is None  # too short for blocks of 512
    write_wav(path, sound(25.0), RATE)
    blocks = work.cut(path, job.bundle, 512)
    assert blocks is not None
    write_wav(path, sound(2.0), RATE)
    assert isinstance(work.answer_block(job, path, blocks.blocks[-1]), Failed)


def test_what_goes_wrong_under_way_is_said_and_counted(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One folder is closed, one file vanishes after it was found, one has another format than its name says."""
    (tree / "shut").mkdir()
    scandir, find = os.scandir, inputs.find

    def refusing(path: Any) -> Any:
        if Path(path) == tree / "shut":  # to root all folders are open
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    def vanishing(arguments: Any) -> Any:
        found = find(arguments)
        (tree / "deep" / "a.wav").unlink()
        return found

    monkeypatch.setattr(os, "scandir", refusing)
    monkeypatch.setattr(inputs, "find", vanishing)
    (tree / "video.wav").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
    done = run(tree, "--out", tmp_path / "out", "--format", "csv")
    assert done.exit_code == 2
    errors = [x.removeprefix("edge-bench: ") for x in done.stderr.splitlines() if x.startswith("edge-bench: ")]
    assert len(errors) == len(BAD) + 3
    for path, message in (
        ("shut", "cannot be read (Permission denied); check its permissions"),
        ("deep/a.wav", "cannot be read (No such file or directory); check path and permissions"),
        ("video.wav", "format MP4 "),
    ):
        assert any(e.startswith(f"{tree / path}: {message}") for e in errors), (path, errors)
    good = sorted(set(GOOD) - {"deep/a.wav"})
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.csv")) == [g.replace(".wav", ".csv") for g in good]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["segmented"], summary["failed"]) == (len(good), len(errors)) and summary["errors"] == errors


@pytest.mark.parametrize("name", ["swishnet-slim-int8", "swishnet-slim-float32"])
def test_blocks_give_the_segments_of_the_whole(name: str, tmp_path: Path) -> None:
    x = sound(41.3)
    write_wav(tmp_path / "long.wav", x, RATE)
    job = Job.of(name, QUICK)
    source = inputs.Source(str(tmp_path / "long.wav"), "long")
    heard: list[float] = []
    (whole,) = Archive(job, Serial()).run([source])
    pieces = work.cut(source.path, job.bundle, 512)
    assert pieces is not None and len(pieces.blocks) == 8
    (cut,) = Archive(job, Serial(), block_frames=512, progress=heard.append).run([source])
    assert cut == whole
    assert isinstance(cut.result, Done) and cut.result.seconds == pytest.approx(41.3)
    assert sum(heard) == pytest.approx(41.3, abs=0.03)


class Backwards(Serial):
    """Gives results in the worst order."""

    window = 5

    def take(self) -> tuple[Any, Any]:
        key, function, arguments = self._calls.pop()
        return key, function(*arguments)


def test_the_order_of_answers_does_not_matter(tmp_path: Path, job: Job) -> None:
    sources = []
    for number, seconds in enumerate((31.0, 1.0, 52.0, 2.0)):
        write_wav(tmp_path / f"{number}.wav", sound(seconds, number), RATE)
        sources.append(inputs.Source(str(tmp_path / f"{number}.wav"), str(number)))
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    expected = {o.source.name: o.result for o in Archive(job, Serial(), block_frames=512).run(sources)}
    found = [(o.source.name, o.result) for o in Archive(job, Backwards(), block_frames=512).run(sources)]
    assert len(found) == 4 and dict(found) == expected


def test_a_late_block_does_not_let_the_others_pile_up(tmp_path: Path, job: Job) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(RATE * 5 * 60, np.float32), RATE)
    most = 0

    class Late(Serial):
        window = 2

        def take(self) -> tuple[Any, Any]:
            nonlocal most
            first = len(self._calls) == 1  # the first block comes only when there is nothing else
            key, function, arguments = self._calls.pop(0 if first else 1)
            most = max(most, key[1])
            return key, function(*arguments)

    (outcome,) = Archive(job, Late(), block_frames=512).run([inputs.Source(str(tmp_path / "a.wav"), "a")])
    assert isinstance(outcome.result, Done) and most > 50
    assert outcome.result.segments == (Segment(0.0, 300.0, "silence", 1.0),)


def kill_once(marker: str, path: str) -> str:
    """Die at the first call."""
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path


def kill_always(marker: str, path: str) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return path


def fine(marker: str, path: str) -> str:
    return path


@pytest.mark.slow
def test_a_pool_outlives_its_workers(tmp_path: Path) -> None:
    pool = Pool(2)
    marker = str(tmp_path / "marker")
    calls = {0: fine, 1: kill_once, 2: fine, 3: kill_always, 4: fine, 5: fine}
    for key, function in calls.items():
        pool.submit(key, function, marker, f"{key}.wav")
    found = dict(pool.take() for _ in calls)
    pool.close()
    assert isinstance(found.pop(3), Failed)
    assert found == {key: f"{key}.wav" for key in (0, 1, 2, 4, 5)}


def test_outputs_and_going_on(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(tree, "--out", out, "--format", "csv", "--format", "lab", "--json", tmp_path / "1.jsonl")
    assert first.exit_code == 2
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert names == sorted(
        ["manifest.jsonl", "summary.json"]
        + [f"{n.removesuffix('.wav')}{suffix}" for n in GOOD for suffix in (".csv", ".lab")]
    )
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["segmented"], summary["from_earlier_runs"], summary["failed"]) == (5, 0, 5)
    assert sum(summary["seconds_by_label"].values()) == pytest.approx(summary["seconds"])
    # a crash: half a line at the end, one output missing, one recording changed
    with (out / "manifest.jsonl").open("ab") as file:
        file.write(b'{"path": "half')
    (out / "a.csv").unlink()
    write_wav(tree / "float.wav", sound(1.5, 9), RATE)
    os.utime(tree / "float.wav", ns=(1, 1))
    second = run(tree, "--out", out, "--format", "lab", "--format", "csv", "--json", tmp_path / "2.jsonl")
    assert second.exit_code == 2
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["segmented"], summary["from_earlier_runs"], summary["failed"]) == (2, 3, 5)
    before, after = (
        [x for x in (tmp_path / f"{i}.jsonl").read_text().splitlines() if "float.wav" not in x] for i in (1, 2)
    )
    assert before == after
    for bad in (["--format", "csv"], ["--format", "csv", "--format", "lab", "--unknown", "0.5"]):
        other = run(tree, "--out", out, *bad)
        assert "was begun with another model" in str(other.exception)


def test_one_run_at_a_time_uses_a_folder(tmp_path: Path, job: Job) -> None:
    outputs = Outputs(tmp_path, job, ["csv"])
    with pytest.raises(ConfigError, match="another run is writing there"):
        Outputs(tmp_path, job, ["csv"])
    outputs.close()
    Outputs(tmp_path, job, ["csv"]).close()
    (tmp_path / "manifest.jsonl").write_text("nonsense\n")
    with pytest.raises(ConfigError, match="is damaged"):
        Outputs(tmp_path, job, ["csv"])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written to"):
        Outputs(tmp_path / "file" / "below", job, ["csv"])


def test_frames_and_picture(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = run(tree / "deep" / "a.wav", "--frames", tmp_path / "f.npz", "--plot", tmp_path / "p.png")
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "f.npz", allow_pickle=False) as found:
        assert found["probabilities"].shape == found["smoothed"].shape == (398, 3)
        np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, atol=1e-5)
        assert float(found["hop_s"]) == 0.01 and found["classes"].tolist() == ["speech", "music", "noise"]
        assert found["labels"].shape == found["dbfs"].shape == (398,) and found["labels"].min() >= -1
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert "--plot show one recording; 10 were given" in str(run(tree, "--plot", tmp_path / "q.png").exception)
    assert run(tree / "zero.wav", "--plot", tmp_path / "q.png").exit_code == 2
    assert not (tmp_path / "q.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "csv"], "give --out"),
        (["--address", "auto"], "--engine ray"),
        (["--out", "OUT", "--format", "xml"], "format 'xml' is unknown"),
        (["--smoothing", "/nope.json"], "cannot be read"),
        (["--model", "/nope.tflite"], "no such file"),
    ],
)
def test_mistakes(tree: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run(tree / "a.wav", *[str(tmp_path / "out") if a == "OUT" else a for a in arguments])
    assert done.exit_code and message in str(done.exception)
    assert not (tmp_path / "out" / "a.jsonl").exists()


def test_part_of_a_wav(tmp_path: Path) -> None:
    x = np.arange(1000, dtype=np.float32) / 1000
    write_wav(tmp_path / "a.wav", x, RATE, sample_format="float32")
    got = np.concatenate(list(read_blocks(tmp_path / "a.wav", block_frames=64, first=100, stop=731)))[:, 0]
    np.testing.assert_array_equal(got, x[100:731])
    assert sum(map(len, read_blocks(tmp_path / "a.wav", first=900, stop=5000))) == 100
    assert list(read_blocks(tmp_path / "a.wav", first=2000)) == []
    with pytest.raises(ConfigError, match="first frame"):
        list(read_blocks(tmp_path / "a.wav", first=-1))


@pytest.mark.slow
def test_progress_on_a_terminal(tree: Path, tmp_path: Path) -> None:
    """In a terminal of its own: a bar that reaches the end, then the summary; nothing of it without a terminal."""
    import pty

    command = [sys.executable, "-c", "from edge_runtime.archive.cli import segment; segment()", "--workers", "1"]
    sounds = [str(tree / name) for name in ("a.wav", "stereo48.wav", "slow8.wav")]
    ours, theirs = pty.openpty()
    with subprocess.Popen([*command, *sounds], stdout=subprocess.DEVNULL, stderr=theirs) as child:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 4096):
                said += piece
        except OSError:  # how a terminal ends when nobody writes to it any more
            pass
        os.close(ours)
        assert child.wait(60) == 0
    text = said.decode()
    assert "x real time, 0:0" in text and "#" in text and "3 segmented: 7.0 s of sound" in text
    silent = subprocess.run([*command, sounds[0]], capture_output=True, text=True, check=True, timeout=60)
    assert silent.stderr.startswith("1 segmented: 3.0 s of sound")


@pytest.mark.slow
def test_a_pool_gives_what_one_process_gives(tmp_path: Path, job: Job) -> None:
    sources = []
    for number, seconds in enumerate((30.0, 3.0, 8.0)):
        write_wav(tmp_path / f"{number}.wav", sound(seconds, number), RATE)
        sources.append(inputs.Source(str(tmp_path / f"{number}.wav"), str(number)))

    def results(engine: Any) -> dict[str, Any]:
        try:
            return {o.source.name: o.result for o in Archive(job, engine, block_frames=512).run(sources)}
        finally:
            engine.close()

    assert results(Pool(2)) == results(Serial())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """Ten minutes against forty, in fresh processes: peak RSS."""
    code = """
import sys
from edge_runtime import Segmenter
with Segmenter("swishnet-slim-int8") as segmenter:
    segmenter.segment_file(sys.argv[1])
# not ru_maxrss, which begins with the size of the process that started this one
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    peaks = []
    for minutes in (10, 40):
        write_wav(tmp_path / "a.wav", np.tile(sound(60.0), minutes), RATE)
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a.wav")], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < peaks[0] + 3, peaks



