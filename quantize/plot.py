"""A picture of the proof: noise and saturation by operator, and the F1 scores side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.files import write_aside

SHOWN = 12  # the worst operators, which get a name


def draw_proof(result: dict[str, Any], path: Path) -> None:
    """Draw what ``edge-bench quantize --json`` says as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    layers = result["layers"]
    figure, axes = plt.subplots(1, 3 if layers else 1, figsize=(14 if layers else 5, 4.2), layout="constrained",
                                squeeze=False, width_ratios=[2, 1.3, 1] if layers else [1])  # fmt: skip
    if layers:
        _draw_noise(axes[0][0], layers)
        _draw_blame(axes[0][1], layers)
    _draw_scores(axes[0][-1], result)
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=120, format="png")
    plt.close(figure)


def _draw_noise(axis: Any, layers: list[dict[str, Any]]) -> None:
    places = np.arange(len(layers))
    axis.bar(places, [layer["sqnr_db"] for layer in layers], color="tab:blue", width=0.8)
    axis.set(xlabel="operator, in order", ylabel="signal to quantisation noise, dB", title="noise on the way")
    axis.set_xticks(places, [f"{layer['number']} {layer['op'].split('_')[0].lower()}" for layer in layers],
                    rotation=90, fontsize=6)  # fmt: skip
    share = axis.twinx()
    share.plot(places, [100 * layer["saturated"] for layer in layers], color="tab:red", marker=".", linewidth=0.8)
    share.set_ylabel("saturated, % (red)")
    share.set_ylim(bottom=0)


def _draw_blame(axis: Any, layers: list[dict[str, Any]]) -> None:
    worst = sorted(layers, key=lambda layer: -layer["added"])[:SHOWN]
    places = np.arange(len(worst))[::-1]
    axis.barh(places, [100 * layer["added"] for layer in worst], color="tab:orange")
    axis.set_yticks(places, [f"{layer['number']} {layer['op'].lower()}" for layer in worst], fontsize=7)
    axis.set(xlabel="noise added, % of the signal's power", title="who is to blame")


def _draw_scores(axis: Any, result: dict[str, Any]) -> None:
    lengths = list(result["by_length"])
    places = np.arange(len(lengths))
    for shift, key, label in ((-0.2, "float_macro_f1", "float"), (0.2, "int8_macro_f1", result["recipe"])):
        values = [100 * result["by_length"][name][key] for name in lengths]
        bars = axis.bar(places + shift, values, 0.38, label=label)
        axis.bar_label(bars, [f"{v:.1f}" for v in values], fontsize=7)
    low = min(100 * r[k] for r in result["by_length"].values() for k in ("float_macro_f1", "int8_macro_f1"))
    axis.set_xticks(places, [f"{name} s" for name in lengths])
    axis.set(ylabel="validation class-average F1, %", ylim=(max(0, low - 5), 101))
    axis.set_title(result["form"], fontsize=8, wrap=True)
    axis.legend(fontsize=7, loc="lower right")
