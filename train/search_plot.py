"""The picture of a search: the score over each parameter, and how the trials got there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .search_space import Axis, shown

COLOURS = {"done": "tab:blue", "stopped": "tab:gray", "begun": "tab:orange"}


def draw(result: Mapping[str, Any], axes: Sequence[Axis], path: Path) -> None:
    """Draw a panel for each parameter and one with the learning curves as a PNG; the best trial is a star."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    trials = [t for t in result["trials"] if t["best"] is not None and t["state"] in COLOURS]
    if not trials:
        return
    best = trials[0]
    columns = min(3, len(axes) + 1)
    rows = -(-(len(axes) + 1) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(3.6 * columns, 3.2 * rows), layout="constrained", squeeze=False, sharey=True
    )
    flat = list(panels.flat)
    for panel in flat[len(axes) + 1 :]:
        panel.set_visible(False)
    for axis, panel in zip(axes, flat, strict=False):
        at = [_place(axis, t["values"][axis.name], t["trial"]) for t in trials]
        colours = [COLOURS[t["state"]] for t in trials]
        panel.scatter(at, [t["best"] for t in trials], c=colours, s=18, alpha=0.75, linewidths=0)
        panel.scatter(at[:1], [best["best"]], marker="*", s=140, c="tab:red", zorder=3)
        if axis.choices:
            panel.set_xticks(range(len(axis.choices)), [shown(v) for v in axis.choices])
            panel.set_xlim(-0.6, len(axis.choices) - 0.4)
            for i, value in enumerate(axis.choices):
                with_it = [t["best"] for t in trials if t["values"][axis.name] == value and t["state"] == "done"]
                if with_it:
                    panel.hlines(np.mean(with_it), i - 0.35, i + 0.35, color="black", linewidth=1)
        elif axis.log:
            panel.set_xscale("log")
        panel.set(xlabel=axis.name)
        panel.grid(alpha=0.3)
    curves = flat[len(axes)]
    for t in reversed(trials):
        if t["curve"]:
            colour, width = ("tab:red", 1.6) if t is best else (COLOURS[t["state"]], 0.7)
            curves.plot(t["curve_epochs"], t["curve"], color=colour, linewidth=width)
    curves.set(xlabel="epoch")
    curves.xaxis.get_major_locator().set_params(integer=True)
    curves.grid(alpha=0.3)
    for row in panels:
        row[0].set_ylabel(f"validation {result['metric']}")
    handles = [plt.Line2D([], [], color=c, marker="o", linestyle="", label=s) for s, c in COLOURS.items()
               if any(t["state"] == s for t in trials)]  # fmt: skip
    handles.append(plt.Line2D([], [], color="tab:red", marker="*", linestyle="", label=f"best: trial {best['trial']}"))
    if any(axis.choices for axis in axes):
        handles.append(plt.Line2D([], [], color="black", label="mean of done"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _place(axis: Axis, value: Any, number: int) -> float:
    """Return where a value lies on its axis; equal choices stand side by side."""
    if not axis.choices:
        return float(value)
    return axis.choices.index(value) + 0.3 * np.sin(number * 2.4)
