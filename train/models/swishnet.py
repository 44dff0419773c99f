"""SwishNet: a gated causal 1-D network on MFCC (Hussain & Haque 2018, section 3.2, figure 1).

All convolutions run along time. "Filters" is the width before the gate; the gate multiplies the sigmoid of one half
of the channels with the hyperbolic tangent of the other, so half of them leave it.

Where the paper is silent, these choices are *ours*:

* **Padding sits at the input.** Convolutions are 'valid'; a clip is preceded by mean frames (zeros after the
  normalisation) until its last frame is the last sample of every strided block. A stream that starts after silence
  then gives exactly what a clip gives, which padding inside each block would not.
* **Sampling is right-aligned.** Outputs lie on the last frame and every 48 frames before it, as many as it takes
  that together they see the whole clip: 1 for 0.5 and 1 s, 3 for 2 s (`instants`). Shortcuts and skips are sampled
  at the same instants.
* **Pooling comes last:** the head (hidden layer of ReLU units, 3 outputs) is evaluated at every instant, its logits
  are averaged over time, then softmax.
* Dropout (optional) stands after each of the last four gates.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from edge_runtime import ConfigError

RECEPTIVE_FIELD = 108
STRIDE = 48


def instants(frames: int) -> int:
    """Return at how many instants the head looks at a clip of `frames` frames."""
    return max(1, 1 - (RECEPTIVE_FIELD - frames) // STRIDE)


def padded_frames(frames: int) -> int:
    """Return the length of a clip with its padding: 108, 156, 204 ... frames."""
    return RECEPTIVE_FIELD + STRIDE * (instants(frames) - 1)


@dataclass(frozen=True)
class SwishNetConfig:
    """Width 1 is slim (5,483 parameters), width 2 wide (18,267)."""

    width: int = 1
    inputs: int = 20
    classes: int = 3
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if min(self.width, self.inputs, self.classes) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(f"{self}: width, inputs and classes must be at least 1, dropout from 0 to below 1")


@keras.saving.register_keras_serializable(package="edge_bench")
class PadToStride(layers.Layer):  # type: ignore[misc]
    """Precede a clip with mean frames so that its last frame is the last sample of every block.

    Input shape (batch, time, channels), output shape (batch, padded_frames(time), channels).
    """

    def call(self, inputs):  # type: ignore[no-untyped-def]
        """Pad the time axis on the left."""
        frames = keras.ops.shape(inputs)[1]
        if isinstance(frames, int):
            missing = padded_frames(frames) - frames
        else:
            more = keras.ops.maximum(0, -((RECEPTIVE_FIELD - frames) // STRIDE))
            missing = RECEPTIVE_FIELD + STRIDE * more - frames
        return keras.ops.pad(inputs, ((0, 0), (missing, 0), (0, 0)))

    def compute_output_shape(self, input_shape):  # type: ignore[no-untyped-def]
        """Return the shape with the padded length, where it is known."""
        batch, frames, channels = input_shape
        return (batch, None if frames is None else padded_frames(frames), channels)


def _gate(x, name: str):  # type: ignore[no-untyped-def]
    """sigmoid(first half) * tanh(second half)."""
    half = x.shape[-1] // 2
    return layers.Multiply(name=name)(
        [layers.Activation("sigmoid")(x[..., :half]), layers.Activation("tanh")(x[..., half:])]
    )


def _pair(x, filters: int, name: str):  # type: ignore[no-untyped-def]
    """Gated k3 convolution beside gated k6 separable convolution, concatenated."""
    k3 = layers.Conv1D(filters, 3, name=f"{name}_conv")(x[:, 3:])
    k6 = layers.SeparableConv1D(filters, 6, name=f"{name}_sep")(x)
    return layers.Concatenate(name=name)([_gate(k3, f"{name}_gate3"), _gate(k6, f"{name}_gate6")])


def _strided(x, filters: int, stride: int, name: str):  # type: ignore[no-untyped-def]
    """Gated k3 convolution with a stride, and the input sampled at its instants."""
    gated = _gate(layers.Conv1D(filters, 3, strides=stride, name=f"{name}_conv")(x), name)
    return gated, x[:, 2::stride]


def build(config: SwishNetConfig = SwishNetConfig()) -> keras.Model:
    """Return the network: (batch, time, inputs) to (batch, classes) probabilities.

    The layer ``logits`` holds the head's output before pooling, (batch, instants, classes), and ``pooled_logits``
    what the softmax sees.
    """
    w = config.width
    inputs = keras.Input((None, config.inputs), name="features")
    x = PadToStride(name="pad")(inputs)
    x = _pair(x, 16 * w, "b1")
    x = _pair(x, 8 * w, "b2")
    x = layers.Add(name="b3_add")([_pair(x, 8 * w, "b3"), x[:, 5:]])
    gated, shortcut = _strided(x, 16 * w, 3, "b4")
    x = layers.Add(name="b4_add")([gated, shortcut])

    skips = []
    for name, filters, more in (("b5", 16, 8), ("b6", 16, 4), ("b7", 16, 2), ("b8", 32, 1)):
        gated, shortcut = _strided(x, filters * w, 2, name)
        if config.dropout:
            gated = layers.Dropout(config.dropout, name=f"{name}_dropout")(gated)
        skips.append(gated[:, 2 * (more - 1) :: more])
        x = layers.Add(name=f"{name}_add")([gated, shortcut]) if name in ("b5", "b6") else gated

    x = layers.Concatenate(name="skips")(skips)
    x = layers.Dense(16 * w, activation="relu", name="hidden")(x)
    x = layers.Dense(config.classes, name="logits")(x)
    x = layers.GlobalAveragePooling1D(name="pooled_logits")(x)
    outputs = layers.Softmax(name="probabilities")(x)
    return keras.Model(inputs, outputs, name=f"swishnet_{'slim' if w == 1 else 'wide' if w == 2 else w}")


class GatedPair(layers.Layer):  # type: ignore[misc]
    """A k3 convolution beside a k6 separable one, both gated, computed as one convolution on the same weights.

    (batch, time, channels) to (batch, time - 5, filters). A training step takes two thirds of the time that the two
    layers take one after the other, half of it the separable convolution's gradient.
    """

    def __init__(self, conv: keras.layers.Conv1D, separable: keras.layers.SeparableConv1D) -> None:
        super().__init__(name=f"{conv.name}_pair")
        self.conv, self.separable = conv, separable

    def call(self, inputs):  # type: ignore[no-untyped-def]
        """Multiply the separable kernel out, precede the short one with zeros, convolve once, gate."""
        ops = keras.ops
        filters = self.conv.filters
        short = ops.pad(self.conv.kernel, ((3, 0), (0, 0), (0, 0)))
        # depthwise (6, channels, 1) times pointwise (1, channels, filters)
        long = ops.reshape(self.separable.depthwise_kernel, (6, -1, 1)) * self.separable.pointwise_kernel
        half = filters // 2
        halves = (slice(0, half), slice(half, None))
        kernel = ops.concatenate([k[..., part] for part in halves for k in (short, long)], axis=-1)
        biases = (self.conv.bias, self.separable.bias)
        bias = ops.concatenate([b[part] for part in halves for b in biases], axis=-1)
        y = ops.conv(inputs, kernel, padding="valid") + bias
        return ops.sigmoid(y[..., :filters]) * ops.tanh(y[..., filters:])

    def compute_output_shape(self, input_shape):  # type: ignore[no-untyped-def]
        """Return (batch, time - 5, filters)."""
        batch, frames, _ = input_shape
        return (batch, None if frames is None else frames - 5, self.conv.filters)


def trainee(model: keras.Model) -> keras.Model:
    """Return a network on the same weights that trains faster: features to ``pooled_logits``."""
    get = model.get_layer

    def pair(x, name: str):  # type: ignore[no-untyped-def]
        return GatedPair(get(f"{name}_conv"), get(f"{name}_sep"))(x)

    x = pair(get("pad")(model.input), "b1")
    x = pair(x, "b2")
    x = layers.Add()([pair(x, "b3"), x[:, 5:]])
    skips = []
    for name, stride, more in (("b4", 3, 0), ("b5", 2, 8), ("b6", 2, 4), ("b7", 2, 2), ("b8", 2, 1)):
        gated = _gate(get(f"{name}_conv")(x), f"{name}_gated")
        if more:
            if any(layer.name == f"{name}_dropout" for layer in model.layers):
                gated = get(f"{name}_dropout")(gated)
            skips.append(gated[:, 2 * (more - 1) :: more])
        x = layers.Add()([gated, x[:, 2::stride]]) if name in ("b4", "b5", "b6") else gated
    x = get("hidden")(layers.Concatenate()(skips))
    return keras.Model(model.input, get("pooled_logits")(get("logits")(x)), name=model.name)
