"""A bundle's network in Keras, timed on a device of TensorFlow or JAX: ``python -m edge_bench.train.device_worker``.

`KERAS_BACKEND` chooses the framework. The network is the one that is in the bundle (see `recover`), compiled whole, in
float32. Timed are a batch of one and a large one, each with the copies to the device and back and without them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from edge_bench.benchmarks.devices_worker import timed
from edge_runtime import EdgeBenchError
from edge_runtime.bundle import read

from .recover import swishnet

Ready = tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any], str]


def tensorflow(model: keras.Model, device: str, threads: int) -> Ready | str:
    """Return (put, compute, get, version), or why there is no such device."""
    import tensorflow as tf

    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        return "no GPU that TensorFlow sees here"
    place = f"/{device.upper()}:0"

    network: Any = tf.function(lambda x: model(x, training=False))

    def put(x: Any) -> Any:
        with tf.device(place):
            return tf.identity(tf.constant(x))

    def compute(x: Any) -> Any:
        with tf.device(place):
            y = network(x)
        if device == "gpu":
            tf.test.experimental.sync_devices()  # a GPU's work is only queued when the call returns
        return y

    return put, compute, lambda y: y.numpy(), str(tf.__version__)


def jax(model: keras.Model, device: str, threads: int) -> Ready | str:
    """Return (put, compute, get, version), or why there is no such device."""
    framework: Any = importlib.import_module("jax")
    try:
        place = framework.devices(device)[0]
    except RuntimeError:
        return "no GPU that JAX sees here" if device == "gpu" else f"JAX has no device {device!r} here"
    weights = [framework.device_put(v.value, place) for v in model.trainable_variables]
    rest = [framework.device_put(v.value, place) for v in model.non_trainable_variables]

    def network(weights: Any, rest: Any, x: Any) -> Any:
        return model.stateless_call(weights, rest, x, training=False)[0]

    compiled = framework.jit(network)
    return (
        lambda x: framework.block_until_ready(framework.device_put(x, place)),
        lambda x: framework.block_until_ready(compiled(weights, rest, x)),
        np.asarray,
        str(framework.__version__),
    )


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Return the samples of one device, or why it is absent."""
    bundle = read(request["bundle"])
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(request["threads"])
        tf.config.threading.set_inter_op_parallelism_threads(1)
    model = swishnet(bundle)
    ready = (tensorflow if keras.backend.backend() == "tensorflow" else jax)(
        model, request["device"], request["threads"]
    )
    if isinstance(ready, str):
        return {"absent": ready}
    put, compute, get, version = ready
    shape = (bundle.clip_frames(request["clip_s"]), bundle.front_end.features)
    rng = np.random.default_rng(0)
    one, many = (rng.standard_normal((n, *shape)).astype(np.float32) for n in (1, request["batch"]))
    on_device = [put(x) for x in (one, many)]
    gc.disable()
    budget = request["budget_s"]
    return {
        "version": version,
        "note": "float32, compiled",
        "with_copies": timed(lambda: get(compute(put(one))), budget_s=budget),
        "without_copies": timed(lambda: compute(on_device[0]), budget_s=budget),
        "batch_with_copies": timed(lambda: get(compute(put(many))), budget_s=budget),
        "batch_without_copies": timed(lambda: compute(on_device[1]), budget_s=budget),
    }


if __name__ == "__main__":
    try:
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    except EdgeBenchError as error:
        print(json.dumps({"absent": str(error)}))
