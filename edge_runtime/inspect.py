"""What a bundle holds: operators with shapes, multiply-accumulates and bytes, and the metadata."""

from __future__ import annotations

import math
from typing import Any

from .bundle import Bundle
from .tflite import Operator, Subgraph


def operator_macs(graph: Subgraph, operator: Operator) -> int:
    """Return the multiply-accumulates of a convolution or a fully connected layer, 0 for anything else."""
    if operator.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return 0
    weights = graph.tensors[operator.inputs[1]].shape
    outputs = graph.tensors[operator.outputs[0]].shape
    if operator.name == "DEPTHWISE_CONV_2D":
        return math.prod(outputs) * math.prod(weights[1:3])
    return math.prod(outputs) * math.prod(weights[1:])


def _operators(graph: Subgraph) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    counted: set[int] = set()
    for operator in graph.operators:
        constants = [t for i in operator.inputs if i >= 0 and (t := graph.tensors[i]).data is not None]
        fresh = [t for t in constants if t.buffer not in counted]
        counted |= {t.buffer for t in fresh}
        rows.append(
            {
                "op": operator.name,
                "shape": list(graph.tensors[operator.outputs[0]].shape),
                "macs": operator_macs(graph, operator),
                "bytes": sum(len(t.data) for t in fresh if t.data is not None),
            }
        )
    total = sum(row["macs"] for row in rows) or 1
    for row in rows:
        row["share"] = round(row["macs"] / total, 4)
    return rows


def inspect_bundle(bundle: Bundle) -> dict[str, Any]:
    """Return ``edge-bench/inspect/1``: what ``edge-bench inspect`` prints."""
    forms = {}
    for signature in bundle.model.signatures:
        graph = bundle.model.subgraphs[signature.subgraph]
        operators = _operators(graph)
        forms[signature.key] = {
            **bundle.info["forms"][signature.key],
            "macs": sum(row["macs"] for row in operators),
            "operators": operators,
        }
    config = bundle.front_end
    return {
        "schema": "edge-bench/inspect/1",
        "name": bundle.name,
        "path": bundle.path,
        "sha256": bundle.sha256,
        "bytes": bundle.size,
        "model_bytes": len(bundle.flatbuffer),
        "parameters": bundle.info["parameters"],
        "precision": bundle.info["precision"],
        "classes": list(bundle.classes),
        "operators": forms["clip"]["operators"],
        "macs": forms["clip"]["macs"],
        "receptive_field_s": round(((bundle.receptive_field - 1) * config.hop_length + config.frame_length)
                                   / config.sample_rate, 6),
        "front_end": bundle.info["front_end"],
        "front_end_key": config.key(),
        "forms": {key: {k: v for k, v in form.items() if k != "operators"} for key, form in forms.items()},
        "golden_vectors": len(bundle.golden),
        "training": bundle.info.get("training"),
        "calibration": bundle.info.get("calibration"),
        "licence": bundle.info.get("licence"),
        "made_by": bundle.info.get("made_by"),
    }  # fmt: skip


def _end(end: dict[str, Any]) -> str:
    quantised = f" scale {end['scale']:.6g} zero {end['zero_point']}" if "scale" in end else ""
    return f"{end['dtype']} {tuple(end['shape'])}{quantised}"


def render(report: dict[str, Any]) -> str:
    """Return the report as text for people."""
    front = report["front_end"]
    lines = [
        f"{report['name']} ({report['precision']}): {report['parameters']:,} parameters, "
        f"{report['bytes']:,} bytes ({report['model_bytes']:,} without the bundle part)",
        f"sha256 {report['sha256']}",
        f"classes: {', '.join(report['classes'])}",
        f"front end {report['front_end_key']}: {front['kind']}, {front['sample_rate']} Hz, frames of "
        f"{front['frame_length']} every {front['hop_length']} samples, {front['mel_bands']} {front['mel_scale']} mel "
        f"bands {front['fmin']:g} to {front['fmax']:g} Hz, {front['coefficients']} coefficients",
        f"receptive field {report['receptive_field_s']:g} s; {report['golden_vectors']} golden vectors",
    ]
    for key, form in report["forms"].items():
        lines.append(
            f"{key}: {_end(form['input'])} -> {_end(form['output'])}, {form['macs']:,} multiply-accumulates"
        )
    lines.append("")
    lines.append(f"{'operator':18s} {'output':>20s} {'MACs':>10s} {'share':>6s} {'bytes':>7s}")
    for row in report["operators"]:
        lines.append(
            f"{row['op']:18s} {'x'.join(map(str, row['shape'])):>20s} {row['macs']:10,} {row['share']:6.1%} "
            f"{row['bytes']:7,}"
        )
    training = report["training"] or {}
    if training:
        lines.append("")
        lines += [f"training {k}: {v}" for k, v in training.items() if not isinstance(v, (dict, list))]
    if report["calibration"]:
        c = report["calibration"]
        lines.append(f"calibration: {c['clips']} clips of {len(c['recordings'])} recordings, sha256 {c['sha256'][:12]}")
    lines.append(f"licence {report['licence']}; made by {report['made_by']}")
    return "\n".join(lines)
