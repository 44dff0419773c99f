"""All-convolutional network for frame-level music and speech segmentation of raw audio (Bhatia & Thakur, seed 000).

Front end inside the graph, as with Kapre: mel spectrogram (40 bands, FFT 1024, hop 2 x 882), decibels, normalised per
frequency. Ten frames at a time, so the network sees 40 x 10. Eight pairs of (convolution 5x5, stride 1, 16 filters,
ReLU) and (learned pooling: a convolution 5x1 or 2x1 whose stride equals its kernel, ReLU), then two 1x1 convolutions
with 196 (sigmoid) and 2 filters, softmax.

*Ours*, where the abstract is silent:

* **Sample rate: 44.1 kHz.** The code writes the hop as 882*2, and 882 samples are 20 ms at that rate; ten frames are
  then 0.4 s. At 22.05 kHz, also a guess, a frame would stand for 80 ms.
* **Order of the pooling.** 40 = 5 x 2 x 2 x 2 takes four poolings along frequency, which leaves four for the ten
  frames: by 2 with 'same' padding, 10, 5, 3, 2, 1 (the abstract writes kernels as frequency x time and so only 5x1
  and 2x1; along time they stand the other way round). They take turns, frequency first, so that the 5x5 kernels have
  two axes to look at for as long as possible: 8x10, 8x5, 4x5, 4x3, 2x3, 2x2, 1x2, 1x1.
* **The 10th layer** is the eighth pair, counting the two layers of the front end and each pair as one, as the
  abstract does when it calls the two dense layers the last of twelve: `features_view`.
* The spectrum has no padding at its ends; power, Slaney mel filters over the whole band, 10 log10 with a fixed floor
  (Kapre's is relative to the loudest value, which a stream does not know).
* Normalisation holds mean and variance of the training data (`adapt`), not those of the batch.
* Longer inputs: windows of ten frames side by side, the last one at the end, whose logits are averaged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from edge_runtime import ConfigError, FrontEndConfig, filters

from . import _check

Float32 = NDArray[np.float32]

LEAST_DEVIATION = 3.0  # dB; a band with sound in it varies by ten and more
# (along frequency, along time)
POOLING = ((5, 1), (1, 2), (2, 1), (1, 2), (2, 1), (1, 2), (2, 1), (1, 2))


@dataclass(frozen=True)
class AllConvConfig:
    """What the network listens to.

    Attributes
    ----------
    input : {'audio', 'mel'}
        Samples, or frames of mel bands in dB made elsewhere, such as a cache of features at 16 kHz.
    sample_rate, fft_length, hop_length : int
        Of the front end in the graph; with 'mel' they do not count.
    inputs : int
        Mel bands.
    power_floor : float
        Smallest power of a band before the logarithm.
    frames : int
        Frames that the network sees at a time.
    """

    input: str = "audio"
    sample_rate: int = 44100
    fft_length: int = 1024
    hop_length: int = 1764
    inputs: int = 40
    power_floor: float = 1e-7
    frames: int = 10
    filters: int = 16
    hidden: int = 196
    classes: int = 2

    def __post_init__(self) -> None:
        _check.one_of("allconv", ("audio", "mel"), input=self.input)
        _check.whole("allconv", sample_rate=self.sample_rate, fft_length=self.fft_length, hop_length=self.hop_length)
        _check.whole("allconv", filters=self.filters, hidden=self.hidden, classes=self.classes)
        for name, value, axis in (("inputs", self.inputs, 0), ("frames", self.frames, 1)):
            _check.whole("allconv", **{name: value})
            if left := _pooled(value, axis) - 1:
                raise ConfigError(f"allconv: {name} is {value}, of which pooling leaves {left + 1} and not 1")
        if not self.power_floor > 0:
            raise ConfigError(f"allconv: power_floor is {self.power_floor!r}, must be above 0")

    def samples(self, windows: int = 1) -> int:
        """Return the fewest samples that hold `windows` windows."""
        return (windows * self.frames - 1) * self.hop_length + self.fft_length


def _pooled(size: int, axis: int) -> int:
    for kernel in POOLING:
        size = -(-size // kernel[axis])
    return size


@keras.saving.register_keras_serializable(package="edge_bench")
class MelSpectrogram(layers.Layer):  # type: ignore[misc]
    """Power in mel bands: (batch, samples) to (batch, frames, mel_bands).

    The transform is a convolution with fixed cosines and sines, because TFLite has no other without the Flex delegate.
    """

    def __init__(self, sample_rate: int, fft_length: int, hop_length: int, mel_bands: int, **other: Any) -> None:
        super().__init__(**other)
        self._arguments = {
            "sample_rate": sample_rate, "fft_length": fft_length, "hop_length": hop_length, "mel_bands": mel_bands,
        }  # fmt: skip
        self._hop = hop_length
        table = FrontEndConfig(
            kind="log_mel", sample_rate=sample_rate, frame_length=fft_length, fft_length=fft_length, hop_length=1,
            mel_bands=mel_bands, fmin=0.0, fmax=sample_rate / 2,
        )  # fmt: skip
        angle = 2 * np.pi / fft_length * np.outer(np.arange(fft_length), np.arange(fft_length // 2 + 1)) % (2 * np.pi)
        waves = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * filters.window(table)[:, None]
        self._waves = waves[:, None].astype(np.float32)
        self._mel = filters.mel_filters(table).astype(np.float32)

    def call(self, inputs):  # type: ignore[no-untyped-def]
        """Cut, transform, square, sum up into bands."""
        parts = ops.conv(inputs[..., None], self._waves, strides=self._hop, padding="valid")
        bins = self._mel.shape[0]
        return ops.matmul(ops.square(parts[..., :bins]) + ops.square(parts[..., bins:]), self._mel)

    def compute_output_shape(self, input_shape):  # type: ignore[no-untyped-def]
        """Return the shape with the number of frames, where it is known."""
        batch, samples = input_shape
        frames = None if samples is None else (samples - self._waves.shape[0]) // self._hop + 1
        return (batch, frames, self._mel.shape[1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), **self._arguments}


@keras.saving.register_keras_serializable(package="edge_bench")
class Decibels(layers.Layer):  # type: ignore[misc]
    """10 log10 of the power, not below a fixed floor."""

    def __init__(self, floor: float, **other: Any) -> None:
        super().__init__(**other)
        self._floor = floor

    def call(self, inputs):  # type: ignore[no-untyped-def]
        """Take the logarithm."""
        return ops.log(ops.maximum(inputs, self._floor)) * (10 / np.log(10))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "floor": self._floor}


@keras.saving.register_keras_serializable(package="edge_bench")
class Windows(layers.Layer):  # type: ignore[misc]
    """Cut frames into windows: (batch, frames, bands) to (batch * windows, bands, window, 1), the last at the end."""

    def __init__(self, frames: int, **other: Any) -> None:
        super().__init__(**other)
        self._frames = frames

    def call(self, inputs):  # type: ignore[no-untyped-def]
        """Drop the oldest frames that fill no window, and fold the windows into the batch."""
        bands, frames = inputs.shape[2], ops.shape(inputs)[1]
        if isinstance(frames, int) and frames < self._frames:
            raise ConfigError(f"allconv: {frames} frames are fewer than the {self._frames} of a window")
        windows = ops.reshape(inputs[:, frames % self._frames :], (-1, self._frames, bands))
        return ops.transpose(windows, (0, 2, 1))[..., None]

    def compute_output_shape(self, input_shape):  # type: ignore[no-untyped-def]
        """Return the shape; the number of windows is not told."""
        return (None, input_shape[2], self._frames, 1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "frames": self._frames}


@keras.saving.register_keras_serializable(package="edge_bench")
class AverageWindows(layers.Layer):  # type: ignore[misc]
    """Mean over the windows of each clip: [(batch * windows, classes), the clips' frames] to (batch, classes)."""

    def __init__(self, frames: int, **other: Any) -> None:
        super().__init__(**other)
        self._frames = frames

    def call(self, inputs):  # type: ignore[no-untyped-def]
        """Unfold the windows and average."""
        logits, frames = inputs
        windows = ops.shape(frames)[1] // self._frames
        return ops.mean(ops.reshape(logits, (-1, windows, logits.shape[-1])), axis=1)

    def compute_output_shape(self, input_shape):  # type: ignore[no-untyped-def]
        """Return (batch, classes)."""
        logits, frames = input_shape
        return (frames[0], logits[1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "frames": self._frames}


def build(config: AllConvConfig = AllConvConfig()) -> keras.Model:
    """Return the network: (batch, samples), or (batch, frames, inputs) in dB, to (batch, classes) probabilities.

    ``window_logits`` are those of every window, ``pooled_logits`` their mean over a clip's windows, (batch, classes).
    """
    if config.input == "audio":
        inputs = keras.Input((None,), name="samples")
        frames = MelSpectrogram(
            config.sample_rate, config.fft_length, config.hop_length, config.inputs, name="mel"
        )(inputs)
        frames = Decibels(config.power_floor, name="decibels")(frames)
    else:
        inputs = frames = keras.Input((None, config.inputs), name="decibels")
    frames = layers.Normalization(axis=-1, name="normalise")(frames)
    x = Windows(config.frames, name="windows")(frames)
    for i, kernel in enumerate(POOLING, start=1):
        x = layers.Conv2D(config.filters, 5, padding="same", activation="relu", name=f"conv{i}")(x)
        x = layers.Conv2D(
            config.filters, kernel, strides=kernel, padding="same", activation="relu", name=f"pool{i}"
        )(x)
    x = layers.Conv2D(config.hidden, 1, activation="sigmoid", name="hidden")(x)
    x = layers.Conv2D(config.classes, 1, name="scores")(x)
    x = layers.Flatten(name="window_logits")(x)
    x = AverageWindows(config.frames, name="pooled_logits")([x, frames])
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name=f"allconv_{config.input}")


def behind_normalisation(model: keras.Model) -> tuple[keras.Model, Float32, Float32]:
    """Return the network from its normalised frames on, and the normalisation: mean and one over the deviation.

    For a bundle, whose front end normalises. Weights are shared with `model`.

    Raises
    ------
    ConfigError
        If the network takes samples: its front end is in its graph.
    """
    if model.get_layer("decibels").__class__ is Decibels:
        raise ConfigError("allconv: takes samples, a bundle feeds frames; train allconv-mel, whose front end is apart")
    normalise = model.get_layer("normalise")
    inputs = keras.Input(model.input_shape[1:], name="frames")
    x = inputs
    for layer in model.layers[model.layers.index(normalise) + 1 :]:
        x = layer([x, inputs] if isinstance(layer, AverageWindows) else x)
    mean, deviation = np.ravel(normalise.mean), np.sqrt(np.ravel(normalise.variance))
    return keras.Model(inputs, x, name=model.name), mean, 1 / deviation


def features_view(model: keras.Model) -> keras.Model:
    """Return the network up to its 10th layer: 16 features for each window, (batch * windows, filters)."""
    return keras.Model(model.input, layers.Flatten(name="features")(model.get_layer("pool8").output))


def adapt(model: keras.Model, inputs: Iterable[Float32]) -> None:
    """Set the normalisation to the mean and variance of each band over training data, at least `LEAST_DEVIATION`.

    Call it before the network is compiled: a compiled step keeps the old values.

    Parameters
    ----------
    inputs : iterable of np.ndarray
        Batches of what the network takes.
    """
    decibels = keras.Model(model.input, model.get_layer("decibels").output)
    frames = [np.asarray(decibels(batch)).reshape(1, -1, decibels.output_shape[-1]) for batch in inputs]
    if not frames:
        raise ConfigError("allconv: there is nothing to adapt the normalisation to")
    normalise = model.get_layer("normalise")
    normalise.adapt(np.concatenate(frames, axis=1))
    # a band that the recordings leave empty (resampled ones above their own bandwidth) must not be blown up
    normalise.adapt_variance.assign(ops.maximum(normalise.adapt_variance, LEAST_DEVIATION**2))
    normalise.finalize_state()
