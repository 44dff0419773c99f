"""A picture of an inspection: where the time, the work and the bytes are, operator by operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_runtime import ConfigError
from edge_runtime.files import write_aside

FORMATS = (".png", ".svg", ".pdf")


def check_format(path: str | Path) -> None:
    """Raise ConfigError if a picture of that name cannot be written, before anything is measured for it."""
    if Path(path).suffix.lower() not in FORMATS:
        raise ConfigError(f"{path}: a picture's name must end in {', '.join(FORMATS)}")


def plot(report: dict[str, Any], path: str | Path) -> None:
    """Write aligned bar charts, one row an operator: time (if it was measured), work, bytes.

    Raises
    ------
    ConfigError
        If the name ends in no picture format.
    BundleError
        If the file cannot be written.
    """
    check_format(path)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = report["operators"]
    labels = [f"{i}  {row['op'].lower()}  {'x'.join(map(str, row['shape']))}" for i, row in enumerate(rows)]
    total = sum(row["bytes"] for row in rows) or 1
    columns = [
        ("share of multiply-accumulates, %", [100 * row["macs_share"] for row in rows], "#b8762b"),
        ("share of constant bytes, %", [100 * row["bytes"] / total for row in rows], "#5a7d4b"),
    ]
    if report["time"]:
        columns.insert(0, ("share of time, %", [100 * row["share"] for row in rows], "#35618f"))
    size = (11, 1.4 + 0.2 * len(rows))
    figure, axes = pyplot.subplots(1, len(columns), sharey=True, figsize=size, layout="constrained")
    for axis, (title, values, colour) in zip(axes, columns, strict=True):
        axis.barh(range(len(rows)), values, color=colour)
        axis.set_xlabel(title)
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(rows)), labels, fontsize=8)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    time = report["time"]
    timed = f", {time['total_us']:.3g} us on {time['backend']} {time['version']}" if time else ", not timed"
    figure.suptitle(f"{report['name']}: {report['macs']:,} multiply-accumulates{timed}", fontsize=10)
    with write_aside(Path(path)) as aside:
        figure.savefig(aside, dpi=110, format=Path(path).suffix.lower().lstrip("."))
    pyplot.close(figure)
