"""One bundle on every interpreter that is here: what agrees, what differs and where that begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime import ConfigError, InterpreterError, bundle, cases, crosscheck
from edge_runtime.cases import Case
from edge_runtime.crosscheck import Report


@pytest.fixture(scope="module")
def report(bundles: dict[str, Path]) -> Report:
    built = bundle.read(bundles["int8"])
    inputs = cases.bundle_cases(built, 4, clip_s=(0.5,))
    return crosscheck.crosscheck(built.flatbuffer, inputs, backends=("litert", "tflite-runtime", "numpy"))


@pytest.mark.slow
def test_reference_kernels_are_the_numpy_executor_to_the_bit(report: Report) -> None:
    assert report.reference == "numpy reference"
    kinds = {(f.backend, f.case) for f in report.findings if f.kernels == "reference"}
    assert {("litert", "clip 0.5 s"), ("litert", "dense"), ("numpy", "dense")} <= kinds
    for finding in report.findings:
        assert not finding.error and finding.inputs == 4
        if finding.kernels == "reference":
            assert (finding.largest, finding.differing, finding.agreement) == (0, 0, 1) and finding.operator is None


@pytest.mark.slow
def test_differences_begin_at_an_operator(report: Report) -> None:
    differing = [f for f in report.findings if f.largest]
    assert {f.kernels for f in differing} <= {"default", "plain"} and differing
    for finding in differing:
        assert finding.operator is not None and finding.operator_name and finding.operator_largest >= 1
        assert 0 < finding.differing <= 1 and finding.agreement >= 0.8


@pytest.mark.slow
def test_float_is_close_everywhere(bundles: dict[str, Path]) -> None:
    built = bundle.read(bundles["float32"])
    inputs = cases.bundle_cases(built, 3, clip_s=(1,))
    found = crosscheck.crosscheck(built.flatbuffer, inputs, backends=("litert", "numpy"), kernels=("default",))
    assert len(found.findings) == 4 and all(f.largest < 1e-4 and f.agreement == 1 for f in found.findings)


def test_an_interpreter_that_is_not_there_is_named(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ai_edge_litert.py").write_text("raise ImportError('no such wheel')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    built = bundle.read(bundles["int8"])
    found = crosscheck.crosscheck(
        built.flatbuffer, cases.bundle_cases(built, 1, clip_s=(0.5,)), backends=("litert", "numpy")
    )
    assert "no such wheel" in found.unusable["litert"] and {f.backend for f in found.findings} == {"numpy"}


def test_an_interpreter_that_dies_takes_nothing_along(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ai_edge_litert.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    built = bundle.read(bundles["int8"])
    inputs = cases.bundle_cases(built, 1, clip_s=(0.5,))
    found = crosscheck.crosscheck(built.flatbuffer, inputs, backends=("litert", "numpy"))
    assert "SIGSEGV" in found.unusable["litert"] and "\n" not in found.unusable["litert"]
    with pytest.raises(InterpreterError, match=r"no interpreter runs this model: .*SIGSEGV"):
        crosscheck.crosscheck(built.flatbuffer, inputs, backends=("litert",))


def test_cases_need_names_of_their_own(bundles: dict[str, Path]) -> None:
    built = bundle.read(bundles["int8"])
    case = Case("one", 0, np.zeros((1, 1, 1, 108, 20), np.int8))
    for inputs in ([], [case, case]):
        with pytest.raises(ConfigError, match="must have names"):
            crosscheck.crosscheck(built.flatbuffer, inputs)
    with pytest.raises(ConfigError, match="'jax' is unknown"):
        crosscheck.crosscheck(built.flatbuffer, [case], backends=("jax",))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
def test_random_inputs_use_the_range(dtype: str) -> None:
    x = cases.random_inputs((1, 9, 20), dtype, 40, np.random.default_rng(0))
    assert x.shape == (40, 1, 9, 20) and x.dtype == np.dtype(dtype) and len(np.unique(x)) > 100
    spread = x.reshape(40, -1).astype(float).std(1)
    assert spread.max() > 3 * spread.min()
