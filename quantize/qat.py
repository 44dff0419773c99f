"""Quantisation-aware training: a trained network goes on learning with the rounding of int8 in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edge_bench.train.experiment import Experiment, Prepared, settle
from edge_bench.train.models.swishnet import PadToStride
from edge_runtime import ConfigError
from edge_runtime.classify import fitted

from .convert import INPUT_LIMIT, Calibration, Converted, convert_deployed
from .deploy import Deployed
from .fake import FakeQuantised
from .objects import unpack
from .pack import pack
from .quantiser import INT8
from .ranges import measure
from .recipes import Recipe


@dataclass(frozen=True)
class Trained:
    """A network after quantisation-aware training.

    Attributes
    ----------
    model : keras.Model
        With fake quantisation, clips to probabilities.
    converted : Converted
        In int8.
    history : tuple of dict
        One row an epoch.
    """

    model: keras.Model
    converted: Converted
    history: tuple[dict[str, float], ...]


def fake_quantised(deployed: Deployed, calibration: Calibration, recipe: Recipe) -> keras.Model:
    """Return the deployed network with fake quantisation: (batch, frames, features) to (batch, classes).

    Raises
    ------
    ConfigError
        If the recipe is not int8, or there is no calibration clip.
    """
    if recipe.kind is not INT8:
        raise ConfigError(f"quantisation-aware training is for static-int8, not for {recipe.name}")
    exact = deployed.convert(None)
    clips = fitted(calibration.clips, deployed.frames)
    chosen, extremes = (
        measure(exact, clips, method=method, input_limit=INPUT_LIMIT) for method in (recipe.ranges, "min-max")
    )
    features = keras.Input((None if deployed.clip is None or deployed.clip["step"] else deployed.frames,
                            clips.shape[2]), name="features")  # fmt: skip
    x = features
    if deployed.clip is None:
        x = PadToStride(name="pad")(x)
    elif deployed.clip["step"] > 1:
        x = keras.layers.Lambda(_whole_steps, arguments={"step": deployed.clip["step"]}, name="whole_steps")(x)
    layer = FakeQuantised(exact, chosen, extremes, one_scale=deployed.one_scale, name="pooled_logits")
    outputs = keras.layers.Softmax(name="probabilities")(layer(x))
    return keras.Model(features, outputs, name="quantised")


def _whole_steps(x: Any, step: int) -> Any:
    return x[:, keras.ops.shape(x)[1] % step :]


def to_integers(model: keras.Model, deployed: Deployed, recipe: Recipe) -> Converted:
    """Return the int8 graph of a network with fake quantisation: its weights, its ranges."""
    layer = model.get_layer("pooled_logits")
    flatbuffer = unpack(deployed.convert(None))
    graph = flatbuffer.subgraphs[0]
    for index, values in layer.trained_constants().items():
        buffer = flatbuffer.buffers[graph.tensors[index].buffer]
        buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
    return convert_deployed(deployed, recipe, exact=pack(flatbuffer), ranges=layer.trained_ranges())


def train(
    experiment: Experiment,
    ready: Prepared,
    deployed: Deployed,
    calibration: Calibration,
    recipe: Recipe,
    folder: Path,
    *,
    epochs: int = 5,
    say: Callable[[str], None] = print,
) -> Trained:
    """Train with the rounding of int8 on what the experiment trained on, its teacher included.

    The rate falls along a cosine from a tenth of the experiment's; the best epoch by validation is kept.

    Parameters
    ----------
    folder : Path
        Receives checkpoints; an unfinished training is continued.
    """
    from edge_bench.train.fit import fit

    if epochs < 1:
        raise ConfigError(f"epochs is {epochs}, must be at least 1")
    model = fake_quantised(deployed, calibration, recipe)
    how = settle(experiment)
    rate = how.learning_rate / 10
    how = replace(
        how, epochs=epochs, learning_rate=rate, final_rate=min(how.final_rate, rate / 10), first_cycle=epochs,
        patience=epochs, ema=min(how.ema, 0.99),
    )  # fmt: skip
    fitted = fit(
        model, ready.pool, ready.validation, ready.front_end, experiment.classes, how, folder,
        teacher=ready.teacher, start={"form": deployed.form, "recipe": recipe.name}, say=say,
    )  # fmt: skip
    return Trained(model, to_integers(model, deployed, recipe), fitted.history)
