"""``edge-bench instructions``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from edge_runtime.cli import write_json

WORDS = {"frontend_hop": "front-end hop", "frontend": "front end", "model": "model", "invoke": "of which invoke"}


@click.command()
@click.argument("bundles", nargs=-1)
@click.option("--clip", "clip_s", default=2.0, show_default=True, type=click.FloatRange(0.05, 60), help="Seconds.")
@click.option("--source", default="auto", show_default=True, help="auto, perf or callgrind.")
@click.option("--backend", default="auto", show_default=True, help="auto, litert, tflite-runtime, tf.lite or numpy.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON, a baseline for `gate`; - for standard output.")
def instructions(bundles: tuple[str, ...], clip_s: float, source: str, backend: str, json_file: str | None) -> None:
    """Count the instructions of BUNDLES (the shipped slim int8 one by default): exact, whatever else runs here.

    Counted are one hop of 10 ms through the streaming front end, the front end of a whole clip, the model (quantise,
    set, invoke, get) and the invoke alone; user code, one thread. perf is the processor's own counter. callgrind is
    valgrind's virtual processor, which has AVX2 and no AVX-512, so on a processor that has it other kernels run than
    otherwise. Counts are no times: a cache miss counts as little as an addition.

    The file names the commit, so that a gate on other software can count the baseline again.

    \b
    Example:
      edge-bench instructions
      edge-bench instructions swishnet-slim-int8 swishnet-wide-int8 --json baseline.json
      edge-bench gate swishnet-slim-int8 --baseline baseline.json --instructions
    """
    from . import context
    from .instructions import SCHEMA, count
    from .table import table
    from .trees import commit_of

    counts = []
    for bundle in bundles or ("swishnet-slim-int8",):
        click.echo(f"  counting {bundle}", err=True)
        counts.append(count(bundle, clip_s=clip_s, source=source, backend=backend).to_dict())
    value = {"schema": SCHEMA, "commit": commit_of("HEAD"), "counts": counts, "context": context.collect()}
    if json_file != "-":
        rows = [[c["context"]["bundle"], *(f"{c[stage]:,}" for stage in WORDS)] for c in counts]
        first = counts[0]
        click.echo(f"instructions by {first['source']}, {clip_s:g} s clips, {first['context']['backend']} "
                   f"{first['context']['backend_version']}, numpy {first['context']['numpy']}\n")  # fmt: skip
        click.echo(table(["", *WORDS.values()], rows))
    if json_file:
        write_json(json_file, value)


def line(counted: Mapping[str, Any]) -> str:
    """Return counts as one line for people."""
    parts = ", ".join(f"{word} {counted[stage]:,}" for stage, word in WORDS.items())
    return f"instructions ({counted['source']}, {counted['context']['clip_s']:g} s clip): {parts}"
