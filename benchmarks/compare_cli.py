"""``edge-bench compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_runtime.cli import write_json


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--level", default=0.95, show_default=True, type=click.FloatRange(0.5, 0.9999), help="Of the intervals.")
@click.option("--force", is_flag=True, help="Compare although the environments differ.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def compare(a: Path, b: Path, level: float, force: bool, json_file: str | None) -> None:
    """Compare the results A.json and B.json of `edge-bench run`, stage by stage.

    "B / A" is the ratio of the medians: 1.05 says that B takes 5 % longer. The intervals hold together at --level.
    They know nothing of what differs from process to process; to decide on a change, use `edge-bench gate`.

    \b
    Example:
      edge-bench run --json before.json
      edge-bench run new.tflite --json after.json
      edge-bench compare before.json after.json
    """
    from . import results
    from .compare import compare as against

    found = against(results.read(a), results.read(b), level=level, force=force)
    if json_file != "-":
        click.echo(render(found, str(a), str(b)))
    if json_file:
        write_json(json_file, found)


def render(found: dict[str, Any], a: str, b: str) -> str:
    """Return a comparison as text for people."""
    from .results import STAGE_WORDS
    from .table import micro, size, table

    rows = []
    for clip in found["clips"]:
        for stage, row in clip["stages"].items():
            low, high = row["interval"]
            word = "no difference seen" if row["verdict"] == "same" else row["verdict"]
            rows.append(
                [f"{clip['clip_s']:g} s  {STAGE_WORDS[stage]}", micro(row["a_p50"]), micro(row["b_p50"]),
                 f"{row['ratio']:.3f}", f"{low:.3f} to {high:.3f}", f"{row['effect']:+.2f} {row['effect_word']}", word]
            )  # fmt: skip
    lines = [
        f"A  {a}: {found['a']['name']}, {size(found['a']['bytes'])}, {found['a']['time']}",
        f"B  {b}: {found['b']['name']}, {size(found['b']['bytes'])}, {found['b']['time']}",
        "",
        table(["clip", "A p50", "B p50", "B / A", f"{100 * found['level']:g} % interval", "effect", ""], rows),
        "",
        "memory, peak RSS: " + " -> ".join(size(found["memory"]["peak"][k]) for k in ("a", "b")),
    ]
    if found["environment_differences"]:
        lines.append(f"note: the environments differ: {'; '.join(found['environment_differences'])}")
    lines += [f"note: {remark}" for remark in found["remarks"]]
    return "\n".join(lines)
