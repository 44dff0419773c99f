"""The command as a user types it: output, JSON keys, exit codes, one-line errors, laziness."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from made_results import made_result, write_result

from edge_bench.benchmarks import cli
from edge_bench.benchmarks.sound import scene
from edge_runtime.cli import write_json
from edge_runtime.errors import EdgeBenchError
from edge_runtime.wav import write_wav


def edge_bench(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    code = "import sys; from edge_bench.benchmarks.cli import main; main(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Five seconds of made sound."""
    file = tmp_path / "five.wav"
    write_wav(file, scene(5), 16000)
    return file


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(cli.group, [name, "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.output


def test_classify_lines(recording: Path) -> None:
    done = edge_bench("classify", str(recording), "--json", "-")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(entry["start_s"], entry["end_s"]) for entry in lines] == [(0, 2), (2, 4)]
    for entry in lines:
        assert entry["file"] == str(recording)
        assert set(entry["probabilities"]) == {"speech", "music", "noise"}
        assert sum(entry["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert entry["label"] == max(entry["probabilities"], key=entry["probabilities"].__getitem__)
    assert done.stderr == ""


def test_classify_goes_on_after_a_bad_file(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF....")
    short = tmp_path / "short.wav"
    write_wav(short, np.zeros(9000, np.float32), 16000)
    done = edge_bench("classify", str(tmp_path / "bad.wav"), "missing.wav", str(short), str(recording))
    assert done.returncode == 2
    errors = done.stderr.splitlines()
    assert len(errors) == 2
    assert "bad.wav" in errors[0] and "missing.wav" in errors[1]
    assert done.stdout.count("short.wav") == 1, "a file shorter than a clip is one clip"
    assert done.stdout.count("five.wav") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nomodel"], "no such file or shipped bundle"),
        (["inspect", "setup.cfg"], "is not a .tflite model"),
        (["classify", "--clip", "-1", "x.wav"], "clip length"),
        (["run", "--backend", "jax"], "backend 'jax' is unknown"),
        (["train", "no-recipe", "--corpus", "."], "no such file or recipe"),
        (["evaluate", "swishnet-slim-int8", "--corpus", "/nonexistent"], "no such folder"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments: list[str], words: str) -> None:
    done = edge_bench(*arguments, cwd=Path(__file__).parent.parent)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    assert len(lines) == 1 and words in lines[0], done.stderr


def test_run_reports_what_the_contract_names(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    done = edge_bench("run", "--rounds", "20", "--budget", "2", "--cold", "1", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "front end" in done.stdout and "memory" in done.stdout
    result = json.loads(file.read_text())
    assert result["schema"] == "edge-bench/run/1"
    assert {"name", "bytes", "parameters", "backend", "backend_version", "delegated_nodes", "nodes"} <= set(
        result["model"]
    )
    assert result["model"]["parameters"] == 5483
    assert [clip["clip_s"] for clip in result["clips"]] == [0.5, 1.0, 2.0]
    for clip in result["clips"]:
        for stage in ("frontend", "model", "total"):
            times = clip["stages"][stage]
            assert 0 < times["p50"] <= times["p90"] <= times["p99"]
            assert times["cold"] > 0 and len(times["samples"]) == 20
        assert clip["real_time_factor"] == pytest.approx(
            clip["stages"]["total"]["p50"] / clip["clip_s"] / 1e6, rel=0.01
        )
    memory = result["memory"]
    assert 0 < memory["after_import"] < memory["after_load"] <= memory["peak"]
    assert memory["pss"]["after_load"] <= memory["after_load"]
    assert result["context"]["machine"]["cores"] >= 1


def test_verify_and_inspect(tmp_path: Path) -> None:
    done = edge_bench("verify", "--json", "-")
    assert done.returncode == 0 and json.loads(done.stdout)["fine"] is True
    done = edge_bench("inspect", "swishnet-slim-int8", "--json", "-")
    report = json.loads(done.stdout)
    assert report["parameters"] == 5483 and report["macs"] == sum(row["macs"] for row in report["operators"])
    assert report["receptive_field_s"] == pytest.approx(1.095)


@pytest.mark.slow
def test_a_folder_with_its_own_train_and_benchmarks_does_not_matter(tmp_path: Path, recording: Path) -> None:
    """The command, the pytest plugin and a notebook, whose kernel looks for modules in its own folder first."""
    project = tmp_path / "project"
    (project / "benchmarks").mkdir(parents=True)
    for name in ("train.py", "benchmarks/__init__.py", "quantize.py", "boards.py", "tests.py"):
        (project / name).write_text("raise SystemExit('the wrong module was imported')\n")
    done = edge_bench("classify", str(recording), cwd=project)
    assert done.returncode == 0, done.stderr

    result = write_result(project / "run.json", made_result(clips=(2.0,)))
    (project / "test_gate.py").write_text(
        "def test_speed(edge_bench_gate):\n"
        f"    assert edge_bench_gate({str(result)!r}, baseline={str(result)!r})['ratio'] == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        capture_output=True, text=True, cwd=project, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr

    cells = [
        "import edge_runtime, edge_bench.benchmarks.run, edge_bench.train.corpus, numpy",
        "with edge_runtime.Classifier('swishnet-slim-int8') as c:\n    found = c.classify(numpy.zeros(32000, 'f4'))",
        "print(*found[0].probabilities)",
    ]
    code = [{"cell_type": "code", "metadata": {}, "source": cell, "outputs": []} for cell in cells]
    book = project / "look.ipynb"
    book.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": code}))
    kernel = "import json, sys\nfor cell in json.load(open(sys.argv[1]))['cells']: exec(cell['source'])"
    done = subprocess.run(
        [sys.executable, "-c", kernel, str(book)], capture_output=True, text=True, cwd=project, check=False
    )
    assert done.stdout == "speech music noise\n", done.stderr


def test_the_commands_of_a_board_import_nothing_large(recording: Path) -> None:
    code = (
        "import sys\nfrom edge_bench.benchmarks.cli import main\n"
        f"try: main(['classify', {str(recording)!r}])\nexcept SystemExit: pass\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} "
        "& {'tensorflow', 'keras', 'librosa', 'scipy', 'sklearn', 'matplotlib', 'soundfile', 'rich'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_output_that_cannot_be_written_leaves_nothing(recording: Path, tmp_path: Path) -> None:
    target = tmp_path / "missing" / "out.json"
    done = edge_bench("classify", str(recording), "--json", str(target))
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert not target.parent.exists()


def test_json_to_a_pipe_leaves_the_pipe(tmp_path: Path) -> None:
    # as with /dev/null: the file that is written aside must not take its place
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_json(str(pipe), {"a": 1})
    assert json.loads(os.read(reader, 100)) == {"a": 1} and pipe.is_fifo()
    os.close(reader)
    with pytest.raises(EdgeBenchError, match="cannot be written"):
        write_json(str(tmp_path), {})
    assert list(tmp_path.iterdir()) == [pipe]
