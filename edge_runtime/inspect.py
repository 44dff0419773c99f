"""What a model file holds: operators with shapes, quantisation, work, bytes and time; memory; front end; provenance.

A bundle says everything; of a foreign ``.tflite`` the graph is shown, and what is missing is listed.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from . import arena, bundle, profile, sandbox, tflite
from .bundle import Bundle
from .errors import BundleError, InterpreterError
from .tflite import Operator, Subgraph, Tensor

LINEAR = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
SCHEMA = "edge-bench/inspect/1"


def operator_macs(graph: Subgraph, operator: Operator) -> int:
    """Return the multiply-accumulates of a convolution or a fully connected layer, 0 for anything else."""
    if operator.name not in LINEAR or len(operator.inputs) < 2 or min(operator.inputs[:2]) < 0 or not operator.outputs:
        return 0
    weights = graph.tensors[operator.inputs[1]].shape
    outputs = graph.tensors[operator.outputs[0]].shape
    if operator.name == "DEPTHWISE_CONV_2D":
        return math.prod(outputs) * math.prod(weights[1:3])
    return math.prod(outputs) * math.prod(weights[1:])


def parameters(graph: Subgraph) -> int:
    """Return how many numbers the weights and biases of a graph hold, each tensor counted once."""
    found = {
        i: math.prod(graph.tensors[i].shape)
        for operator in graph.operators
        if operator.name in LINEAR
        for i in operator.inputs[1:3]
        if i >= 0 and graph.tensors[i].data is not None
    }
    return sum(found.values())


def _quantization(tensor: Tensor) -> dict[str, Any] | None:
    if tensor.quantization is None:
        return None
    scales = tensor.quantization.scale
    return {"scale": scales[0], "zero_point": tensor.quantization.zero_point[0], "channels": len(scales)}


def _operators(graph: Subgraph) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    counted: set[int] = set()
    for operator in graph.operators:
        constants = [t for i in operator.inputs if i >= 0 and (t := graph.tensors[i]).data is not None]
        fresh = {t.buffer: len(t.data) for t in constants if t.buffer not in counted and t.data is not None}
        counted |= set(fresh)
        result = graph.tensors[operator.outputs[0]] if operator.outputs else None
        rows.append(
            {
                "op": operator.name,
                "shape": list(result.shape) if result else [],
                "dtype": result.dtype if result else None,
                "quantization": _quantization(result) if result else None,
                "macs": operator_macs(graph, operator),
                "bytes": sum(fresh.values()),
                "share": None,
            }
        )
    total = sum(row["macs"] for row in rows) or 1
    for row in rows:
        row["macs_share"] = round(row["macs"] / total, 4)
    return rows


def _end(tensor: Tensor) -> dict[str, Any]:
    shape = list(tensor.shape)
    return {"name": tensor.name, "shape": shape, "dtype": tensor.dtype, "quantization": _quantization(tensor)}


def _graph(graph: Subgraph) -> dict[str, Any]:
    operators = _operators(graph)
    return {
        "inputs": [_end(graph.tensors[i]) for i in graph.inputs],
        "outputs": [_end(graph.tensors[i]) for i in graph.outputs],
        "operators": operators,
        "counts": dict(Counter(row["op"] for row in operators).most_common()),
        "macs": sum(row["macs"] for row in operators),
        "arena_bytes": arena.arena_bytes(graph),
    }


def inspect_file(
    name: str | Path, *, backend: str = "auto", timed: bool = True, budget_s: float = 3.0,
    isolate: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Return ``edge-bench/inspect/1`` of a bundle, a shipped name, or any ``.tflite``.

    Parameters
    ----------
    name : path or str
    backend : str
        What to time with; see `edge_runtime.interpreter.Session`.
    timed : bool
        False runs nothing: no time, and no arena but the planned one.
    budget_s : float
        Seconds of timing, at most.
    isolate : bool
        Time it in a process with limits; see `edge_runtime.sandbox`.

    Raises
    ------
    BundleError
        If it is no model, or a damaged one.
    """
    path = bundle.resolve(name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}") from None
    model = tflite.read(data, what=str(path))
    if _has_info(data):
        built = bundle.parse(data, what=str(path))
        report, flatbuffer, main = inspect_bundle(built), built.flatbuffer, report_subgraph(built)
    else:
        report, flatbuffer, main = _foreign(data, str(path), model), data, 0
    if timed:
        _run(report, flatbuffer, model.subgraphs[main], main, backend, budget_s, isolate)
    return report


