"""The numpy executor as a backend: last resort, on the command line, and to the bit what TFLite's reference gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime import Classifier, InterpreterError, bundle, cases, crosscheck, interpreter, kernels, tflite
from edge_runtime.classify import check_golden
from edge_runtime.executor import Executor
from edge_runtime.interpreter import Session, SignatureSession
from edge_runtime.numpy_interpreter import Interpreter
from edge_runtime.truncate import truncated

WEIGHTS = Path(os.environ.get("EDGE_BENCH_WEIGHTS", "/nonexistent"))
PEERS = ["mlperf_tiny_kws_int8", "mlperf_tiny_vww_int8"]


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board for which no TFLite wheel is made."""
    real = interpreter._load

    def load(name: str) -> Any:
        if name != "numpy":
            raise ImportError(f"No module named {name!r}")
        return real(name)

    monkeypatch.setattr(interpreter, "_load", load)


def test_numpy_is_the_last_resort(no_wheel: None) -> None:
    with Classifier(clip_s=0.5) as classifier:
        assert classifier.session.backend == "numpy" and classifier.session.version == np.__version__
        assert classifier.classify(np.zeros(8000, np.float32))[0].label in classifier.bundle.classes
    assert interpreter.first_backend() == "numpy"


def test_it_is_not_chosen_where_an_interpreter_works() -> None:
    assert Session(bundle.read("swishnet-slim-int8").flatbuffer).backend != "numpy"


def test_a_model_beyond_it_names_what_to_install(no_wheel: None) -> None:
    flatbuffer = bundle.read("swishnet-slim-int8").flatbuffer
    with pytest.raises(InterpreterError, match=r"no TFLite interpreter works here \(litert.*numpy:.*pip install"):
        Session(flatbuffer[:200])


@pytest.mark.parametrize("name", bundle.shipped())
def test_golden_vectors(name: str) -> None:
    built = bundle.read(name)
    report = check_golden(built, backend="numpy")
    # the vectors were made with XNNPACK, which rounds once where the reference kernels round twice
    assert report.input_lsb == 0 and report.output_lsb <= (16 if built.info["precision"] != "float32" else 1e-5)


def reference(flatbuffer: bytes, frames: int | None = None) -> Session:
    return Session(flatbuffer, frames=frames, backend="litert", kernels="reference")


@pytest.mark.parametrize("name", bundle.shipped())
def test_shipped_bundles_are_the_reference_kernels(name: str) -> None:
    built = bundle.read(name)
    for case in cases.bundle_cases(built, 8):
        if case.subgraph != built.info["forms"]["clip"]["subgraph"]:
            mine: Any = SignatureSession(built.flatbuffer, case.name, backend="numpy")
            theirs: Any = Session(truncated(built.flatbuffer, subgraph=case.subgraph), kernels="reference")
        else:
            frames = case.x.shape[3]
            mine = Session(built.flatbuffer, frames=frames, backend="numpy")
            theirs = reference(built.flatbuffer, frames)
        for x in case.x:
            wanted = theirs.run(x)
            if wanted.dtype == np.float32:
                np.testing.assert_allclose(mine.run(x), wanted, rtol=1e-5, atol=2e-5)
            else:
                np.testing.assert_array_equal(mine.run(x), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", bundle.shipped())
def test_many_inputs_on_every_interpreter(name: str) -> None:
    # of each of the four cases; a thousand of each: edge-bench verify NAME --interpreters --inputs 1000
    built = bundle.read(name)
    report = crosscheck.crosscheck(built.flatbuffer, cases.bundle_cases(built, 15))
    assert report.fine and report.reference == "numpy reference", crosscheck.render(report)
    for finding in report.findings:
        assert finding.inputs == 15
        if finding.kernels == "reference" and not finding.is_float:
            assert finding.largest == 0
        else:  # stated by `edge-bench verify --interpreters`; random noise is the worst input
            assert finding.agreement > 0.9 and (not finding.is_float or finding.largest < 1e-3)


@pytest.mark.parametrize("name", PEERS)
def test_peers_are_the_reference_kernels(name: str) -> None:
    file = WEIGHTS / f"{name}.tflite"
    if not file.is_file():
        pytest.skip(f"{file} is not here; set EDGE_BENCH_WEIGHTS")
    flatbuffer = file.read_bytes()
    mine, theirs = Session(flatbuffer, backend="numpy"), reference(flatbuffer)
    for x in cases.model_cases(flatbuffer, 6)[0].x:
        np.testing.assert_array_equal(mine.run(x), theirs.run(x))
    assert mine.nodes().total == len(tflite.read(flatbuffer).subgraphs[0].operators)


def test_a_resize_beyond_the_third_axis_is_refused() -> None:
    made = Interpreter(model_content=bundle.read("swishnet-slim-int8").flatbuffer)
    (entry,) = made.get_input_details()
    for shape in ([2, 1, 108, 20], [1, 1, 108, 19], [1, 108, 20]):
        with pytest.raises(InterpreterError, match="only its third axis"):
            made.resize_tensor_input(entry["index"], shape)
    made.resize_tensor_input(entry["index"], [1, 1, 108, 20])
    made.set_tensor(entry["index"], np.zeros((1, 1, 108, 20), np.int8))
    made.invoke()
    assert made.get_tensor(made.get_output_details()[0]["index"]).shape == (1, 3)


def test_a_delegate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_text("")
    with pytest.raises(InterpreterError, match="takes no delegate"):
        Session(bundle.read("swishnet-slim-int8").flatbuffer, backend="numpy", delegate=str(tmp_path / "lib.so"))


def test_results_that_would_fill_the_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        kernels.check_size((1 << 13, 1 << 13))
    with pytest.raises(ValueError, match="too large"):
        kernels._fits(np.zeros((1 << 13, 1)), np.zeros((1, 1 << 13)))
    assert kernels.check_size((1 << 12, 1 << 12)) is None


def test_pair_tables_are_the_operator() -> None:
    codes = np.arange(256, dtype=np.uint8).view(np.int8).astype(int)  # the table's order: the value of each byte
    run = kernels._pairs((codes[:, None] // 2 - codes // 3).astype(np.int8))
    a, b = np.random.default_rng(0).integers(-128, 128, (2, 3, 4, 50)).astype(np.int8)
    np.testing.assert_array_equal(run(a, b[:1]), (a.astype(int) // 2 - b[:1].astype(int) // 3).astype(np.int8))


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["verify", "--json", "-"], ["inspect", "swishnet-slim-int8", "--json", "-"]])
def test_commands_take_it(arguments: list[str]) -> None:
    code = "import sys; from edge_bench.benchmarks.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--backend", "numpy"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value.get("fine", True) and value["schema"].startswith("edge-bench/")


def test_executor_takes_a_model_that_was_read() -> None:
    flatbuffer = bundle.read("swishnet-slim-int8").flatbuffer
    x = np.zeros((1, 1, 204, 20), np.int8)
    np.testing.assert_array_equal(Executor(tflite.read(flatbuffer)).run(x), Executor(flatbuffer).run(x))
