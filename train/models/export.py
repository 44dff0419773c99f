"""A network of the zoo as a plain float32 ``.tflite``, for where it runs and is not deployed: teachers, tables."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import keras

from edge_runtime import ConfigError


def to_tflite(model: keras.Model, shape: Sequence[int]) -> bytes:
    """Return a Keras model as a float32 ``.tflite`` for one example of a shape.

    Raises
    ------
    ConfigError
        If it has an operation that TFLite lacks.
    """
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve", lambda x: model(x, training=False), input_signature=[tf.TensorSpec((1, *shape), tf.float32)]
    )
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        archive.write_out(folder, verbose=False)
        try:
            return bytes(tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"]).convert())
        except Exception as error:  # the converter passes on whatever it meets
            raise ConfigError(f"{model.name}: cannot be converted: {str(error).splitlines()[0]}") from None
