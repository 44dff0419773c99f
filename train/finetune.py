"""A network to start from: that of a training's folder, a ``.keras`` file in one, or a bundle.

Its front end comes along and stays as it is, normalisation included: the weights mean nothing under another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, EdgeBenchError, FrontEndConfig
from edge_runtime.bundle import read, resolve
from edge_runtime.classify import predict as predict_bundle

from . import models, recover
from .clips import ClipSet
from .experiment import Experiment, read_folder

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]
SAMPLE_RATE = 16000  # what the corpora are read at
MOST_COMPARED = 500  # clips on which a recovered network is compared with its bundle


@dataclass(frozen=True)
class Start:
    """Where a fine-tuning begins.

    Attributes
    ----------
    model : keras.Model
        With its own head.
    name, options : str, mapping
        What builds such a network in the zoo.
    front_end : FrontEndConfig
        With normalisation.
    classes : tuple of str
        Of its own head.
    origin : dict
        ``path, kind, sha256`` of the file.
    reference : callable, optional
        What the bundle itself answers, to compare with what was recovered from it.
    """

    model: keras.Model
    name: str
    options: Mapping[str, Any]
    front_end: FrontEndConfig
    classes: tuple[str, ...]
    origin: dict[str, Any]
    reference: Predict | None = None

    def adapt(self, experiment: Experiment) -> Experiment:
        """Return the experiment with this network and front end in place of its own."""
        options = {**self.options, **experiment.options}
        return replace(experiment, model=self.name, options=options, front_end=self.front_end)

    def network(self, classes: Sequence[str], freeze: Sequence[str] = (), **options: Any) -> keras.Model:
        """Return a trainable copy for these classes.

        Classes that the start knows keep their part of its head, in the new order; if any is new, so is the head.

        Parameters
        ----------
        freeze : sequence of str
            Layers whose name begins so are not trained.

        Raises
        ------
        ConfigError
            If `options` make a network that the weights do not fit, or `freeze` fits no layer or all.
        """
        built = models.build(self.name, inputs=self.front_end.features, classes=len(classes), **options)
        old, new = ([layer for layer in m.layers if layer.weights] for m in (self.model, built))
        try:
            for source, target in zip(old[:-1], new[:-1], strict=True):
                target.set_weights(source.get_weights())
            if set(classes) <= set(self.classes):
                columns = [self.classes.index(name) for name in classes]
                new[-1].set_weights([w[..., columns] for w in old[-1].get_weights()])
        except ValueError as error:
            why, where = str(error).splitlines()[0], self.origin["path"]
            raise ConfigError(f"{where}: its weights do not fit {self.name} with {options}: {why}") from None
        _freeze(new, freeze)
        return built

    def describe(self, clips: ClipSet, say: Callable[[str], None]) -> dict[str, Any]:
        """Return the origin, and how far a network recovered from a bundle is from that bundle on these clips.

        ``recovered`` has ``clips, agreement`` (share with the same class), and the ``mean`` and the ``largest``
        difference of a probability.
        """
        say(f"starting from {self.origin['path']} ({self.origin['kind']}, {', '.join(self.classes)})")
        if self.reference is None:
            return self.origin
        x = clips.x[:: -(-len(clips.x) // MOST_COMPARED)]
        found = self._difference(x, self.reference)
        say(
            f"recovered from the bundle: {100 * found['agreement']:.1f} % of {found['clips']} validation clips get the "
            f"same class, probabilities differ by {found['mean']:.4f} on average, at most {found['largest']:.4f}"
        )
        return {**self.origin, "recovered": found}

    def _difference(self, clips: NDArray[np.float32], reference: Predict) -> dict[str, float]:
        got, wanted = np.asarray(self.model(clips)), reference(clips)
        apart = np.abs(got - wanted)
        same = got.argmax(axis=1) == wanted.argmax(axis=1)
        return {
            "clips": len(clips), "agreement": float(same.mean()), "mean": float(apart.mean()),
            "largest": float(apart.max()),
        }  # fmt: skip


def _freeze(layers: Sequence[Any], freeze: Sequence[str]) -> None:
    names = [layer.name for layer in layers]
    for prefix in freeze:
        if not prefix or not any(name.startswith(prefix) for name in names):
            raise ConfigError(f"freeze: no layer's name begins with {prefix!r}; there are {', '.join(names)}")
    for layer in layers:
        layer.trainable = not layer.name.startswith(tuple(freeze))
    if not any(layer.trainable for layer in layers):
        raise ConfigError(f"freeze: {', '.join(freeze)} leaves nothing to train")


def open_start(path: str) -> Start:
    """Return the network in a training's folder, a ``.keras`` file in one, or a bundle (a path or a shipped name).

    Raises
    ------
    ConfigError, BundleError
        If it is none of these, or a bundle whose network cannot be recovered.
    """
    file = Path(path) if path.endswith(".keras") else Path(path) / "model.keras"
    if path.endswith(".keras") or file.is_file():
        start = _from_keras(file)
    elif Path(path).is_dir():
        raise ConfigError(f"{path}: holds no finished training (model.keras); give one, or a bundle")
    else:
        start = _from_bundle(path)
    if start.front_end.sample_rate != SAMPLE_RATE:
        raise ConfigError(f"{path}: hears {start.front_end.sample_rate} Hz; corpora are read at {SAMPLE_RATE} Hz")
    return start


def _from_keras(file: Path) -> Start:
    experiment, _ = read_folder(file.parent)
    try:
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise EdgeBenchError(f"{file}: cannot be read: {error.strerror or error}") from None
    origin = {"path": str(file), "kind": "keras", "sha256": sha256}
    return Start(
        models.load(file), experiment.model, experiment.options, experiment.front_end, experiment.classes, origin
    )


def _from_bundle(path: str) -> Start:
    bundle = read(resolve(path))
    model = recover.swishnet(bundle)
    width = model.get_layer("b4_conv").kernel.shape[2] // 16
    name = {1: "swishnet-slim", 2: "swishnet-wide"}.get(width)
    origin = {"path": path, "kind": f"{bundle.info['precision']} bundle", "sha256": bundle.sha256}
    return Start(
        model, name or "swishnet-slim", {} if name else {"width": width}, bundle.front_end, bundle.classes, origin,
        lambda clips: predict_bundle(bundle, clips),
    )  # fmt: skip


def corpus_classes(labels: set[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return a corpus' classes: those that the start knows in its order, then the others by name.

    Examples
    --------
    >>> corpus_classes({"music", "speech"}, ("speech", "music", "noise"))
    ('speech', 'music')
    """
    return (*(c for c in known if c in labels), *sorted(labels - set(known)))
