"""A segmented recording as a picture: samples, spectrum, posteriors before and after the median, segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.archive.one import Track
from edge_runtime.bundle import Bundle
from edge_runtime.decisions import UNKNOWN, Segmentation
from edge_runtime.files import write_aside
from edge_runtime.segments import SILENCE

# distinguishable without colour vision (Okabe & Ito); what is no class is gray
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
GRAYS = {SILENCE: "#CCCCCC", UNKNOWN: "#777777"}
COLUMNS = 4000  # points along time at most: more than a screen has
_WINDOW = 512


def draw(
    name: str, samples: NDArray[np.float32], bundle: Bundle, settings: Segmentation, track: Track, path: Path
) -> None:
    """Draw a recording as a PNG.

    Parameters
    ----------
    name : str
        Title.
    samples : np.ndarray, float32, shape (n,)
        At the bundle's sample rate.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    config, classes = bundle.front_end, bundle.classes
    colours = {c: COLOURS[i % len(COLOURS)] for i, c in enumerate(classes)} | GRAYS
    end = len(samples) / config.sample_rate
    figure, axes = plt.subplots(
        5, 1, figsize=(12, 7.5), sharex=True, layout="constrained", height_ratios=[1, 1.8, 1.1, 1.1, 0.35]
    )  # fmt: skip
    wave, spectrum, plain, smoothed, bars = axes
    low, high = extremes(samples, COLUMNS)
    largest = max(float(np.abs(samples).max()), 1e-3)
    wave.fill_between(np.linspace(0, end, len(low)), low, high, color="#444444", linewidth=0, step="mid")
    wave.set(ylabel="samples", ylim=(-1.05 * largest, 1.05 * largest), title=f"{Path(name).name}: {bundle.name}")
    spectrum.imshow(
        spectrogram(samples, COLUMNS // 2), origin="lower", aspect="auto", cmap="magma", vmin=-110, vmax=-20,
        extent=(0, end, 0, config.sample_rate / 2000), interpolation="nearest",
    )  # fmt: skip
    spectrum.set(ylabel="kHz")
    step = -(-len(track.dbfs) // COLUMNS)
    times = (np.arange(len(track.dbfs))[::step] + 0.5) * bundle.front_end.hop_s
    for axis, p, label in ((plain, track.probabilities, "posteriors"), (smoothed, track.smoothed, "smoothed")):
        for i, c in enumerate(classes):
            axis.plot(times, p[::step, i], color=colours[c], linewidth=0.9)
        axis.set(ylabel=label, ylim=(-0.03, 1.03))
    smoothing = settings.smoothing
    if smoothing.enter:
        smoothed.axhline(smoothing.enter, color="#888888", linewidth=0.6, linestyle="--")
        smoothed.axhline(smoothing.leave, color="#888888", linewidth=0.6, linestyle=":")
    for s in track.segments:
        bars.axvspan(s.start_s, s.end_s, color=colours[s.label], linewidth=0)
    bars.set(yticks=[], xlim=(0, end), xlabel="seconds")
    bars.set_ylabel("segments", rotation=0, ha="right", va="center")
    shown = [label for label in colours if label in {*classes, *(s.label for s in track.segments)}]
    handles: list[Any] = [plt.Rectangle((0, 0), 1, 1, color=colours[label]) for label in shown]
    figure.legend(handles, shown, loc="outside lower center", ncols=len(shown), frameon=False)
    with write_aside(path) as aside:  # matplotlib goes by the ending, which the file beside does not have
        figure.savefig(aside, dpi=110, format=path.suffix.removeprefix(".").lower() or "png")
    plt.close(figure)


def extremes(samples: NDArray[np.float32], columns: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and highest sample of each of at most `columns` equal stretches: every peak is seen."""
    step = -(-len(samples) // columns)
    starts = np.arange(0, len(samples), step)
    return np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)


def spectrogram(samples: NDArray[np.float32], columns: int) -> NDArray[np.float64]:
    """Return decibels, shape (bins, at most `columns`): windows of 512 samples spread over the recording."""
    last = max(len(samples) - _WINDOW, 0)
    starts = np.linspace(0, last, min(columns, last // (_WINDOW // 2) + 1)).astype(int)
    window = np.hanning(_WINDOW)
    padded = np.concatenate([samples, np.zeros(_WINDOW, np.float32)])
    power = np.abs(np.fft.rfft(padded[starts[:, None] + np.arange(_WINDOW)] * window)) ** 2
    return np.asarray(10 * np.log10(power / window.sum() ** 2 + 1e-12).T)
