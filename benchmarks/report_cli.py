"""``edge-bench report``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edge_runtime import ConfigError
from edge_runtime.cli import write_text


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULTS...")
@click.option("-o", "--out", default="report.html", show_default=True, metavar="FILE", help="- for standard output.")
@click.option("--title", default="edge-bench report", show_default=True)
@click.option("--figures", metavar="DIR", type=click.Path(path_type=Path),
              help="Write every picture as SVG and PNG, too (PNG: extra [report]).")  # fmt: skip
def report(files: tuple[Path, ...], out: str, title: str, figures: Path | None) -> None:
    """Make one HTML page of RESULTS: JSON of run, evaluate, gate, compare, history show, pytest --benchmark-json.

    The page needs no network: a summary in words, latency distributions, stages, memory, accuracy against latency
    against size (where evaluations are given beside runs), history with changes of level, environments and in what
    they differ; light and dark, each picture to be saved as SVG or PNG, its figures as a table.

    \b
    Example:
      edge-bench run --json run.json
      edge-bench evaluate swishnet-slim-int8 --json evaluation.json
      edge-bench report run.json evaluation.json -o report.html
    """
    from .report.gather import gather
    from .report.page import page, pictures

    def say(text: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\033[K  {text[:100]}", err=True, nl=False)

    found = gather(files, say=say)
    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    write_text(out, page(found, title=title))
    if out != "-":
        click.echo(f"{out}: {len(files)} file(s)")
    if figures:
        written = _write_figures([c for _, _, charts in pictures(found) for c in charts], figures)
        click.echo(f"{figures}: {written}", err=out == "-")


def _write_figures(charts: list[Any], folder: Path) -> str:
    from .report.draw import standalone
    from .report.page import WIDE

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror or error}") from None
    texts = {chart.key: standalone(chart.draw(WIDE)) for chart in charts}
    for key, text in texts.items():
        write_text(str(folder / f"{key}.svg"), text)
    try:
        import resvg_py
        from matplotlib import get_data_path
    except ModuleNotFoundError as error:
        return f"{len(texts)} SVG; no PNG without {error.name}: pip install 'edge-bench[report]'"
    font = str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    for key, text in texts.items():
        png = resvg_py.svg_to_bytes(
            svg_string=text, zoom=2, skip_system_fonts=True, font_files=[font], font_family="DejaVu Sans",
            sans_serif_family="DejaVu Sans",
        )  # fmt: skip
        (folder / f"{key}.png").write_bytes(bytes(png))
    return f"{len(texts)} SVG and PNG"
