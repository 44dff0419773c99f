"""The front end as a TFLite graph, to see what a live stream would cost with it.

``python front_end_graph.py FILE FRAMES`` writes one for so many frames. The windowed DFT of the bins that the mel
filters read is one convolution over rows of 80 samples (a frame of 400 every 160), so that the interpreter does the
work in eleven operators. Float32; of the shipped bundles' front end.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime import FrontEndConfig, filters
from edge_runtime.bundle import read

_ROW = 80  # samples: frames and hops are whole rows


def build(config: FrontEndConfig, frames: int) -> bytes:
    """Return a flatbuffer: samples, shape (config.samples(frames),), to MFCC, shape (frames, features)."""
    import tensorflow as tf

    mel = filters.mel_filters(config)
    bins = np.flatnonzero(mel.any(axis=1))
    angle = 2 * np.pi / config.fft_length * np.arange(config.frame_length)[:, None] * bins
    window = filters.window(config)[:, None]
    waves = np.concatenate([window * np.cos(angle), window * np.sin(angle)], axis=1)
    kernel = waves.reshape(1, config.frame_length // _ROW, _ROW, 2 * len(bins)).astype(np.float32)
    scale = np.asarray(config.scale)
    last = filters.dct(config.mel_bands, config.coefficients) * 10 / np.log(10) * scale
    bias = -np.asarray(config.mean) * scale

    def front_end(samples: Any) -> Any:
        rows = tf.reshape(samples, [1, 1, -1, _ROW])
        parts = tf.square(tf.nn.conv2d(rows, kernel, [1, 1, config.hop_length // _ROW, 1], "VALID"))[0, 0]
        power = parts[:, : len(bins)] + parts[:, len(bins) :]
        bands = tf.maximum(tf.matmul(power, mel[bins].astype(np.float32)), config.power_floor)
        return tf.matmul(tf.math.log(bands), last.astype(np.float32)) + bias.astype(np.float32)

    function = tf.function(front_end, [tf.TensorSpec([config.samples(frames)], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    return bytes(converter.convert())


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(build(read("swishnet-slim-int8").front_end, int(sys.argv[2])))
