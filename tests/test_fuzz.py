"""Damaged files and our readers: a few here, many with -m slow, 100,000 with ``python tests/fuzz.py``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import fuzz
import numpy as np
import pytest
from mutations import KINDS, Mutator, damage_json, fields_of

from edge_runtime import BundleError, EdgeBenchError, bundle, tflite
from edge_runtime.errors import one_line


@pytest.fixture(scope="module")
def mutator(tmp_path_factory: pytest.TempPathFactory) -> Mutator:
    return fuzz.mutator_of(0, tmp_path_factory.mktemp("fuzz"))


def test_a_case_is_a_function_of_its_number(
    mutator: Mutator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = fuzz.mutator_of(1, tmp_path)
    cases = [mutator.case(n) for n in range(48)]
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(2e9))  # and not of the time of day
    again = fuzz.mutator_of(0, tmp_path)
    assert all(case == again.case(n) for n, case in enumerate(cases))  # a list's difference would be pages of bytes
    assert mutator.case(1) != other.case(1)
    assert {mutator.case(n)[0] for n in range(6)} == set(KINDS)


def test_damaged_files_give_our_errors_or_are_read(mutator: Mutator, tmp_path: Path) -> None:
    tally = fuzz.Tally()
    for number in range(120):
        kind, content = mutator.case(number)
        tally.add(number, kind, fuzz.outcome(kind, content, tmp_path))
    assert not tally.bugs
    for kind in KINDS:
        found = {name.partition(": ")[2] for name in tally.outcomes if name.startswith(kind)}
        assert found & {"BundleError", "AudioError"}, f"{kind}: nothing was refused, so nothing was damaged"
    assert any(name.endswith("accepted") for name in tally.outcomes)


@pytest.mark.slow
def test_a_thousand_in_processes_with_limits(tmp_path: Path) -> None:
    file = tmp_path / "fuzz.json"
    # in a process of its own: the workers' peak would begin with the size of this one, TensorFlow and all
    command = [sys.executable, fuzz.__file__, "--cases", "1000", "--seed", "7", "--jobs", "1", "--json", str(file)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    result = json.loads(file.read_text())
    assert sum(result["outcomes"].values()) == 1000 and not result["bugs"]
    assert 0 < result["longest"]["cpu_ms"] < 1000 * fuzz.SLOW_S and result["peak_memory"] < 1 << 30


def test_bugs_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(kind: str, content: bytes, folder: Path) -> None:
        raise {b"a": ZeroDivisionError("x"), b"b": BundleError(""), b"c": BundleError("fine")}[content]

    monkeypatch.setattr(fuzz, "attempt", fails)
    assert fuzz.outcome("tflite", b"a", tmp_path).startswith("BUG: ZeroDivisionError")
    assert fuzz.outcome("tflite", b"b", tmp_path).startswith("BUG: BundleError with a text unfit")
    assert fuzz.outcome("tflite", b"c", tmp_path) == "BundleError"


@pytest.mark.slow
def test_a_worker_that_dies_costs_one_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def patch():\n"
        "    import mutations\n"
        "    real = mutations.Mutator.case\n"
        "    mutations.Mutator.case = lambda self, n: os._exit(9) if n == 3 else real(self, n)\n"
        "if any('spawn_main' in a for a in sys.orig_argv):\n"
        "    sys.path.insert(0, " + repr(str(Path(__file__).parent)) + ")\n"
        "    patch()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    tally = fuzz.fuzz(6, jobs=1)
    assert sum(tally.outcomes.values()) == 6
    assert list(tally.bugs) == [3] and "died with 9" in tally.bugs[3]


def test_the_report_counts_everything() -> None:
    tally = fuzz.Tally()
    tally.add(0, "wav", "AudioError", 0.25, 1000)
    tally.add(1, "zip", "BUG: MemoryError at zip.py:3: x", 0.125, 5000)
    report = json.loads(json.dumps(fuzz.report(tally, 2, 0, 1.5, "command")))
    assert report["schema"] == "edge-bench/fuzz/1" and sum(report["outcomes"].values()) == 2
    assert report["longest"] == {"cpu_ms": 250.0, "case": 0, "kind": "wav"} and report["peak_memory"] == 5000
    assert list(report["bugs"]) == ["1"]


# --- what the fuzzer found ------------------------------------------------------------------------


def test_fields_are_those_that_the_reader_reads() -> None:
    flatbuffer = bundle.read("swishnet-slim-int8").flatbuffer
    fields = fields_of(flatbuffer)
    assert len(fields) > 1000 and all(0 <= at < len(flatbuffer) for at, _ in fields)
    assert tflite.struct.__name__ == "struct", "the reader is as it was"


def test_names_in_a_file_cannot_write_on_the_terminal() -> None:
    error = EdgeBenchError("operator CUSTOM:\x1b[2J\n\0" + "x" * 5000)
    assert str(error).isprintable() and len(str(error)) < 1000
    assert one_line("a\n b\tc") == "a b c"


@pytest.mark.parametrize("seed", range(30))
def test_damaged_json_is_json(seed: int) -> None:
    value = {"a": [1, 2.5, {"b": None}], "c": "text", "d": {"e": True}}
    json.dumps(damage_json(value, np.random.default_rng(seed)))
