"""False activations: known answers, the price of a limit, the command and its look at the test split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_bench.benchmarks.cli import group
from edge_bench.train import corpus, segment_evaluate, tune
from edge_bench.train.false_activations import Heard, hear, summarise
from edge_bench.train.posteriors import Track
from edge_bench.train.segmentation import confidences
from edge_bench.train.stream_files import Annotated
from edge_runtime import ConfigError, Segment, Smoothing
from edge_runtime.bundle import read
from edge_runtime.segments import SILENCE


def heard(label: str, group_: str, *cuts: tuple[float, float, str, float]) -> Heard:
    return Heard(f"{label}.wav", label, group_, tuple(Segment(*cut) for cut in cuts))


NOISE = heard("noise", "a", (0, 100, "noise", 0.9), (100, 150, "speech", 0.6), (150, 200, "music", 0.8),
              (200, 300, SILENCE, 1.0))  # fmt: skip
SPEECH = heard("speech", "b", (0, 90, "speech", 0.95), (90, 100, "noise", 0.55))


def test_known_answers() -> None:
    quiet = heard("noise", "c", (0, 1500, "noise", 0.7))
    result = summarise([NOISE, quiet, SPEECH], "noise", (0.0, 0.7, 0.85))
    assert result["hours"] == {"noise": pytest.approx(0.5), "speech": pytest.approx(100 / 3600)}
    plain, some, strict = result["rows"]
    assert [r["per_hour"] for r in result["rows"]] == pytest.approx([4, 2, 0])
    assert plain["by_label"] == {"speech": pytest.approx(2)} and some["by_label"] == {"speech": 0}
    assert plain["interval"][0] == 0 and plain["interval"][1] > 4
    assert strict["interval"] == pytest.approx([0, 6]), "three in half an hour"
    assert plain["found"] == {"noise": pytest.approx(1600 / 1700), "speech": pytest.approx(0.9)}
    assert strict["unknown"] == {"noise": pytest.approx(1600 / 1700), "speech": pytest.approx(0.1)}
    assert plain["noise_time_taken"] == pytest.approx(100 / 1700)
    assert result["most"] == [{"file": "noise.wav", "activations": 2}]
    with pytest.raises(ConfigError, match="no recording is of class 'noise'"):
        summarise([SPEECH], "noise")


def test_recordings_are_those_of_the_segmenter(corpus_root: Path) -> None:
    whole = corpus.load(corpus_root)
    found = hear(read("swishnet-slim-int8"), whole, "validation")
    assert [h.label for h in found] == [r.label for r in whole.split("validation")]
    assert all(h.segments[-1].end_s == pytest.approx(2.5) for h in found)


def test_command_and_log(corpus_root: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(
            group, ["false-activations", "swishnet-slim-int8", "--corpus", str(corpus_root), *arguments],
            catch_exceptions=False,
        )  # fmt: skip
        assert done.exit_code == 0
        return done.output

    log, picture, result = tmp_path / "logs" / "log.jsonl", tmp_path / "a.png", tmp_path / "a.json"
    assert "false activations in" in run("--plot", str(picture), "--log", str(log), "--json", str(result))
    assert picture.read_bytes()[:4] == b"\x89PNG" and not log.exists()
    value = json.loads(result.read_text())
    assert value["schema"] == "edge-bench/false-activations/1" and value["results"][0]["split"] == "validation"
    run("--split", "test", "--log", str(log))
    entry = json.loads(log.read_text())
    assert entry["model"] == "swishnet-slim-int8" and set(entry["false_activations_per_hour"]) > {"0.0", "0.9"}


def test_a_temperature_makes_confidences_true(tmp_path: Path) -> None:
    """Logits three times as large as their evidence: what is chosen divides them by about three."""
    rng = np.random.default_rng(0)
    tracks, files = [], []
    for number in range(8):
        truth = np.repeat(rng.integers(0, 3, 40), 60)
        evidence = np.repeat(rng.normal(0, 1.2, (40, 3)), 60, axis=0) + 1.5 * np.eye(3)[truth]
        tracks.append(Track(np.full(len(truth), -20.0, np.float32), {"dense": 3 * evidence.astype(np.float32)}))
        names = ("speech", "music", "noise")
        cuts = tuple((i * 0.6, (i + 1) * 0.6, names[truth[60 * i]]) for i in range(40))
        files.append(Annotated(Path(f"{number}.wav"), cuts))
    plain = Smoothing(median=1)
    chosen = tune.fit_temperature(tracks, files, "dense", plain, ("speech", "music", "noise"))
    assert 2 <= chosen <= 4 and chosen in tune.TEMPERATURES

    def error(temperature: float) -> float:
        counts = tune.score(tracks, files, "dense", plain, ("speech", "music", "noise"), hop_s=0.01,
                            temperature=temperature)  # fmt: skip
        return float(segment_evaluate.summarise(counts, ("speech", "music", "noise"))["calibration_error"])

    assert error(chosen) < error(1.0) / 2


def test_confidences_leave_silence_out_on_both_sides() -> None:
    reference = ((0.0, 1.0, "speech"), (1.0, 2.0, SILENCE), (2.0, 3.0, "noise"))
    found = [Segment(0.0, 2.5, "speech", 0.8), Segment(2.5, 2.75, SILENCE, 1.0), Segment(2.75, 3.0, "noise", 0.4)]
    rows = confidences(reference, found, ("speech", "noise"))
    assert rows.tolist() == [[0.8, 150, 100], [0.4, 25, 25]]
