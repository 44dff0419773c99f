"""A stand-in for the source separation of seed 004: bass, drums and other without a trained separator.

The abstract separates with Spleeter's U-net. Its weights are neither ours to ship nor small, so this is *ours*:
librosa's harmonic-percussive separation (Fitzgerald 2010; Driedger et al. 2014) with soft masks.

* drums: the percussive part;
* bass: the harmonic part below 200 Hz;
* other: the harmonic part above, where the vocals stay too. The abstract's single spectrogram without vocals therefore
  has no counterpart here.

The masks sum to one, so the sources sum to the mixture's power.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

SOURCES = ("bass", "drums", "other")
BASS_HZ = 200.0


def masks(magnitude: Float32, frequencies: NDArray[np.float64]) -> Float32:
    """Return the share of each source in a spectrogram: (bins, frames) to (bins, frames, 3), summing to 1."""
    from librosa.decompose import hpss

    harmonic, percussive = hpss(magnitude, mask=True)
    total = np.maximum(harmonic + percussive, 1e-9)
    low = (frequencies < BASS_HZ)[:, None]
    drums = np.where(harmonic + percussive > 0, percussive / total, 0.5)
    return np.stack([(1 - drums) * low, drums, (1 - drums) * ~low], axis=-1).astype(np.float32)


def mel_of_sources(
    samples: Float32, *, sample_rate: int, fft_length: int, hop_length: int, bands: int, separated: bool = True
) -> Float32:
    """Return the power of each source in mel bands, (bands, frames, 3), or of the mixture, (bands, frames, 1).

    Frames are centred, as librosa's: n samples have n // hop_length + 1.
    """
    import librosa
    from librosa.filters import mel as mel_filters

    magnitude = np.abs(librosa.stft(samples, n_fft=fft_length, hop_length=hop_length))
    power = (magnitude**2)[..., None]
    if separated:
        power = power * masks(magnitude, librosa.fft_frequencies(sr=sample_rate, n_fft=fft_length))
    mel = mel_filters(sr=sample_rate, n_fft=fft_length, n_mels=bands)
    return np.einsum("mb,bfs->mfs", mel, power, optimize=True).astype(np.float32)
