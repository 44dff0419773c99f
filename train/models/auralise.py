"""Auralisation: what a feature of the genre CNN hears, as sound (seed 003, section II-C and listing 1).

The clip goes forward through the network to one layer. There every feature but one is set to zero, and what is left
goes back: unpooling puts each value where the maximum was found (the "switches"), a transposed convolution with the
same kernels undoes a convolution, and ReLU keeps what is positive (Zeiler & Fergus 2014). The spectrogram that
arrives takes the phase of the input, and the inverse transform makes it audible.

Both steps back are what backpropagation does: the gradient of max pooling sends a value to the maximum's place, and
the gradient of a convolution with respect to its input is the transposed convolution, padding included. So they are
asked of TensorFlow and not written again.

*Ours*: the spectrogram comes out in the network's compressed magnitudes and in an arbitrary scale; it is scaled so
that its largest value is the input's, then expanded.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_runtime import ConfigError

from . import genre

Float32 = NDArray[np.float32]


def _back(layer: keras.Layer, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Send `y`, of the shape of the layer's output for `x`, back through a layer that is linear around `x`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = layer(x)
    return tape.gradient(out, x, output_gradients=y)


def _linear(layer: keras.layers.Conv2D) -> keras.layers.Conv2D:
    """Return the convolution without its ReLU."""
    plain = keras.layers.Conv2D.from_config({**layer.get_config(), "activation": None})
    plain.build((None, None, None, layer.kernel.shape[2]))
    plain.set_weights(layer.get_weights())
    return plain


def deconvolve(model: keras.Model, x: Float32, *, layer: int, feature: int) -> Float32:
    """Return the part of an input that a feature answers to.

    Parameters
    ----------
    model : keras.Model
        The genre CNN, or another whose layers ``conv1, pool1, conv2 ...`` alternate.
    x : np.ndarray, float32, shape (bins, frames)
    layer : int
        Number of the convolution, from 1.
    feature : int
        Number of its map, from 0.

    Returns
    -------
    np.ndarray, float32, shape (bins, frames)
        Not negative.

    Raises
    ------
    ConfigError
        If there is no such layer or feature.
    """
    names = [one.name for one in model.layers]
    convolutions = [name for name in names if name.startswith("conv")]
    if not 1 <= layer <= len(convolutions):
        raise ConfigError(f"auralise: layer is {layer}, the network has {len(convolutions)} convolutions")
    maps = int(model.get_layer(f"conv{layer}").filters)
    if not 0 <= feature < maps:
        raise ConfigError(f"auralise: feature is {feature}, layer {layer} has {maps} maps")
    inputs, answers = [tf.convert_to_tensor(x[None, :, :, None], tf.float32)], []
    for i in range(1, layer + 1):
        answers.append(model.get_layer(f"conv{i}")(inputs[-1]))
        inputs.append(model.get_layer(f"pool{i}")(answers[-1]))
    back = answers[-1] * tf.one_hot(feature, maps)
    for i in range(layer, 0, -1):
        back = tf.nn.relu(_back(_linear(model.get_layer(f"conv{i}")), inputs[i - 1], tf.nn.relu(back)))
        if i > 1:
            back = _back(model.get_layer(f"pool{i - 1}"), answers[i - 2], back)
    return back.numpy()[0, :, :, 0]


def auralise(model: keras.Model, samples: Float32, *, layer: int, feature: int) -> Float32:
    """Return what a feature hears in a clip.

    Parameters
    ----------
    model : keras.Model
        The genre CNN.
    samples : np.ndarray, float32, shape (n,)
        At 11,025 Hz, as long as the network's input (4 s).
    layer, feature : int
        See `deconvolve`.

    Returns
    -------
    np.ndarray, float32
        At 11,025 Hz; silence if the feature does not answer. Up to a hop shorter than the clip.

    Raises
    ------
    ConfigError
        If there is no such layer or feature, or the clip is of another length.
    """
    spectrum = genre.stft(samples)
    wanted = tuple(model.input_shape[1:3])
    if spectrum.shape != wanted:
        raise ConfigError(f"auralise: the clip's spectrogram is {spectrum.shape}, the network takes {wanted}")
    x = genre.compress(np.abs(spectrum))
    pattern = deconvolve(model, x, layer=layer, feature=feature)
    if pattern.max() > 0:
        pattern *= x.max() / pattern.max()
    return genre.istft(genre.expand(pattern) * np.exp(1j * np.angle(spectrum)))
