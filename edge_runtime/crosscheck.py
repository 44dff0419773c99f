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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import Case
from .errors import ConfigError, InterpreterError
from .interpreter import BACKENDS, KERNELS

Array = NDArray[Any]
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
                results |= _ask(folder, name, runs, whole=True, timeout_s=timeout_s)
            except InterpreterError as error:
                unusable[name] = str(error)
        reference = _reference(results)
        if reference is None:
            raise InterpreterError(f"no interpreter runs this model: {_first_error(results, unusable)}")
        findings = [_compare(asked[key], results, reference) for key in results]
        findings = _locate(folder, cases, findings, results, reference, timeout_s, say)
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
    difference = _distance(outputs[0], wanted)
    same = outputs[0].argmax(-1) == wanted.argmax(-1)
    return Finding(
        **{
            **vars(about), "is_float": wanted.dtype.kind == "f", "largest": float(difference.max()),
            "differing": float((difference > 0).mean()), "agreement": float(same.mean()),
        }
    )  # fmt: skip


def _distance(a: Array, b: Array) -> Array:
    kind = np.int64 if a.dtype.kind in "iu" else np.float64
    distance: Array = np.abs(a.astype(kind) - b.astype(kind))
    return distance


def _locate(
    folder: Path, cases: Sequence[Case], findings: list[Finding], results: _Results, reference: tuple[str, str],
    timeout_s: float, say: Callable[[str], None],
) -> list[Finding]:  # fmt: skip
    """Add to findings with a difference the operator where it begins."""
    by_name = {case.name: case for case in cases}
    todo = [f for f in findings if f.largest and not f.error]
    traced: _Results = {}
    smaller: dict[str, Case] = {}
    for finding in todo:
        case = by_name[finding.case]
        outputs, wanted = (
            results[kind, kernels, case.name][1]
            for kind, kernels in ((finding.backend, finding.kernels), reference)
        )
        assert not isinstance(outputs, str) and not isinstance(wanted, str)
        worst = _distance(outputs[0], wanted[0]).reshape(len(case.x), -1).max(1)
        chosen = np.argsort(-worst)[:LOCATE]
        smaller[finding.case] = Case(case.name, case.subgraph, case.x[chosen])
    runs = [_Run(f.backend, f.kernels, smaller[f.case]) for f in todo]
    runs += [_Run(*reference, case) for case in smaller.values()]
    for backend in dict.fromkeys(run.backend for run in runs):
        say(f"{backend}: operator by operator")
        mine = [run for run in runs if run.backend == backend]
        traced |= _ask(folder, backend, mine, whole=False, timeout_s=timeout_s)
    return [_with_operator(f, traced, reference) if f in todo else f for f in findings]


def _with_operator(
    finding: Finding, traced: _Results, reference: tuple[str, str]
) -> Finding:
    (_, mine), (_, wanted) = traced[finding.backend, finding.kernels, finding.case], traced[(*reference, finding.case)]
    if isinstance(mine, str) or isinstance(wanted, str):
        return finding
    names = mine[0]
    for number, (a, b) in enumerate(zip(mine[1:], wanted[1:], strict=True)):
        largest = float(_distance(a, b).max(initial=0))
        # float kernels sum in another order: not worth a word until it is more than that
        if largest > (0 if a.dtype.kind in "iu" else 1e-5 * max(1.0, float(np.abs(b).max(initial=0)))):
            return Finding(
                **{
                    **vars(finding), "operator": number, "operator_name": str(names[number]),
                    "operator_largest": largest,
                }
            )  # fmt: skip
    return finding


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


def _ask(folder: Path, backend: str, runs: Sequence[_Run], *, whole: bool, timeout_s: float) -> _Results:
    """Return what a backend gives in a process of its own.

    Raises
    ------
    InterpreterError
        If it is not installed, dies or takes too long.
    """
    request = []
    for number, run in enumerate(runs):
        np.save(folder / f"in-{number}.npy", run.case.x)
        request.append({"kernels": run.kernels, "subgraph": run.case.subgraph, "whole": whole})
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
