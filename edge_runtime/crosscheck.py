"""One model on every interpreter that is installed, each in a process of its own: do they say the same?

tflite-runtime does not work in a process that has loaded TensorFlow, and an interpreter that crashes must not take
the others along. Every result is compared with the numpy executor's, which is TFLite's reference kernels to the bit;
where they differ, the graph is cut off behind each operator to find the first one that differs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import tflite
from .cases import Case
from .crosscheck_worker import Array, differ, distance
from .errors import ConfigError, InterpreterError
from .interpreter import BACKENDS, KERNELS

LOCATE = 16  # inputs that are followed operator by operator


@dataclass(frozen=True)
class Finding:
    """How far one interpreter is from the reference on one case.

    Attributes
    ----------
    case, backend, version, kernels : str
        Kernels as in `edge_runtime.interpreter.Session`.
    inputs : int
    is_float : bool
        Whether the output is: sums in another order differ in their last bits then.
    largest : float
        Largest difference of an output number: steps of its quantiser, or as it is where it is float.
    differing : float
        Share of the output numbers that differ.
    agreement : float
        Share of the decisions (largest number on the last axis) that are the same.
    operator : int, optional
        The first operator whose output differs, counted from 0.
    operator_name : str
    operator_largest : float
        Largest difference of its output.
    error : str
        Why there is no result; the numbers above say nothing then.
    """

    case: str
    backend: str
    version: str
    kernels: str
    inputs: int
    is_float: bool = False
    largest: float = 0.0
    differing: float = 0.0
    agreement: float = 1.0
    operator: int | None = None
    operator_name: str = ""
    operator_largest: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Report:
    """What `crosscheck` found: with what it compared, every finding, and why a backend is not among them."""

    reference: str
    findings: tuple[Finding, ...]
    unusable: dict[str, str]

    @property
    def fine(self) -> bool:
        """Whether nothing died or was refused, and whole numbers from all reference kernels are the same.

        FULLY_CONNECTED is excepted: up to tflite-runtime 2.14 its reference kernel rounded otherwise.
        """
        exact = all(
            f.largest == 0 or f.is_float or f.operator_name == "FULLY_CONNECTED"
            for f in self.findings
            if f.kernels == "reference"
        )
        died = any(f.error for f in self.findings) or any("died" in why for why in self.unusable.values())
        return exact and not died


def crosscheck(
    flatbuffer: bytes,
    cases: Sequence[Case],
    *,
    backends: Sequence[str] = BACKENDS,
    kernels: Sequence[str] = tuple(KERNELS),
    timeout_s: float = 600,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Run a model on every interpreter here and compare.

    Parameters
    ----------
    flatbuffer : bytes
        Without the bundle part (`Bundle.flatbuffer`).
    cases : sequence of Case
        See `edge_runtime.cases`, or make them of real clips.
    backends, kernels : sequence of str
        Which to run; every backend with each of the kernels, numpy once.
    timeout_s : float
        For one process.
    say : callable
        Takes a line about what is going on.

    Raises
    ------
    InterpreterError
        If no backend runs the model, so that there is nothing to compare with.
    """
    if not cases or len({case.name for case in cases}) < len(cases):
        raise ConfigError("the cases must have names, each its own")
    for name in backends:
        if name not in BACKENDS:
            raise ConfigError(f"backend {name!r} is unknown, must be one of {', '.join(BACKENDS)}")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as scratch:
        folder = Path(scratch)
        (folder / "model.tflite").write_bytes(flatbuffer)
        plan = {name: ("reference",) if name == "numpy" else tuple(kernels) for name in backends}
        asked: dict[_Key, _Run] = {}
        results: _Results = {}
        unusable: dict[str, str] = {}
        for name, kinds in plan.items():
            say(f"{name}: {len(cases)} cases")
            runs = [_Run(name, kind, case) for kind in kinds for case in cases]
            asked |= {run.key: run for run in runs}
            try:
                results |= _ask(folder, name, runs, timeout_s=timeout_s)
            except InterpreterError as error:
                unusable[name] = str(error)
        reference = _reference(results)
        if reference is None:
            raise InterpreterError(f"no interpreter runs this model: {_first_error(results, unusable)}")
        findings = [_compare(asked[key], results, reference) for key in results]
        findings = _locate(folder, cases, findings, results, reference, flatbuffer, timeout_s, say)
    return Report(" ".join(reference), tuple(findings), unusable)


