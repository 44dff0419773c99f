"""What is quantised: a finished training in its folder, or the network that a float32 bundle holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from edge_bench.train import experiment as experiments
from edge_bench.train import models, recover, systems
from edge_bench.train.experiment import Experiment
from edge_runtime import ConfigError
from edge_runtime.bundle import read, resolve


@dataclass(frozen=True)
class Source:
    """A network, and how it was trained.

    Attributes
    ----------
    model : keras.Model
    experiment : Experiment
        Its front end has its normalisation.
    training : dict
        The bundle's provenance.
    extra : tuple of Path
        Folders that were trained on beside the corpus.
    folder : Path or None
        Of the training; None for a bundle.
    """

    model: keras.Model
    experiment: Experiment
    training: dict[str, Any]
    extra: tuple[Path, ...]
    folder: Path | None


def open_source(path: str | Path, *, extra: Sequence[Path] = ()) -> Source:
    """Return a training by its folder, or a SwishNet by its float32 bundle (a path or a shipped name).

    The all-conv net's normalisation moves from its graph into the front end.

    Parameters
    ----------
    extra : sequence of Path
        Where the recordings beside the corpus lie: a bundle does not know it and is calibrated without them else, a
        folder's are taken in place of those that it was trained on.

    Raises
    ------
    ConfigError, BundleError
        If it is neither, or a bundle whose network or training cannot be recovered.
    """
    folder = Path(path)
    if folder.is_dir():
        experiment, description = experiments.read_folder(folder)
        allconv = experiment.model in models.ZOO and models.ZOO[experiment.model].family == "allconv"
        if systems.is_system(experiment.model) and not allconv:
            raise ConfigError(
                f"{path}: {experiment.model} looks at examples of its own, not clips; it has no int8 form yet"
            )
        model = models.load(folder / "model.keras")
        if allconv:
            model, experiment = _allconv(model, experiment)
        training = {
            "experiment": {k: v for k, v in description["experiment"].items() if k != "front_end"},
            "fit": description["fit"],
            "corpus": description["corpus"]["revision"],
            "keras": description["keras"],
        }
        trained_on = tuple(Path(name) for name in description["corpus"]["extra"])
        beside = tuple(extra) or trained_on
        return Source(model, experiment, training, beside, folder)
    if folder.suffix != ".tflite" and not str(path).endswith("-float32"):
        raise ConfigError(f"{path}: no such folder; give that of a finished training, or a float32 bundle")
    bundle = read(resolve(str(path)))
    if bundle.info["precision"] != "float32":
        raise ConfigError(f"{path}: holds {bundle.info['precision']} numbers; a float32 bundle can be quantised")
    training = dict(bundle.info["training"])
    if "experiment" not in training:
        raise ConfigError(f"{path}: does not say how it was trained; give the training's folder")
    values = {**training["experiment"], "front_end": bundle.front_end.to_dict()}
    experiment = experiments.build(Experiment, values, str(path))
    return Source(recover.swishnet(bundle), experiment, training, tuple(extra), None)


def _allconv(model: keras.Model, experiment: Experiment) -> tuple[keras.Model, Experiment]:
    from edge_bench.train.inputs import allconv_front_end
    from edge_bench.train.models.allconv import behind_normalisation

    network, mean, scale = behind_normalisation(model)
    config = models.configure(experiment.model, classes=len(experiment.classes), **experiment.options)
    return network, replace(experiment, front_end=allconv_front_end(config).normalised(mean, scale))
