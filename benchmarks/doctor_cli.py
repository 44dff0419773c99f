"""``edge-bench doctor``."""

from __future__ import annotations

import click

from edge_runtime.cli import write_json


@click.command()
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def doctor(json_file: str | None) -> None:
    """Say what is installed, which interpreter runs, what makes timings unsteady here, and what to do.

    \b
    Example:
      edge-bench doctor
    """
    from .doctor import examine

    found = examine()
    if json_file != "-":
        marks = {"fine": "  ", "note": "- ", "bad": "! "}
        width = max(len(f["subject"]) for f in found["findings"])
        for f in found["findings"]:
            remedy = f"\n{'':{width + 4}}-> {f['remedy']}" if f["remedy"] else ""
            click.echo(f"{marks[f['state']]}{f['subject']:{width}}  {f['found']}{remedy}")
        bad = sum(f["state"] == "bad" for f in found["findings"])
        click.echo(f"\n{bad} thing(s) to mend (!)" if bad else "\nall is well")
    if json_file:
        write_json(json_file, found)
