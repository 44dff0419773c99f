"""Where in a spectrogram music is, and the music cut out of it (Park & Lee 2015, seed 001, sections 3.1 and 3.2).

The music-noise network looks at windows of 64 bins x 256 frames all over a spectrogram. The probability of music in a
unit of 16 x 16 pixels is the mean over all windows that overlap it; units where music is likelier than noise stay,
the others are silenced, and the mixture's phase makes it sound again.

*Ours*: the text moves windows by 16 pixels along both axes and counts 9 windows along frequency and 16 along time over
a unit. Sixteen along time is what a step of 16 gives; nine along frequency takes a step of 8, so that is the step here.
Bins above the bandwidth that the network was trained on (the corpus ends at 8 kHz) are not judged and are silenced.
The end is filled up to whole units with its own mirror image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import AudioError

from .inputs import CORPUS_RATE, MUSICNOISE_FFT, MUSICNOISE_HOP, MUSICNOISE_RATE, decibels, musicnoise_offsets

Float32 = NDArray[np.float32]

UNIT = 16
STEP_BINS, STEP_FRAMES = 8, 16
_BATCH = 256  # windows at a time, 64 kB each


@dataclass(frozen=True)
class MusicMap:
    """A spectrogram and where it is music.

    Attributes
    ----------
    spectrum : np.ndarray, complex64, shape (257, frames)
        At 44.1 kHz; ``abs`` of a sine of amplitude a is a / 2.
    units : np.ndarray, float32, shape (units of frequency, units of time)
        Probability of music; NaN where nothing was judged.
    """

    spectrum: NDArray[np.complex64]
    units: Float32

    def mask(self, *, soft: bool = False) -> Float32:
        """Return the share of each pixel that stays, (257, frames): 0 or 1, or the probability."""
        units = np.nan_to_num(self.units)
        whole = np.repeat(np.repeat(units if soft else units > 0.5, UNIT, axis=0), UNIT, axis=1)
        mask = np.zeros(self.spectrum.shape, np.float32)
        bins, frames = np.minimum(whole.shape, mask.shape)
        mask[:bins, :frames] = whole[:bins, :frames]
        return mask

    def music(self, *, soft: bool = False) -> Float32:
        """Return the music as samples at 44.1 kHz, with the mixture's phase."""
        from scipy import signal

        overlap = MUSICNOISE_FFT - MUSICNOISE_HOP
        samples = signal.istft(self.spectrum * self.mask(soft=soft), nperseg=MUSICNOISE_FFT, noverlap=overlap)[1]
        return samples.astype(np.float32)


def average_windows(
    probabilities: NDArray[np.floating[Any]], low: Sequence[int], first: Sequence[int], *, bins: int, frames: int,
    shape: tuple[int, int],
) -> tuple[Float32, NDArray[np.int64]]:  # fmt: skip
    """Return the mean probability of each unit, (units, units), and how many windows overlap it.

    Parameters
    ----------
    probabilities : np.ndarray, shape (len(low), len(first))
    low, first : sequence of int
        Lowest bin and first frame of the windows.
    bins, frames : int
        Size of a window.
    shape : tuple of int
        Of the map.
    """
    total, count = np.zeros(shape), np.zeros(shape, np.int64)
    for i, bottom in enumerate(low):
        for j, start in enumerate(first):
            place = (
                slice(bottom // UNIT, -(-(bottom + bins) // UNIT)),
                slice(start // UNIT, -(-(start + frames) // UNIT)),
            )
            total[place] += probabilities[i, j]
            count[place] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32), count


def music_map(
    predict: Callable[[Float32], Float32], config: Any, samples: Float32, *, music: int = 0,
    bandwidth: float = CORPUS_RATE / 2,
) -> MusicMap:  # fmt: skip
    """Judge a recording.

    Parameters
    ----------
    predict : callable
        From windows (n, bins * frames) to probabilities (n, classes).
    config : MusicNoiseConfig
    samples : np.ndarray, float32, shape (n,)
        At 44.1 kHz.
    music : int
        Number of the class.
    bandwidth : float
        In Hz; windows do not reach above it.

    Raises
    ------
    AudioError
        If the recording is shorter than one window.
    """
    from scipy import signal

    if len(samples) < config.frames * MUSICNOISE_HOP:
        raise AudioError(
            f"{len(samples) / MUSICNOISE_RATE:.2f} s are shorter than a window of "
            f"{config.frames * MUSICNOISE_HOP / MUSICNOISE_RATE:.2f} s"
        )
    overlap = MUSICNOISE_FFT - MUSICNOISE_HOP
    spectrum = signal.stft(samples, nperseg=MUSICNOISE_FFT, noverlap=overlap)[2].astype(np.complex64)
    # the scale of the training's transform, which divides by nothing
    power = (np.abs(spectrum) * MUSICNOISE_FFT / 2) ** 2
    power = np.pad(power, ((0, 0), (0, -power.shape[1] % UNIT)), mode="reflect")
    low = list(musicnoise_offsets(config, bandwidth=bandwidth, step=STEP_BINS))
    first = list(range(0, power.shape[1] - config.frames + 1, STEP_FRAMES))
    found = np.zeros((len(low), len(first)))
    for i, bottom in enumerate(low):
        for j in range(0, len(first), _BATCH):
            windows = [
                decibels(power[bottom : bottom + config.bins, start : start + config.frames]).ravel()
                for start in first[j : j + _BATCH]
            ]
            found[i, j : j + _BATCH] = predict(np.stack(windows))[:, music]
    shape = (-(-(low[-1] + config.bins) // UNIT), power.shape[1] // UNIT)
    units, _ = average_windows(found, low, first, bins=config.bins, frames=config.frames, shape=shape)
    return MusicMap(spectrum, units)


def draw(found: MusicMap, path: Path, *, soft: bool = False, title: str = "") -> None:
    """Draw the spectrogram, the map and the masked spectrogram (seed 001, figure 3) as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(9, 8), layout="constrained", sharex=True, sharey=True)
    seconds = found.spectrum.shape[1] * MUSICNOISE_HOP / MUSICNOISE_RATE
    hertz = MUSICNOISE_RATE / MUSICNOISE_FFT
    top = found.units.shape[0] * UNIT * hertz / 1000
    magnitude = np.abs(found.spectrum)
    loudest = max(float(magnitude.max()), 1e-9)
    for axis, values, name in (
        (axes[0], magnitude, "spectrogram"),
        (axes[2], magnitude * found.mask(soft=soft), "what stays"),
    ):
        image = axis.imshow(
            20 * np.log10(np.maximum(values / loudest, 1e-4)), origin="lower", aspect="auto", cmap="magma", vmin=-80,
            vmax=0, extent=(0, seconds, 0, magnitude.shape[0] * hertz / 1000),
        )  # fmt: skip
        figure.colorbar(image, ax=axis, label="dB")
        axis.set(title=name)
    long = found.units.shape[1] * UNIT * MUSICNOISE_HOP / MUSICNOISE_RATE
    image = axes[1].imshow(
        found.units, origin="lower", aspect="auto", cmap="RdBu_r", vmin=0, vmax=1, extent=(0, long, 0, top)
    )
    figure.colorbar(image, ax=axes[1], label="probability of music")
    axes[1].set(title="map")
    for axis in axes:
        axis.set(ylabel="kHz", xlim=(0, seconds), ylim=(0, top))
    axes[2].set(xlabel="s")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)
