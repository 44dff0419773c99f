"""``edge-bench export``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime import ConfigError
from edge_runtime.cli import write_text

from .exporters import FORMATS


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "format_name", required=True, type=click.Choice(list(FORMATS)))
@click.option("--out", default="-", show_default=True, metavar="FILE", help="- for standard output.")
def export(files: tuple[Path, ...], format_name: str, out: str) -> None:
    """Write results of `edge-bench run`, or of `pytest --benchmark-json`, in the format of another tool.

    \b
    Example:
      edge-bench run --json run.json
      edge-bench export run.json --format github-action-benchmark --out bench.json
    """
    from . import documents, exporters
    from .exporters import suites

    read = [documents.read(file, "run", documents.PYTEST) for file in files]
    kinds = {kind for kind, _ in read}
    found = [value for _, value in read]
    if len(kinds) > 1:
        raise ConfigError("files of edge-bench run and of pytest-benchmark do not go into one export: export each")
    if kinds == {documents.PYTEST}:
        if format_name == documents.PYTEST:
            raise ConfigError("a file of pytest-benchmark is in its format already")
        write_text(out, suites.export(format_name, found))
        return
    names = [result["model"]["name"] for result in found]
    if format_name == "bencher" and len(set(names)) < len(names):
        raise ConfigError(f"two results are of {max(names, key=names.count)}: Bencher keeps one of a name, export each")
    write_text(out, exporters.export(format_name, found))
