"""Training on several devices of one machine: each takes a share of every batch, the weights stay equal.

Keras has an API of its own for this, ``keras.distribution``, but in 3.15 it works with JAX only: under TensorFlow,
which this project trains and converts with, its backend is a prototype marked "DO NOT USE" whose ``distribute_value``
does nothing. What Keras supports under TensorFlow is ``tf.distribute.MirroredStrategy``, used here. Its counterpart for
several machines, ``MultiWorkerMirroredStrategy``, fails in Keras 3 (keras issue 20585): there is none here, and several
machines serve `edge-bench search`, a trial each.

The result is that of one device up to rounding: batches are cut evenly, so their size must be a multiple of the number
of devices, and gradients are clipped after they are summed. Batch normalisation (MobileNet) and dropout are the
exception: each device normalises by its own share and draws its own zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edge_runtime import ConfigError


@contextmanager
def devices(count: int) -> Iterator[None]:
    """Train whatever is built inside on so many devices: GPUs, or without any so many parts of the processor.

    Parts of the processor are for trying it out: one part alone uses all cores already.

    Raises
    ------
    ConfigError
        If there are fewer GPUs, or TensorFlow has begun to compute, after which the processor cannot be divided.
    """
    if count < 1:
        raise ConfigError(f"devices is {count}, must be at least 1")
    if count == 1:
        yield
        return
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise ConfigError(f"several devices need Keras on TensorFlow, it runs on {keras.backend.backend()}")
    graphics = tf.config.list_physical_devices("GPU")
    if 0 < len(graphics) < count:
        raise ConfigError(f"{count} devices wanted, this machine has {len(graphics)} GPUs")
    kind = "GPU" if graphics else "CPU"
    if not graphics:
        _divide_processor(count)
    names = [f"/{kind}:{i}" for i in range(count)]
    with tf.distribute.MirroredStrategy(names).scope():
        yield


def _divide_processor(count: int) -> None:
    import tensorflow as tf

    processor = tf.config.list_physical_devices("CPU")[0]
    parts = tf.config.get_logical_device_configuration(processor) or []
    if len(parts) >= count:
        return
    try:
        tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        raise ConfigError(f"the processor cannot be divided into {count} devices: TensorFlow runs already") from None


def clip_after_sum(optimizer: Any) -> Any:
    """Return the optimizer; on several devices its gradients are summed before they are clipped.

    Keras clips each device's own, which are smaller by the number of devices, and would clip less and otherwise.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return optimizer
    import tensorflow as tf

    count = tf.distribute.get_strategy().num_replicas_in_sync
    if count == 1:
        return optimizer
    clip = optimizer._clip_gradients

    def summed_and_clipped(gradients: Sequence[Any]) -> list[Any]:
        context = tf.distribute.get_replica_context()
        whole = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
        # Keras will add the devices' gradients, equal by now
        return [None if g is None else g / count for g in clip(whole)]

    optimizer._clip_gradients = summed_and_clipped
    return optimizer


def check_batch(batch: int, count: int) -> None:
    """Raise `ConfigError` unless a batch can be cut evenly."""
    if batch % count:
        raise ConfigError(f"[fit]: batch is {batch}, must be a multiple of the {count} devices")
