"""``edge-bench doctor``."""

from __future__ import annotations

from typing import Any

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
        click.echo(render(found))
    if json_file:
        write_json(json_file, found)


def render(found: dict[str, Any]) -> str:
    """Return an examination as text for people."""
    titles = {"installed": "Installed", "interpreters": "Interpreters", "tools": "Tools", "timing": "Timing here"}
    marks = {"fine": "  ", "note": "- ", "bad": "! "}
    width = max(len(f["subject"]) for f in found["findings"])
    lines = []
    for group, title in titles.items():
        lines.append(f"{title}")
        for f in (f for f in found["findings"] if f["group"] == group):
            lines.append(f"{marks[f['state']]}{f['subject']:{width}}  {f['found']}")
            if f["remedy"]:
                lines.append(f"{'':{width + 4}}-> {f['remedy']}")
        lines.append("")
    bad = [f["subject"] for f in found["findings"] if f["state"] == "bad"]
    lines.append(f"to mend (!): {', '.join(bad)}" if bad else "all is well: timings of this machine can be trusted")
    return "\n".join(lines)
