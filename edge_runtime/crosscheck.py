"""One model on every interpreter that is installed, each in a process of its own: do they say the same?

tflite-runtime does not work in a process that has loaded TensorFlow, and an interpreter that crashes must not take
the others along. Every result is compared with the numpy executor's, which is TFLite's reference kernels to the bit;
where they differ, the graph is cut off behind each operator to find the first one that differs.

``python -m edge_runtime.crosscheck FOLDER BACKEND`` is the process that runs one interpreter.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import tflite
from .bundle import Bundle
from .errors import ConfigError, EdgeBenchError, InterpreterError
from .interpreter import BACKENDS, KERNELS, Session
from .truncate import truncated

Array = NDArray[Any]
LOCATE = 16  # inputs that are followed operator by operator


@dataclass(frozen=True)
class Case:
    """Inputs for one graph of a model.

    Attributes
    ----------
    name : str
    subgraph : int
    x : np.ndarray, shape (n, *input shape)
        What the graph is fed, quantised if it is. The third axis of the input may have another length.
    """

    name: str
    subgraph: int
    x: Array


@dataclass(frozen=True)
class Finding:
    """How far one interpreter is from the reference on one case.

    Attributes
    ----------
    case, backend, version, kernels : str
        Kernels as in `edge_runtime.interpreter.Session`.
    inputs : int
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


def random_inputs(shape: Sequence[int], dtype: str, count: int, rng: np.random.Generator) -> Array:
    """Return `count` random inputs of several loudnesses: with all of them loud, most gates would be shut."""
    loud = rng.choice([5, 20, 60, 200], (count, *(1,) * len(shape)))
    x = rng.standard_normal((count, *shape), np.float32) * loud + rng.normal(0, 10)
    if dtype == "float32":
        return (x / 60).astype(np.float32)
    if dtype not in ("int8", "uint8", "int16"):
        raise ConfigError(f"inputs of type {dtype} cannot be made")
    info = np.iinfo(dtype)
    return np.clip(np.rint(x + (info.min + info.max + 1) // 2), info.min, info.max).astype(dtype)


def model_cases(flatbuffer: bytes, count: int, *, seed: int = 0) -> list[Case]:
    """Return random inputs for every graph of any model."""
    rng, cases = np.random.default_rng(seed), []
    for number, graph in enumerate(tflite.read(flatbuffer).subgraphs):
        source = graph.tensors[graph.inputs[0]]
        x = random_inputs(source.shape, source.dtype, count, rng)
        cases.append(Case(graph.name or f"graph {number}", number, x))
    return cases


def bundle_cases(bundle: Bundle, count: int, *, seed: int = 0, clip_s: Sequence[float] = (0.5, 1, 2)) -> list[Case]:
    """Return random inputs for the clip signature at several lengths, and for the others at their own."""
    rng, cases = np.random.default_rng(seed), []
    for key, form in bundle.info["forms"].items():
        shape, dtype = form["input"]["shape"], form["input"]["dtype"]
        if key == "clip":
            for seconds in clip_s:
                frames = bundle.padded_frames(bundle.clip_frames(seconds))
                x = random_inputs([*shape[:2], frames, *shape[3:]], dtype, count, rng)
                cases.append(Case(f"clip {seconds:g} s", form["subgraph"], x))
        else:
            cases.append(Case(key, form["subgraph"], random_inputs(shape, dtype, count, rng)))
    return cases


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
        See `bundle_cases` and `model_cases`, or make them of real clips.
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
            **vars(about), "largest": float(difference.max()), "differing": float((difference > 0).mean()),
            "agreement": float(same.mean()),
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
            [sys.executable, "-m", "edge_runtime.crosscheck", str(folder), backend],
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


def _work(folder: Path, backend: str) -> dict[str, Any]:
    """Run everything that is asked for on one backend and return its version and an error for each run."""
    flatbuffer = (folder / "model.tflite").read_bytes()
    model = tflite.read(flatbuffer)
    version, errors = "", []
    for number, run in enumerate(json.loads((folder / "request.json").read_text())):
        x = np.load(folder / f"in-{number}.npy", allow_pickle=False)
        graph = model.subgraphs[run["subgraph"]]
        stops = [None] if run["whole"] else range(1, len(graph.operators) + 1)
        arrays = [] if run["whole"] else [np.array([operator.name for operator in graph.operators])]
        try:
            for stop in stops:
                cut = truncated(flatbuffer, stop, subgraph=run["subgraph"])
                own = graph.tensors[graph.inputs[0]].shape == x.shape[1:]
                session = Session(
                    cut, frames=None if own else x.shape[3], backend=backend, kernels=run["kernels"]
                )
                version = session.version
                arrays.append(np.stack([session.run(one) for one in x]))
            np.savez(folder / f"out-{number}.npz", *arrays)
            errors.append("")
        except InterpreterError as error:
            if not version and "refuses the model" not in str(error):
                return {"unusable": str(error)}
            errors.append(str(error))
    return {"version": version, "errors": errors}


if __name__ == "__main__":
    try:
        print(json.dumps(_work(Path(sys.argv[1]), sys.argv[2])))
    except EdgeBenchError as error:
        print(json.dumps({"unusable": str(error)}))
