"""A stream as a picture: waveform, spectrogram, annotation, posteriors and the segments made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime import audio
from edge_runtime.bundle import Bundle
from edge_runtime.decisions import Segmentation
from edge_runtime.files import write_aside
from edge_runtime.segments import SILENCE, segments
from edge_runtime.smoothing import smooth

from .posteriors import Track
from .stream_files import Annotated

# distinguishable without colour vision (Okabe & Ito); silence is gray
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")


def draw_stream(
    bundle: Bundle, file: Annotated, track: Track, source: str, chosen: Segmentation, path: Path
) -> None:
    """Draw one annotated recording as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rate, hop_s, classes = bundle.front_end.sample_rate, bundle.front_end.hop_s, bundle.classes
    colours = {**{c: COLOURS[i % len(COLOURS)] for i, c in enumerate(classes)}, SILENCE: "#BBBBBB"}
    samples = audio.load(file.audio, sample_rate=rate)
    smoothing = chosen.smoothing
    raw = track.probabilities(source, smoothing.pool, chosen.temperature)
    found = segments(raw, classes, smoothing, hop_s=hop_s, dbfs=track.dbfs)
    times = np.arange(len(raw)) * hop_s

    figure, axes = plt.subplots(
        6, 1, figsize=(12, 8), sharex=True, layout="constrained", height_ratios=[1, 1.8, 0.35, 1.2, 1.2, 0.35]
    )  # fmt: skip
    wave, spectrum, wanted, plain, smoothed, given = axes
    # the extremes of 10 ms: every peak is seen, and a long recording stays a small picture
    hop = bundle.front_end.hop_length
    cut = samples[: len(samples) // hop * hop].reshape(-1, hop)
    wave.fill_between(np.arange(len(cut)) * hop_s, cut.min(axis=1), cut.max(axis=1), color="#444444", linewidth=0)
    wave.set(ylabel="samples", ylim=(-1, 1), title=f"{file.audio.name}: {bundle.name}, {_named(source)}")
    # noise of -120 dBFS, so that zeros have a logarithm
    heard = samples + 1e-6 * np.random.default_rng(0).standard_normal(len(samples))
    spectrum.specgram(heard, NFFT=512, Fs=rate, noverlap=256, cmap="magma", vmin=-130, vmax=-30)
    spectrum.set(ylabel="Hz")
    _bars(wanted, file.intervals, colours, "annotated")
    aligned = smooth(raw, replace(smoothing, median=1))
    for axis, p, name in ((plain, aligned, "posteriors"), (smoothed, smooth(raw, smoothing), "smoothed")):
        for i, label in enumerate(classes):
            axis.plot(times, p[:, i], color=colours[label], linewidth=0.9, label=label)
        axis.set(ylabel=name, ylim=(-0.03, 1.03))
    if smoothing.enter:
        smoothed.axhline(smoothing.enter, color="#888888", linewidth=0.6, linestyle="--")
        smoothed.axhline(smoothing.leave, color="#888888", linewidth=0.6, linestyle=":")
    _bars(given, [(s.start_s, s.end_s, s.label) for s in found], colours, "found")
    given.set(xlabel="seconds", xlim=(0, len(samples) / rate))
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in colours.values()]
    figure.legend(handles, list(colours), loc="outside lower center", ncols=len(colours), frameon=False)
    # matplotlib goes by the ending, which the file beside does not have
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=110, format="png")
    plt.close(figure)


def _named(source: str) -> str:
    return f"{source} s windows" if source[0].isdigit() else f"{source} form"


def _bars(axis: Any, intervals: Any, colours: dict[str, str], name: str) -> None:
    for start, end, label in intervals:
        axis.axvspan(start, end, color=colours[label], linewidth=0)
        axis.axvline(start, color="white", linewidth=0.6)
    axis.set(yticks=[], ylim=(0, 1))
    axis.set_ylabel(name, rotation=0, ha="right", va="center")