@dataclass(frozen=True, eq=False)
class _Run:
    """One case on one interpreter."""

    backend: str
    kernels: str
    case: Case

    @property
    def key(self) -> _Key:
        return self.backend, self.kernels, self.case.name


_Key = tuple[str, str, str]
_Results = dict[_Key, tuple[str, list[Array] | str]]  # version, and outputs or why there are none


def _reference(results: _Results) -> tuple[str, str] | None:
    """Return the backend and kernels to compare with: numpy, else reference kernels, else any; they run all cases."""
    order: dict[tuple[str, str], bool] = {}
    for (backend, kernels, _), (_, outputs) in results.items():
        key = backend, kernels
        order[key] = order.get(key, True) and not isinstance(outputs, str)
    good = [key for key, fine in order.items() if fine]
    return min(good, key=lambda key: (key[0] != "numpy", key[1] != "reference"), default=None)


def _first_error(results: _Results, unusable: dict[str, str]) -> str:
    return next((o for _, o in results.values() if isinstance(o, str)), "; ".join(unusable.values()))


def _compare(run: _Run, results: _Results, reference: tuple[str, str]) -> Finding:
    version, outputs = results[run.key]
    about = Finding(run.case.name, run.backend, version, run.kernels, len(run.case.x))
    if isinstance(outputs, str):
        return Finding(**{**vars(about), "error": outputs})
    wanted = results[(*reference, run.case.name)][1][0]
    assert isinstance(wanted, np.ndarray)
    difference = distance(outputs[0], wanted)
    same = outputs[0].argmax(-1) == wanted.argmax(-1)
    return Finding(
        **{
            **vars(about), "is_float": wanted.dtype.kind == "f", "largest": float(difference.max()),
            "differing": float((difference > 0).mean()), "agreement": float(same.mean()),
        }
    )  # fmt: skip


def _locate(
    folder: Path, cases: Sequence[Case], findings: list[Finding], results: _Results, reference: tuple[str, str],
    flatbuffer: bytes, timeout_s: float, say: Callable[[str], None],
) -> list[Finding]:  # fmt: skip
    """Add to findings with a difference, more than the last bits of a float, the operator where it begins."""
    by_name = {case.name: case for case in cases}
    todo: list[Finding] = []
    smaller: dict[str, Case] = {}
    for finding in findings:
        if finding.error or not finding.largest:
            continue
        case = by_name[finding.case]
        outputs, right = (
            results[kind, kernels, case.name][1]
            for kind, kernels in ((finding.backend, finding.kernels), reference)
        )
        assert not isinstance(outputs, str) and not isinstance(right, str)
        if not differ(outputs[0], right[0]):
            continue
        todo.append(finding)
        worst = distance(outputs[0], right[0]).reshape(len(case.x), -1).max(1)
        chosen = np.argsort(-worst)[:LOCATE]
        smaller[finding.case] = Case(case.name, case.subgraph, case.x[chosen])
    if not todo:
        return findings
    say(f"{reference[0]}: operator by operator")
    runs = [_Run(*reference, case) for case in smaller.values()]
    known = _ask(folder, reference[0], runs, timeout_s=timeout_s, wanted={})
    wanted = {name: arrays for (_, _, name), (_, arrays) in known.items() if not isinstance(arrays, str)}
    traced: _Results = {}
    for backend in dict.fromkeys(f.backend for f in todo):
        say(f"{backend}: operator by operator")
        runs = [_Run(f.backend, f.kernels, smaller[f.case]) for f in todo if f.backend == backend]
        traced |= _ask(folder, backend, runs, timeout_s=timeout_s, wanted=wanted)
    graphs = tflite.read(flatbuffer).subgraphs
    located = []
    for finding in findings:
        _, mine = traced.get((finding.backend, finding.kernels, finding.case), ("", ""))
        if not isinstance(mine, str) and finding.case in wanted:
            number = len(mine) - 1  # it stopped at the first difference
            there = wanted[finding.case][number]
            if differ(mine[number], there):
                finding = replace(
                    finding, operator=number,
                    operator_name=graphs[by_name[finding.case].subgraph].operators[number].name,
                    operator_largest=float(distance(mine[number], there).max()),
                )  # fmt: skip
        located.append(finding)
    return located


