"""Peers in the same run: which are known, foreign files with their front ends, what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from edge_bench.benchmarks import cli, peer_sides, results
from edge_bench.benchmarks.peers import Peer, configuration, find
from edge_runtime import ConfigError, FrontEndConfig
from edge_runtime.bundle import read

OURS = FrontEndConfig()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .tflite without anything of ours: the shipped network's flatbuffer alone."""
    file = tmp_path_factory.mktemp("peers") / "theirs.tflite"
    file.write_bytes(read("swishnet-slim-int8").flatbuffer)
    return file


def onnx(name: str) -> str:
    """An ONNX file that comes with onnxruntime; both take and give rows of (3, 2)."""
    runtime = pytest.importorskip("onnxruntime")
    return str(Path(runtime.__file__).parent / "datasets" / name)


@pytest.mark.slow
def test_a_foreign_file_is_timed_in_the_same_run(foreign: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    done = CliRunner().invoke(
        cli.group,
        ["run", "--clips", "1", "--cold", "1", "--budget", "0.5", "--against", f"{foreign}:ours", "--json", str(out)],
    )
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    jsonschema.validate(result, json.loads(results.SCHEMA_FILE.read_text()))
    mine, theirs = result["against"]["networks"]
    assert (mine["name"], theirs["name"]) == ("swishnet-slim-int8", "theirs")
    assert mine["ratio"]["total"] == [1.0, 1.0, 1.0] and theirs["windows"] >= 1
    for row in (mine, theirs):
        assert row["cold"] > 0 and row["peak"] > 10e6 and row["real_time_factor"] > 0
        for times in row["stages"].values():
            assert len(times["samples"]) == result["against"]["rounds"] >= 3
    assert "theirs" in done.output and "of ours" in done.output
    assert CliRunner().invoke(cli.group, ["export", str(out), "--format", "markdown"]).output.count("| theirs |") == 1


def test_windows_cover_a_clip_and_a_short_one_is_padded(foreign: Path) -> None:
    x = np.random.default_rng(0).uniform(-0.3, 0.3, 64000).astype(np.float32)
    for step_s, clip_s in ((None, 4.0), (0.1, 4.0), (0.1, 0.05)):
        side = peer_sides.of_peer(Peer("x", str(foreign), "ours", step_s), OURS, clip_s, "auto", 1)
        found = side.frontend(x[: round(clip_s * 16000)])
        assert len(found) == side.about["windows"] >= 1
        side.model(found)
    window = round(side.about["window_s"] * 16000)
    often = peer_sides.of_peer(Peer("x", str(foreign), "ours", 0.1), OURS, 4.0, "auto", 1)
    assert len(often.frontend(x)) == (64000 - window) // 1600 + 1


def test_onnx_with_a_named_front_end() -> None:
    peer = Peer("x", onnx("mul_1.onnx"), "mfcc,coefficients=2")
    side = peer_sides.of_peer(peer, OURS, 1.0, "auto", 1)
    found = side.frontend(np.zeros(16000, np.float32))
    assert side.about["backend"] == "onnxruntime" and found[0].shape == (3, 2)
    assert len(found) == 16000 // 720, "windows of three frames"
    side.model(found)


def test_front_ends_by_text() -> None:
    config = configuration("mfcc,mel_bands=40,coefficients=10,hop_length=320,fmin=20")
    assert config is not None and (config.features, config.hop_length, config.fmin) == (10, 320, 20.0)
    assert configuration("none") is None
    for text, words in (
        ("fbank", "front end 'fbank' is unknown"),
        ("log-mel,kind=3", "'kind=3' is no setting"),
        ("log-mel,mel_bands=x", "'x' is no number"),
        ("log-mel,mel_bands=0", "must be a whole number from 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            configuration(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "is none of yamnet, mlperf-kws, silero and no .tflite or .onnx"),
        ("nothing.tflite", "no such file"),
        ("yamnet", "EDGE_BENCH_WEIGHTS"),
        ("mlperf-kws", "EDGE_BENCH_WEIGHTS"),
        ("silero", "pip install --no-deps silero-vad"),
    ],
)
def test_peers_that_are_not_here_say_what_they_need(
    text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGE_BENCH_WEIGHTS", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=words):
        find(text)


def test_a_front_end_that_does_not_fit_is_refused(foreign: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    cases: list[tuple[Any, str]] = [
        (Peer("x", str(foreign), "none"), "no row of samples: name its front end"),
        (Peer("x", str(foreign), "log-mel,mel_bands=40"), "gives frames of 40"),
        (Peer("x", str(broken), "none"), "onnxruntime refuses it"),
    ]
    for peer, words in cases:
        with pytest.raises(ConfigError, match=words):
            peer_sides.of_peer(peer, OURS, 1.0, "auto", 1)


@pytest.mark.slow
def test_the_worked_examples_run() -> None:
    """Each where its file is; the stand-in of a machine without them is the foreign file above."""
    x = np.random.default_rng(0).uniform(-0.3, 0.3, 32000).astype(np.float32)
    windows = {"yamnet": 3, "mlperf-kws": 2, "silero": 62}
    ran = 0
    for name, count in windows.items():
        try:
            peer = find(name)
        except ConfigError:
            continue
        side = peer_sides.of_peer(peer, OURS, 2.0, "auto", 1)
        found = side.frontend(x)
        assert len(found) == count
        side.model(found)
        ran += 1
    if not ran:
        pytest.skip("none of their files is here")
