"""What the paper does to recordings before it cuts clips (003, section III.A): silence out, loudness even.

Silence removal serves training and evaluation of *clips* only: a silent clip of a speech recording is not
speech. Loudness equalisation looks 250 ms ahead and the board cannot, so it is used as an augmentation and
never as part of the front end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def frame_power(samples: Float32, *, length: int) -> NDArray[np.float64]:
    """Return the mean square of consecutive windows, shape (ceil(n / length),); zeros fill the last."""
    padded = np.zeros(-(-len(samples) // length) * length)
    padded[: len(samples)] = samples
    return (padded.reshape(-1, length) ** 2).mean(axis=1)


def loud(
    samples: Float32,
    *,
    sample_rate: int = 16000,
    below_db: float = 40.0,
    floor_db: float = -65.0,
    longest_s: float = 0.3,
) -> NDArray[np.bool_]:
    """Return which samples are outside the long silent runs, shape (n,); see `remove_silence`."""
    length = sample_rate // 50
    keep = np.ones(len(samples), bool)
    if len(samples) < length:
        return keep
    power = 10 * np.log10(frame_power(samples, length=length) + 1e-12)
    silent = power < max(np.percentile(power, 95) - below_db, floor_db)
    if silent.all():
        return ~keep
    edges = np.flatnonzero(np.diff(np.concatenate(([0], silent.astype(np.int8), [0]))))
    longest = int(longest_s * 50)
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if stop - start > longest:
            keep[(start + longest // 2) * length : (stop - longest // 2) * length] = False
    return keep


def remove_silence(samples: Float32, **thresholds: float) -> Float32:
    """Return the recording without its long silent runs.

    A 20 ms window is silent when its power is more than `below_db` under the recording's 95th percentile,
    or under `floor_db` dBFS. Runs up to `longest_s` stay: pauses are part of speech.

    Parameters
    ----------
    samples : np.ndarray, float32, shape (n,)
    **thresholds
        Of `loud`.

    Returns
    -------
    np.ndarray, float32, shape (m,), m <= n
    """
    return samples[loud(samples, **thresholds)]  # type: ignore[arg-type]


def equalise_loudness(
    samples: Float32, *, sample_rate: int = 16000, window_s: float = 0.25, most_db: float = 20.0
) -> Float32:
    """Return the recording with its level evened out over windows of 250 ms.

    The gain of each window brings its RMS to the RMS of the whole, by at most `most_db`, and is interpolated
    linearly between the windows' centres.
    """
    length = int(window_s * sample_rate)
    if len(samples) < length:
        return samples
    # whole windows only: what is left at the end keeps the gain of the last
    rms = np.sqrt(frame_power(samples[: len(samples) // length * length], length=length)) + 1e-6
    limit = 10 ** (most_db / 20)
    gain = np.clip(np.sqrt(np.mean(samples.astype(np.float64) ** 2)) / rms, 1 / limit, limit)
    centres = (np.arange(len(gain)) + 0.5) * length
    evened = samples * np.interp(np.arange(len(samples)), centres, gain).astype(np.float32)
    peak = float(np.abs(evened).max())
    return (evened / peak if peak > 1 else evened).astype(np.float32)