def to_dict(report: Report) -> dict[str, Any]:
    """Return a report as plain values for JSON."""
    return {
        "reference": report.reference,
        "fine": report.fine,
        "findings": [asdict(finding) for finding in report.findings],
        "unusable": report.unusable,
    }


def render(report: Report) -> str:
    """Return a report as text for people."""
    lines = [
        f"compared with {report.reference}; steps of the output's quantiser (float: as they are)",
        f"{'interpreter':24s} {'kernels':10s} {'case':12s} {'inputs':>6s} {'largest':>8s} {'differ':>7s} "
        f"{'decisions':>9s}  begins at",
    ]
    for f in report.findings:
        begins = "" if f.operator is None else f"{f.operator} {f.operator_name} by {f.operator_largest:g}"
        result = f"{f.largest:8.3g} {f.differing:7.2%} {f.agreement:9.2%}  {begins}" if not f.error else f.error
        name = f"{f.backend} {f.version}"
        lines.append(f"{name:24s} {f.kernels:10s} {f.case:12s} {f.inputs:6d} {result}".rstrip())
    lines += [f"{name}: not compared: {why}" for name, why in report.unusable.items()]
    lines.append("fine" if report.fine else "DIFFERS")
    return "\n".join(lines)


# --- the other process ----------------------------------------------------------------------------


def _ask(
    folder: Path, backend: str, runs: Sequence[_Run], *, timeout_s: float,
    wanted: Mapping[str, Sequence[Array]] | None = None,
) -> _Results:  # fmt: skip
    """Return what a backend gives in a process of its own.

    With `wanted`: what every operator gives, up to the first that differs from those which it names for the case.

    Raises
    ------
    InterpreterError
        If it is not installed, dies or takes too long.
    """
    request = []
    for number, run in enumerate(runs):
        np.save(folder / f"in-{number}.npy", run.case.x)
        request.append({"kernels": run.kernels, "subgraph": run.case.subgraph, "whole": wanted is None})
        known = folder / f"wanted-{number}.npz"
        known.unlink(missing_ok=True)
        if wanted and run.case.name in wanted:
            np.savez(known, *wanted[run.case.name])
    (folder / "request.json").write_text(json.dumps(request))
    environment = {**os.environ, **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge_runtime.crosscheck_worker", str(folder), backend],
            capture_output=True, text=True, env=environment, timeout=timeout_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InterpreterError(f"{backend}: no answer within {timeout_s:g} s") from None
    if done.returncode:
        raise InterpreterError(f"{backend}: its process died ({_death(done.returncode, done.stderr)})")
    answer = json.loads(done.stdout)
    if "unusable" in answer:
        raise InterpreterError(answer["unusable"])
    found: _Results = {}
    for number, (run, error) in enumerate(zip(runs, answer["errors"], strict=True)):
        if error:
            found[run.key] = answer["version"], error
            continue
        with np.load(folder / f"out-{number}.npz", allow_pickle=False) as arrays:
            found[run.key] = answer["version"], [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    return found


def _death(code: int, said: str) -> str:
    if code < 0:
        return signal.Signals(-code).name
    return (said.strip().splitlines() or [f"exit code {code}"])[-1]
