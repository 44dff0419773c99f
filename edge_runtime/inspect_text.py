"""An inspection, and the comparison of two, as text for people; and what two reports differ in."""

from __future__ import annotations

import difflib
from typing import Any

_Pair = tuple[dict[str, Any] | None, dict[str, Any] | None]
_PLAIN = (
    "name", "precision", "bytes", "model_bytes", "parameters", "macs", "arena_bytes", "receptive_field_s", "classes",
    "golden_vectors", "licence", "made_by",
)  # fmt: skip
_NESTED = ("counts", "inputs", "outputs", "front_end", "training", "calibration")


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what two reports differ in: name of the value, ours and theirs; nested names are joined by dots."""
    found = [{"what": key, "a": a[key], "b": b[key]} for key in _PLAIN if a[key] != b[key]]
    times = [report["time"]["total_us"] if report["time"] else None for report in (a, b)]
    if times[0] != times[1]:
        found.append({"what": "time_us", "a": times[0], "b": times[1]})
    for key in _NESTED:
        mine, theirs = _flat(a[key], key), _flat(b[key], key)
        for name in dict.fromkeys([*mine, *theirs]):
            if mine.get(name) != theirs.get(name):
                found.append({"what": name, "a": mine.get(name), "b": theirs.get(name)})
    return found


def _flat(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        parts = [(str(i), item) for i, item in enumerate(value)]
    else:
        return {} if value is None else {name: value}
    return {key: item for part, inner in parts for key, item in _flat(inner, f"{name}.{part}").items()}


def operator_differences(a: dict[str, Any], b: dict[str, Any]) -> list[_Pair]:
    """Return the operators side by side, aligned by name and shape; None where one has no counterpart."""
    mine_keys, their_keys = ([(r["op"], tuple(r["shape"])) for r in report["operators"]] for report in (a, b))
    pairs: list[_Pair] = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, mine_keys, their_keys, autojunk=False).get_opcodes():
        mine, theirs = a["operators"][i:j], b["operators"][k:m]
        if kind == "equal":
            pairs += zip(mine, theirs, strict=True)
        else:
            pairs += [(row, None) for row in mine] + [(None, row) for row in theirs]
    return pairs


def comparison(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Return ``edge-bench/inspect-compare/1``."""
    return {
        "schema": "edge-bench/inspect-compare/1",
        "a": a,
        "b": b,
        "differences": differences(a, b),
        "operators": [{"a": mine, "b": theirs} for mine, theirs in operator_differences(a, b)],
    }


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = "-" if value is None else ", ".join(map(_short, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 36 else f"{text[:33]}..."


def _file(path: str) -> str:
    return path if len(path) <= 36 else f"...{path[-33:]}"


def _printable(line: str) -> str:
    """Return a line without control characters: names in a file from a stranger could move the terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in line)


def _shape(row: dict[str, Any] | None) -> str:
    return "x".join(map(str, row["shape"])) if row else ""


def _quantised(quantization: dict[str, Any] | None) -> str:
    return f"{quantization['scale']:.5g}, {quantization['zero_point']}" if quantization else ""


def _share(row: dict[str, Any] | None) -> str:
    return "" if row is None or row["share"] is None else f"{row['share']:.1%}"


def _end(end: dict[str, Any]) -> str:
    q = end["quantization"]
    return f"{end['dtype']} {tuple(end['shape'])}" + (f" scale {q['scale']:.6g} zero {q['zero_point']}" if q else "")


def render(report: dict[str, Any]) -> str:
    """Return a report as text."""
    known = report["parameters"]
    lines = [
        f"{report['name']} ({report['precision']}): {known:,} parameters, {report['bytes']:,} bytes"
        + (f" ({report['model_bytes']:,} without the bundle part)" if report["model_bytes"] < report["bytes"] else ""),
        f"sha256 {report['sha256']}",
    ]
    if report["classes"]:
        lines.append(f"classes: {', '.join(report['classes'])}")
    if front := report["front_end"]:
        lines.append(
            f"front end {report['front_end_key']}: {front['kind']}, {front['sample_rate']} Hz, frames of "
            f"{front['frame_length']} every {front['hop_length']} samples, {front['mel_bands']} {front['mel_scale']} "
            f"mel bands {front['fmin']:g} to {front['fmax']:g} Hz, {front['coefficients']} coefficients"
        )
        lines.append(
            f"receptive field {report['receptive_field_s']:g} s; {report['golden_vectors']} golden vectors"
        )
    for key, form in (report["forms"] or {"graph": report}).items():
        ends = [", ".join(map(_end, form[side])) for side in ("inputs", "outputs")]
        lines.append(f"{key}: {ends[0]} -> {ends[1]}")
        lines.append(f"  {form['macs']:,} multiply-accumulates, arena {form['arena_bytes']:,} bytes")
    observed = [f"{report['arena'][k]:,} with {k} kernels" for k in ("reference", "plain") if k in report["arena"]]
    if observed:
        lines.append(f"arena of the first graph as allocated: {', '.join(observed)} (their scratch included)")
    if report["time"]:
        t = report["time"]
        lines.append(f"{t['total_us']:.3g} us an invoke on {t['backend']} {t['version']}, median of {t['rounds']}")
    lines.append("")
    lines.append(
        f"{'':>3s} {'operator':18s} {'output':>14s} {'scale, zero':>15s} {'MACs':>10s} {'bytes':>7s} {'time':>6s}"
    )
    for number, row in enumerate(report["operators"]):
        lines.append(
            f"{number:3d} {row['op']:18s} {_shape(row):>14s} {_quantised(row['quantization']):>15s} {row['macs']:10,} "
            f"{row['bytes']:7,} {_share(row):>6s}"
        )
    if training := {k: v for k, v in (report["training"] or {}).items() if not isinstance(v, (dict, list))}:
        lines += ["", *(f"training {k}: {v}" for k, v in training.items())]
    if c := report["calibration"]:
        lines.append(f"calibration: {c['clips']} clips of {len(c['recordings'])} recordings, sha256 {c['sha256'][:12]}")
    lines.append(f"licence {report['licence'] or 'not stated'}; made by {report['made_by'] or 'an unknown tool'}")
    lines += [f"missing: {what}" for what in report["missing"]]
    return "\n".join(map(_printable, lines))


def render_comparison(value: dict[str, Any]) -> str:
    """Return a comparison as text: the values that differ, then the operators side by side."""
    a, b = value["a"], value["b"]
    wide = max([20, *(len(entry["what"]) for entry in value["differences"])])
    lines = [f"{'':{wide}s} {_file(a['path']):>36s} {_file(b['path']):>36s}"]
    for entry in value["differences"]:
        lines.append(f"{entry['what']:{wide}s} {_short(entry['a']):>36s} {_short(entry['b']):>36s}")
    if not value["differences"]:
        lines.append("no difference but the file's own bytes" if a["sha256"] != b["sha256"] else "the same file")
    lines += ["", f"  {'operator':18s} {'output':>14s} {'MACs':>21s} {'bytes':>15s} {'time':>13s}"]
    for pair in value["operators"]:
        mine, theirs = pair["a"], pair["b"]
        row = mine or theirs
        mark = " " if mine and theirs else "-" if mine else "+"
        sides = [
            f"{side['macs']:,}|{side['bytes']:,}|{_share(side)}".split("|") if side else ["", "", ""]
            for side in (mine, theirs)
        ]
        cells = [f"{x:>{w}s} {y:>{w}s}" for x, y, w in zip(*sides, (10, 7, 6), strict=True)]
        lines.append(f"{mark} {row['op']:18s} {_shape(row):>14s} {' '.join(cells)}".rstrip())
    return "\n".join(map(_printable, lines))
