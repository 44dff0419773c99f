"""``edge-bench repeatability``."""

from __future__ import annotations

from typing import Any

import click

from edge_runtime.cli import write_json


@click.command()
@click.argument("model", default="swishnet-slim-int8")
@click.option("--runs", default=10, show_default=True, type=click.IntRange(2), help="Of each contestant.")
@click.option("--budget", default=3.0, show_default=True, type=click.FloatRange(0.1), help="Seconds of our own runs.")
@click.option("--backend", default="auto", show_default=True, help="Of ours: auto, litert, tflite-runtime, ...")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def repeatability(model: str, runs: int, budget: float, backend: str, json_file: str | None) -> None:
    """Show how well the p50 of MODEL's invoke repeats: with our controls, without, and by LiteRT's own tool.

    MODEL is a bundle, a shipped name or any .tflite. Our controls: a fresh process on its least busy core, no garbage
    collector, a warm-up until times have settled, samples of at least 1 ms. "range" is the largest p50 less the
    smallest, over their median. litert-benchmark reports in steps of 10 us.

    \b
    Example:
      edge-bench repeatability
      edge-bench repeatability yamnet.tflite --runs 20 --json repeatability.json
    """
    from .repeatability import measure

    found = measure(
        model, runs=runs, budget_s=budget, backend=backend, say=lambda text: click.echo(f"  {text}", err=True)
    )
    if json_file != "-":
        click.echo(render(found))
    if json_file:
        write_json(json_file, found)


def render(found: dict[str, Any]) -> str:
    """Return a result as text for people."""
    from .table import micro, table

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f} %"

    rows = [
        [row["what"], micro(row["median"]), micro(min(row["p50"])), micro(max(row["p50"])), percent(row["range"]),
         percent(row["variation"])]
        for row in found["rows"]
    ]  # fmt: skip
    head = f"{found['model']}: p50 of an invoke in {found['runs']} runs, in turns; litert-benchmark: {found['peer']}"
    body = table(["", "median", "lowest", "highest", "range", "variation"], rows)
    return "\n".join([head, "", body, *(f"note: {remark}" for remark in found["context"]["remarks"])])
