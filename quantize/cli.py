"""``edge-bench quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_bench.train.cli import Bar, corpus_option, import_tensorflow, need_corpus
from edge_runtime.cli import write_json

WORST = 8  # operators that are named


@click.command()
@click.argument("source")
@corpus_option
@click.option("--recipe", default="static-int8", show_default=True,
              help="static-int8, int16x8, dynamic-int8, float16 or float32.")  # fmt: skip
@click.option("--ranges", help="How a static recipe chooses ranges: min-max, percentile or mse.")
@click.option("--optimise", default="balanced", show_default=True,
              help="latency, size or balanced (SwishNet); plain is the usual export, to compare with.")  # fmt: skip
@click.option("--max-drop", default=0.5, show_default=True, help="Largest loss of class-average F1, in points.")
@click.option("--qat", is_flag=True, help="Train on with the rounding of int8 in the network.")
@click.option("--epochs", default=5, show_default=True, help="Of --qat.")
@click.option("--forms", is_flag=True, help="Measure what each form costs, the plain export included.")
@click.option("--interpreters/--no-interpreters", default=True, show_default=True,
              help="Run it on every interpreter that is installed.")  # fmt: skip
@click.option("--extra", multiple=True, type=click.Path(path_type=Path), metavar="FOLDER",
              help="Calibrate on its recordings, too; a training's own by default.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path),
              help="The bundle, which is named after the file; in the training's folder by default.")  # fmt: skip
@click.option("--cache", type=click.Path(path_type=Path), help="Feature cache; or EDGE_BENCH_CACHE.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE",
              help="Draw noise by operator and scores (PNG).")  # fmt: skip
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def quantize(
    source: str, corpus: Path | None, recipe: str, ranges: str | None, optimise: str, max_drop: float, qat: bool,
    epochs: int, forms: bool, interpreters: bool, extra: tuple[Path, ...], out: Path | None, cache: Path | None,
    plot: Path | None, json_file: str | None,
) -> None:  # fmt: skip
    """Turn SOURCE, a training's folder or a float32 bundle, into a verified bundle.

    The bundle is compared with the Keras model on the validation split and not written (exit code 1) when it loses
    more than --max-drop points at any clip length.

    \b
    Example:
      edge-bench quantize runs/swishnet-slim --corpus ~/corpus --out swishnet-slim-int8.tflite
      edge-bench quantize swishnet-slim-float32 --ranges min-max --extra midi-wav --out mine.tflite
      edge-bench quantize runs/swishnet-slim --qat --epochs 5 --forms --plot proof.png --json proof.json
    """
    import sys

    from edge_runtime import ConfigError

    if qat and epochs < 1:
        raise ConfigError(f"epochs is {epochs}, must be at least 1")
    import_tensorflow()
    from .plot import draw_proof
    from .prove import Request
    from .prove import quantize as prove

    request = Request(recipe, ranges, optimise, max_drop, epochs if qat else 0, interpreters, forms)
    result = prove(
        source, need_corpus(corpus), request=request, extra=extra, out=out, cache=cache, progress=Bar(),
        say=lambda text: click.echo(text, err=True),
    )  # fmt: skip
    if json_file != "-":
        click.echo(render(result))
    if plot:
        draw_proof(result, plot)
    if json_file:
        write_json(json_file, result)
    if not result["written"]:
        sys.exit(1)


def render(result: dict[str, Any]) -> str:
    """Return a result as text for people."""
    from edge_bench.benchmarks.table import table

    rows = [
        [f"{key} s", f"{100 * r['float_macro_f1']:.2f}", f"{100 * r['int8_macro_f1']:.2f}", f"{r['drop']:+.2f}",
         "{:+.2f} to {:+.2f}".format(*r["drop_interval"]), f"{100 * r['agreement']:.2f}"]
        for key, r in result["by_length"].items()
    ]  # fmt: skip
    parts = [table(["clip", "Keras F1", "bundle F1", "drop", "95 % interval", "agreement"], rows)]
    if result["layers"]:
        parts.append(_layers(result))
    if result["interpreters"]:
        parts.append(_interpreters(result["interpreters"]))
    if result["forms"]:
        parts.append(_forms(result["forms"]))
    chosen = f", ranges by {result['ranges']}" if result["ranges"] else ""
    parts.append(
        f"{result['recipe']}{chosen}; {result['form']}: {result['model_bytes']:,} bytes, "
        f"{result['bytes']:,} with the bundle part\n{result['out']}"
        if result["written"] else f"not written: the drop is above {result['max_drop']} points"
    )  # fmt: skip
    return "\n\n".join(parts)


def _layers(result: dict[str, Any]) -> str:
    from edge_bench.benchmarks.table import table

    by_number = {layer["number"]: layer for layer in result["layers"]}
    worst = [by_number[number] for number in result["to_blame"][:WORST]]
    rows = [
        [f"{r['number']} {r['op'].lower()}", f"{100 * r['added']:.2f}", f"{r['sqnr_db']:.1f}",
         f"{100 * r['saturated']:.2f}", str(r["dead_channels"])]
        for r in worst
    ]  # fmt: skip
    return table(["operators to blame", "noise added, %", "SQNR dB", "saturated, %", "dead channels"], rows)


def _interpreters(report: dict[str, Any]) -> str:
    from edge_bench.benchmarks.table import table

    rows = []
    for f in report["findings"]:
        begins = "equal" if not f["largest"] else f"{f['operator']} {f['operator_name'].lower()}"
        rows.append([f"{f['backend']} {f['version']}, {f['kernels']} kernels", f["case"],
                     f["error"] or f"{f['largest']:g}", f"{100 * f['agreement']:.2f}", begins])  # fmt: skip
    text = table([f"against {report['reference']}", "case", "largest, LSB", "same class, %", "begins at"], rows)
    return "\n".join([text, *(f"{name}: not compared: {why}" for name, why in report["unusable"].items())])


def _forms(forms: list[dict[str, Any]]) -> str:
    from edge_bench.benchmarks.table import micro, table

    rows = [
        [f["form"], str(f["operators"]), f"{f['delegated']} in {f['partitions']}", f"{f['macs']:,}",
         f"{f['parameters']:,}", f"{f['model_bytes']:,}", micro(f["us"])]
        for f in forms
    ]  # fmt: skip
    return table(["form", "operators", "delegated", "MACs", "parameters", "bytes", "invoke"], rows)
