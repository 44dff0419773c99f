"""The whole path once on a stand-in corpus, as a user types it: train, quantise, evaluate, card, run, classify."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import CLASSES, table_corpus

from edge_runtime import CorpusError

pytest.importorskip("tensorflow")

RECIPE = """
model = "swishnet-slim"
copies = 1
validation_copies = 1
calibration_clips = 30

[fit]
epochs = 3
steps = 12
batch = 24
learning_rate = 1e-2
first_cycle = 3
ema = 0.9
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, a recipe and a finished training."""
    folder = tmp_path_factory.mktemp("path")
    table_corpus(folder / "corpus")
    (folder / "tiny.toml").write_text(RECIPE)
    done = edge_bench(folder, "train", "tiny.toml", "--out", "run", "--json", "train.json")
    assert done.returncode == 0, done.stderr
    return folder


def edge_bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the folder, with its corpus and its cache."""
    code = (
        "import os, sys; os.environ.update(EDGE_BENCH_CORPUS='corpus', EDGE_BENCH_CACHE='cache')\n"
        "from edge_bench.benchmarks.cli import main; main(sys.argv[1:])"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=folder, check=False
    )


@pytest.mark.slow
def test_a_training_leaves_what_is_needed(work: Path) -> None:
    names = {p.name for p in (work / "run").iterdir()}
    assert {"model.keras", "history.json", "curves.png", "metrics.json", "experiment.json"} <= names
    assert (work / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    metrics = json.loads((work / "train.json").read_text())
    assert metrics["schema"] == "edge-bench/train/1" and metrics["parameters"] == 5483
    assert set(metrics["validation"]) == {f"{s}s{a}" for s in ("2", "1", "0.5") for a in ("", " augmented")}


@pytest.mark.slow
def test_a_finished_training_is_not_repeated(work: Path) -> None:
    before = (work / "run" / "history.json").read_text()
    done = edge_bench(work, "train", "tiny.toml", "--out", "run")
    assert done.returncode == 0 and "continuing after epoch 3" in done.stderr
    assert (work / "run" / "history.json").read_text() == before


@pytest.mark.slow
def test_quantise_evaluate_card_run_classify(work: Path) -> None:
    done = edge_bench(work, "quantize", "run", "--max-drop", "100", "--out", "tiny.tflite", "--json", "q.json")
    assert done.returncode == 0, done.stderr
    quantised = json.loads((work / "q.json").read_text())
    assert quantised["written"] and quantised["bytes"] == (work / "tiny.tflite").stat().st_size
    assert {"float_macro_f1", "int8_macro_f1", "drop", "agreement"} <= set(quantised)
    assert quantised["agreement"] >= 0.8

    for model in ("tiny.tflite", "run"):
        done = edge_bench(work, "evaluate", model, "--split", "test", "--json", "e.json", "--plot", "e.png")
        assert done.returncode == 0, done.stderr
        result = json.loads((work / "e.json").read_text())
        assert {"overall", "speech_nonspeech", "macro_f1", "recall", "confusion", "intervals"} <= set(result)
        assert np.sum(result["confusion"]) == result["clips"] and set(result["recall"]) == set(CLASSES)
        assert result["macro_f1"] > 0.6, "three classes that a child could tell apart"
    assert len((work / "results" / "test-log.jsonl").read_text().splitlines()) == 2, "every look at test is logged"

    done = edge_bench(work, "card", "tiny.tflite", "--evaluation", "e.json", "-o", "card.md")
    assert done.returncode == 0, done.stderr
    card = (work / "card.md").read_text()
    assert "5,483 parameters" in card and "| stand-in/speech0 | CC0-1.0 |" in card and "taken for" in card

    done = edge_bench(work, "run", "tiny.tflite", "--rounds", "10", "--cold", "1", "--json", "-")
    assert done.returncode == 0 and json.loads(done.stdout)["model"]["name"] == "tiny", "as its file"
    done = edge_bench(work, "classify", "corpus/speech/test0.wav", "--model", "tiny.tflite")
    assert done.returncode == 0 and done.stdout.count("test0.wav") == 1


@pytest.mark.slow
def test_a_drop_above_the_limit_writes_nothing(work: Path) -> None:
    done = edge_bench(work, "quantize", "run", "--max-drop", "-100", "--out", "refused.tflite")
    assert done.returncode == 1 and "not written" in done.stdout
    assert not (work / "refused.tflite").exists()


@pytest.mark.slow
def test_a_folder_without_a_training(work: Path) -> None:
    done = edge_bench(work, "quantize", "corpus")
    assert done.returncode == 2 and "holds no finished training" in done.stderr


def test_midi_is_rearranged(tmp_path: Path) -> None:
    mido = pytest.importorskip("mido")
    import io

    from edge_bench.train import midi

    song = mido.MidiFile()
    track = mido.MidiTrack()
    song.tracks.append(track)
    for note in (60, 64, 67):
        track.append(mido.Message("note_on", note=note, time=10))
        track.append(mido.Message("note_off", note=note, time=3000))
    file = io.BytesIO()
    song.save(file=file)
    changed = midi.rearrange(file.getvalue(), np.random.default_rng(0), keep=False, seconds=60)
    messages = [m for m in mido.MidiFile(file=io.BytesIO(changed)).tracks[0] if not m.is_meta]
    notes = [m.note for m in messages if m.type == "note_on"]
    assert np.diff(notes).tolist() == [4, 3], "transposed as a whole"
    assert len({m.program for m in messages if m.type == "program_change"}) > 3

    if shutil.which("fluidsynth") is None:
        return
    (tmp_path / "midi").mkdir()
    (tmp_path / "midi" / "a.mid").write_bytes(file.getvalue())
    (tmp_path / "midi" / "SOURCES.csv").write_text("file,group,licence,source_repo\nmidi/a.mid,g,CC0,s\n")
    (tmp_path / "midi" / "broken.mid").write_bytes(b"no MIDI")
    assert midi.render_folder(tmp_path, tmp_path / "out", variants=1, seconds=2) == 1
    assert (tmp_path / "out" / "music" / "a-0.wav").stat().st_size > 8000
    with pytest.raises(CorpusError, match="exists already"):
        midi.render_folder(tmp_path, tmp_path / "out", variants=1, seconds=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["midi", "out"], "nothing half-rendered is left"