def report_subgraph(built: Bundle) -> int:
    """Return the number of the graph that the report's operators are of."""
    return int(built.info["forms"]["clip"]["subgraph"])


def _has_info(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return "bundle.json" in archive.namelist()
    except Exception:  # damaged archives raise a dozen types; what is no zip has no bundle.json
        return False


def inspect_bundle(built: Bundle) -> dict[str, Any]:
    """Return the report of a verified bundle, with nothing run."""
    forms = {}
    for signature in built.model.signatures:
        graph = built.model.subgraphs[signature.subgraph]
        forms[signature.key] = {**built.info["forms"][signature.key], **_graph(graph)}
    config, clip = built.front_end, forms["clip"]
    return {
        "schema": SCHEMA,
        "name": built.name,
        "path": built.path,
        "sha256": built.sha256,
        "bytes": built.size,
        "model_bytes": len(built.flatbuffer),
        "parameters": built.info["parameters"],
        "precision": built.info["precision"],
        "classes": list(built.classes),
        **{key: clip[key] for key in ("operators", "macs", "arena_bytes", "counts", "inputs", "outputs")},
        "arena": {"planned": clip["arena_bytes"]},
        "time": None,
        "receptive_field_s": round(((built.receptive_field - 1) * config.hop_length + config.frame_length)
                                   / config.sample_rate, 6),
        "front_end": built.info["front_end"],
        "front_end_key": config.key(),
        "forms": {key: {k: v for k, v in form.items() if k != "operators"} for key, form in forms.items()},
        "golden_vectors": len(built.golden),
        "training": built.info.get("training"),
        "calibration": built.info.get("calibration"),
        "licence": built.info.get("licence"),
        "made_by": built.info.get("made_by"),
        "missing": [],
    }  # fmt: skip


def _foreign(data: bytes, path: str, model: tflite.Model) -> dict[str, Any]:
    graph = model.subgraphs[0]
    about = _graph(graph)
    kinds = {graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)}
    missing = [
        "bundle.json (classes, front end, receptive field, provenance, licence): cut short, or never a bundle",
        "golden vectors: nothing proves what another machine got",
    ]
    if not model.signatures:
        missing.append("signatures: the first graph is shown")
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        missing.append("one input and one output: it is not timed")
    return {
        "schema": SCHEMA,
        "name": Path(path).name.removesuffix(".tflite"),
        "path": path,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "model_bytes": len(data),
        "parameters": parameters(graph),
        "precision": "/".join(sorted(kinds)),
        "classes": None,
        **about,
        "arena": {"planned": about["arena_bytes"]},
        "time": None,
        "receptive_field_s": None,
        "front_end": None,
        "front_end_key": None,
        "forms": {},
        "golden_vectors": 0,
        "training": None,
        "calibration": None,
        "licence": None,
        "made_by": model.description or None,
        "missing": missing,
    }


def _run(
    report: dict[str, Any], flatbuffer: bytes, graph: Subgraph, number: int, backend: str, budget_s: float,
    isolate: bool,
) -> None:  # fmt: skip
    """Add to a report what only an interpreter can tell: time by operator, and the arena that it allocated."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return
    examine = sandbox.examine if isolate else profile.examine
    try:
        found = examine(flatbuffer, number, backend=backend, budget_s=budget_s)
    except InterpreterError as error:
        report["missing"].append(f"time: {error}")
        return
    for row, share in zip(report["operators"], found["shares"], strict=True):
        row["share"] = round(share, 4)
    report["time"] = {key: found[key] for key in ("backend", "version", "rounds")}
    report["time"]["total_us"] = round(found["total_us"], 2)
    report["arena"] |= found["arena"]
