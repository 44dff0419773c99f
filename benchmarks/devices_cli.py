"""``edge-bench devices``."""

from __future__ import annotations

from typing import Any

import click

from edge_runtime.cli import write_json


@click.command()
@click.argument("bundle", default="swishnet-slim-int8")
@click.option("--clip", "clip_s", default=2.0, show_default=True, type=click.FloatRange(0.05, 60), help="Seconds.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="Processes for each way.")
@click.option("--budget", default=0.5, show_default=True, type=click.FloatRange(0.01), help="Seconds for each figure.")
@click.option("--batch", default=256, show_default=True, type=click.IntRange(2), help="Clips in a large batch.")
@click.option("--threads", type=click.IntRange(1), help="At most; the cores of this machine by default.")
@click.option("--frameworks/--no-frameworks", default=True, help="Also the network in Keras on TensorFlow and JAX.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def devices(
    bundle: str, clip_s: float, repeats: int, budget: float, batch: int, threads: int | None, frameworks: bool,
    json_file: str | None,
) -> None:  # fmt: skip
    """Time BUNDLE's network on every interpreter, number of threads and device that is here.

    LiteRT, tflite-runtime and the numpy executor with 1, 2, ... threads; LiteRT's accelerators; the same network in
    Keras on TensorFlow and JAX, on the CPU and on a GPU. "Copies" are those from the host's memory to the device and
    back. What is not here is listed with the reason. The front end is not in these figures.

    \b
    Example:
      edge-bench devices
      edge-bench devices swishnet-wide-int8 --batch 1024 --json devices.json
    """
    from .devices import measure

    found = measure(
        bundle, clip_s=clip_s, repeats=repeats, budget_s=budget, batch=batch, most_threads=threads,
        frameworks=frameworks, say=lambda text: click.echo(f"  {text}", err=True),
    )  # fmt: skip
    if json_file != "-":
        click.echo(render(found))
    if json_file:
        write_json(json_file, found)


def render(found: dict[str, Any]) -> str:
    """Return a result as text for people."""
    from .devices import finding
    from .table import micro, table

    rows, missing = [], []
    for row in found["rows"]:
        name = f"{row['device']}, {row['runtime']}"
        if "absent" in row:
            missing.append(f"{name}, {row['threads']} thread(s): {row['absent']}")
            continue
        one = [micro(row[k]["p50"]) for k in ("with_copies", "without_copies")]
        batches = [row[k] for k in ("batch_with_copies", "batch_without_copies")]
        many = [f"{b['clips_per_s']:,.0f}" if b else "-" for b in batches]
        rows.append([f"{name} {row['version']}", str(row["threads"]), *one, *many, row["note"]])
    header = ["device, runtime", "threads", "one clip", "without copies", "clips/s in batches", "without copies", ""]
    lines = [f"{found['model']['name']}, {found['clip_s']:g} s clips, batches of {found['batch']}", ""]
    lines += [table(header, rows), "", *(f"absent: {text}" for text in missing), finding(found["rows"])]
    return "\n".join([*lines, *(f"note: {remark}" for remark in found["context"]["remarks"])])
