"""What networks look at, as pictures and sound: the 16 features of seed 000 (figure 2), auralisation (seed 003)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError

from .features import Pool
from .inputs import even_loudness

Float32 = NDArray[np.float32]


def feature_vectors(model: Any, pool: Pool, shape: Sequence[int], classes: Sequence[str]) -> dict[str, Float32]:
    """Return the all-conv net's features of the examples of each class: (examples, 16) by class."""
    from .models.allconv import features_view
    from .systems import network_predictor

    features = network_predictor(features_view(model), shape)(pool.data)
    labels = np.repeat([pool.recordings[int(i)].label for i in pool.recording], pool.lengths)
    return {name: features[labels == name] for name in classes if (labels == name).any()}


def draw_features(vectors: Mapping[str, Float32], path: Path, *, examples: int = 200) -> None:
    """Draw the features of each class along its examples, and their means side by side, as a PNG.

    Each feature is in units of its 99th percentile over all classes, so that strong ones do not hide weak ones.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    scale = np.percentile(np.concatenate(list(vectors.values())), 99, axis=0) + 1e-9
    figure, axes = plt.subplots(
        len(vectors) + 1, 1, figsize=(8, 2.3 * (len(vectors) + 1)), layout="constrained", squeeze=False
    )
    width = 0.8 / len(vectors)
    for i, (name, features) in enumerate(vectors.items()):
        shown = features[np.linspace(0, len(features) - 1, min(examples, len(features))).astype(int)] / scale
        image = axes[i, 0].imshow(
            shown.T, aspect="auto", origin="lower", vmin=0, vmax=1, cmap="viridis", interpolation="nearest"
        )
        axes[i, 0].set(ylabel="feature", title=f"{name}: {len(shown)} of {len(features):,} windows")
        figure.colorbar(image, ax=axes[i, 0])
        at = np.arange(features.shape[1]) + (i - (len(vectors) - 1) / 2) * width
        axes[-1, 0].bar(at, (features / scale).mean(axis=0), width, label=name)
    axes[-1, 0].set(xlabel="feature", ylabel="mean", xticks=range(len(scale)))
    axes[-1, 0].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def strongest(model: Any, clip: Float32, layer: int, count: int) -> list[int]:
    """Return the features of a convolution of the genre CNN that answer most to a clip at 11,025 Hz, best first."""
    import keras

    from .models import genre

    names = [one.name for one in model.layers if one.name.startswith("conv")]
    if not 1 <= layer <= len(names):
        raise ConfigError(f"auralise: layer is {layer}, the network has {len(names)} convolutions")
    view = keras.Model(model.input, model.get_layer(f"conv{layer}").output)
    answers = np.asarray(view(genre.compress(np.abs(genre.stft(clip)))[None, ..., None]))[0]
    return [int(i) for i in np.argsort(-answers.mean(axis=(0, 1)))[:count]]


def genre_clip(samples: Float32, start_s: float, frames: int) -> Float32:
    """Return the clip that the genre CNN is given: as long as its input, at the loudness of its training.

    Parameters
    ----------
    samples : np.ndarray, float32, shape (n,)
        At 11,025 Hz; a shorter recording is repeated.

    Raises
    ------
    ConfigError
        If the recording ends before `start_s`.
    """
    from .models import genre

    rest = samples[round(start_s * genre.SAMPLE_RATE) :]
    if start_s < 0 or not len(rest):
        raise ConfigError(f"auralise: start is {start_s} s, the recording has {len(samples) / genre.SAMPLE_RATE:.2f} s")
    # resize repeats what is too short and cuts what is too long
    return even_loudness(np.resize(rest, (frames - 1) * genre.HOP_LENGTH))


def draw_auralisation(clips: Mapping[str, Float32], path: Path) -> None:
    """Draw the spectrograms of the clip and of what its features hear, at 11,025 Hz, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from .models import genre

    columns = min(3, len(clips))
    rows = -(-len(clips) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 2.8 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(clips) :]:
        axis.axis("off")
    for axis, (name, samples) in zip(axes.flat, clips.items(), strict=False):
        magnitude = np.abs(genre.stft(samples))
        db = 20 * np.log10(np.maximum(magnitude / max(float(magnitude.max()), 1e-9), 1e-4))
        axis.imshow(
            db, origin="lower", aspect="auto", cmap="magma", vmin=-80, vmax=0,
            extent=(0, len(samples) / genre.SAMPLE_RATE, 0, genre.SAMPLE_RATE / 2000),
        )  # fmt: skip
        axis.set(title=name, xlabel="s", ylabel="kHz")
    figure.savefig(path, dpi=120)
    plt.close(figure)
