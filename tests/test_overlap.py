"""Copies among held-out recordings are found, whatever was done to them; different recordings are not."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import RATE

from edge_bench.train.data.cli import data
from edge_bench.train.overlap import WINDOW, fingerprints, overlap
from edge_bench.train.recording import Recording
from edge_runtime.wav import write_wav


def sound(seed: int, seconds: float = 4.0) -> np.ndarray:
    """Noise whose loudness and colour wander, so that no second is like another."""
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(round(10 * seconds)):
        spectrum = np.fft.rfft(rng.standard_normal(RATE // 10)) * rng.uniform(0.01, 1, 801).cumsum() ** rng.normal()
        piece = np.fft.irfft(spectrum)
        pieces.append(piece / np.abs(piece).max() * rng.uniform(0.1, 0.5))
    return np.concatenate(pieces).astype(np.float32)


def recording(folder: Path, name: str, samples: np.ndarray, split: str) -> Recording:
    write_wav(folder / name, samples, RATE)
    return Recording(folder / name, "noise", split, name, name=name)


def test_copies_are_found_and_others_are_not(tmp_path: Path) -> None:
    held = [recording(tmp_path, f"held{i}.wav", sound(i), "test" if i else "validation") for i in range(3)]
    shifted = np.concatenate([sound(9, 0.537), 0.2 * sound(1)])  # later, quieter, through a filter
    filtered = np.convolve(shifted, [1, -0.6], mode="same").astype(np.float32)
    training = [
        recording(tmp_path, "copy.wav", filtered, "train"), recording(tmp_path, "other.wav", sound(8), "train"),
        recording(tmp_path, "short.wav", sound(0, 0.5), "train"),
    ]  # fmt: skip
    steps: list[tuple[str, int, int]] = []
    found = overlap(training, held, progress=lambda *step: steps.append(step))
    assert [(m.held_out, m.training, m.split) for m in found] == [("held1.wav", "copy.wav", "test")]
    assert 0.9 <= found[0].similarity <= 1 and found[0].at_s in {0.0, 0.98, 1.96, 2.94}
    assert steps[-1] == ("comparing", 3, 3)
    assert overlap(training, []) == []


def test_a_fingerprint_does_not_change_with_the_level() -> None:
    x = sound(3, 1.5)
    assert np.sum(fingerprints(x, 1) * fingerprints(0.3 * x, 1), axis=1).min() > 0.98  # the floor of the power is heard
    rows = fingerprints(x, 10)
    assert rows.shape == (6, WINDOW * 19)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert len(fingerprints(x[: RATE // 2], 1)) == 0


@pytest.mark.parametrize("copied", [True, False])
def test_the_command(tmp_path: Path, copied: bool) -> None:
    corpus, extra = tmp_path / "corpus", tmp_path / "extra"
    for folder, rows in (
        (corpus, [("noise", "train", 1), ("noise", "validation", 2), ("noise", "test", 3)]),
        (extra, [("noise", "train", 2 if copied else 4)]),
    ):
        folder.mkdir()
        with (folder / "SOURCES.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "class", "split", "group"])
            for label, split, seed in rows:
                write_wav(folder / f"{split}.wav", sound(seed, 2), RATE)
                writer.writerow([f"{split}.wav", label, split, f"{folder.name}/{split}"])
    arguments = ["overlap", str(extra), "--corpus", str(corpus), "--json"]
    done = CliRunner().invoke(data, [*arguments, "-"], catch_exceptions=False)
    matches = json.loads(done.output[done.output.index("{") :])["matches"]
    assert done.exit_code == int(copied) and [m["held_out"] for m in matches] == ["validation.wav"] * copied
    done = CliRunner().invoke(data, [*arguments, str(tmp_path / "m.json")], catch_exceptions=False)
    assert ("1 pairs above 0.9" if copied else "nothing alike above 0.9") in done.output
