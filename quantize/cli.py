"""``edge-bench quantize``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_bench.train.cli import Bar, corpus_option, import_tensorflow, need_corpus
from edge_runtime.cli import write_json


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@corpus_option
@click.option("--recipe", default="static-int8", show_default=True, help="static-int8 or float32.")
@click.option("--max-drop", default=0.5, show_default=True, help="Largest loss of class-average F1, in points.")
@click.option("--out", type=click.Path(path_type=Path), help="The bundle; FOLDER/NAME.tflite by default.")
@click.option("--cache", type=click.Path(path_type=Path), help="Feature cache; or EDGE_BENCH_CACHE.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def quantize(
    folder: Path, corpus: Path | None, recipe: str, max_drop: float, out: Path | None, cache: Path | None,
    json_file: str | None,
) -> None:  # fmt: skip
    """Turn the training in FOLDER into a verified bundle.

    The bundle is compared with the Keras model on the validation split and not written (exit code 1) when it loses
    more than --max-drop points at any clip length.

    \b
    Example:
      edge-bench quantize runs/swishnet-slim --corpus ~/corpus --out swishnet-slim-int8.tflite
    """
    import sys

    import_tensorflow()
    from edge_bench.benchmarks.table import table

    from .prove import quantize as prove

    result = prove(folder, need_corpus(corpus), recipe=recipe, max_drop=max_drop, out=out, cache=cache, progress=Bar())
    if json_file != "-":
        rows = [
            [f"{key} s", f"{100 * r['float_macro_f1']:.2f}", f"{100 * r['int8_macro_f1']:.2f}", f"{r['drop']:+.2f}",
             f"{100 * r['agreement']:.2f}"]
            for key, r in result["by_length"].items()
        ]  # fmt: skip
        click.echo(table(["clip", "Keras F1", "bundle F1", "drop", "agreement"], rows))
        click.echo(
            f"{result['out']}: {result['bytes']:,} bytes" if result["written"]
            else f"not written: the drop is above {max_drop} points"
        )
    if json_file:
        write_json(json_file, result)
    if not result["written"]:
        sys.exit(1)
