"""``edge-bench memory``."""

from __future__ import annotations

from typing import Any

import click

from edge_runtime.cli import write_json


@click.command()
@click.argument("bundle", default="swishnet-slim-int8")
@click.option("--runs", default=10, show_default=True, type=click.IntRange(1), help="Fresh processes.")
@click.option("--calls", default=10_000, show_default=True, type=click.IntRange(100), help="Clips, to see growth.")
@click.option("--clip", "clip_s", default=2.0, show_default=True, type=click.FloatRange(0.05, 60), help="Seconds.")
@click.option("--backend", default="auto", show_default=True, help="auto, litert, tflite-runtime, tf.lite or numpy.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def memory(
    bundle: str, runs: int, calls: int, clip_s: float, backend: str, threads: int, json_file: str | None
) -> None:  # fmt: skip
    """Show the memory of BUNDLE by stage, in fresh processes, and whether calls make it grow.

    \b
    What the columns mean:
      RSS        every resident page, shared libraries in full: what `ps` and an out-of-memory killer see
      PSS        shared pages divided among their users: moves with what else runs
      USS        pages nobody else has: falls when another process loads the same library
      anonymous  pages of no file: what the process itself allocated, steadiest to compare
      added      of RSS, by this stage
      spread     of RSS: largest less smallest of all runs, over the median
    The peak is the largest RSS of a process' life, imports included. The arena is what the TFLite interpreter needs
    for the graph's tensors, without a delegate. Growth is flat when a call adds less than 16 bytes: malloc gives no
    smaller block.

    \b
    Example:
      edge-bench memory
      edge-bench memory mine.tflite --clip 0.5 --json memory.json
    """
    from .memory_table import measure

    found = measure(
        bundle, runs=runs, calls=calls, clip_s=clip_s, backend=backend, threads=threads,
        say=lambda text: click.echo(f"  {text}", err=True),
    )  # fmt: skip
    if json_file != "-":
        click.echo(render(found))
    if json_file:
        write_json(json_file, found)


def render(found: dict[str, Any]) -> str:
    """Return a result as text for people."""
    from .memory_table import MEANING
    from .table import size, table

    def mib(value: float | None) -> str:
        return "-" if value is None else f"{value / (1 << 20):.2f}"

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f} %"

    rows, before = [], 0
    for stage, meaning in MEANING.items():
        row = found["stages"][stage]
        rss = row["rss"]["median"]
        added = "" if rss is None or not before else f"{(rss - before) / (1 << 20):+.2f}"
        before = rss or 0
        rows.append([meaning, mib(rss), added, *(mib(row[k]["median"]) for k in ("pss", "uss", "anonymous")),
                     percent(row["rss"]["spread"])])  # fmt: skip
    peak, growth = found["peak"], found["growth"]
    rows.append(["peak", mib(peak["median"]), "", "", "", "", percent(peak["spread"])])
    grown = growth["anonymous"] if growth["anonymous"] is not None else growth["rss"]
    return "\n".join(
        [
            f"{found['model']['name']} on {found['model']['backend']} {found['model']['backend_version']}, "
            f"{found['clip_s']:g} s clips, medians of {found['runs']} processes, MiB",
            "",
            table(["", "RSS", "added", "PSS", "USS", "anonymous", "spread"], rows),
            "",
            f"arena {size(found['arena'])}; {growth['calls']:,} calls added {grown or 0:,} bytes: "
            f"{'flat' if growth['flat'] else 'GROWS'}",
        ]
    )
