"""Frame-wise baselines by name, and as files: scikit-learn's estimators with skops, which does not unpickle.

A forest's trees are node tables that scikit-learn follows without looking; they are checked when they are read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime import ConfigError, EdgeBenchError

from . import baselines
from .baselines import FrameClassifier, Mixtures, Network

FILE, NETWORK = "model.skops", "model.keras"
_TREE = "sklearn.tree._tree.Tree"
_MAKERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gmm": (baselines.gmm, {}),
    "snn": (baselines.snn, {}),
    "random-forest": (baselines.random_forest, {"jobs": -1}),
    "svm-rbf": (baselines.svm, {"kernel": "rbf"}),
    "svm-linear": (baselines.svm, {"kernel": "linear"}),
}


def make(name: str, classes: int, options: Mapping[str, Any], *, seed: int = 0) -> FrameClassifier:
    """Return an unfitted baseline.

    Raises
    ------
    ConfigError
        For an option that it does not have.
    """
    maker, fixed = _MAKERS[name]
    known = set(maker.__kwdefaults__) - {"seed", "jobs", "kernel"}
    if unknown := sorted(set(options) - known):
        raise ConfigError(f"{name}: unknown option {unknown[0]!r}; known are {', '.join(sorted(known))}")
    classifier: FrameClassifier = maker(classes, **fixed, **options, seed=seed)
    return classifier


def save(folder: Path, classifier: FrameClassifier) -> None:
    """Write a fitted baseline into a folder: ``model.skops``, and ``model.keras`` of the network.

    Raises
    ------
    EdgeBenchError
        If a file cannot be written.
    """
    import skops.io

    estimator = classifier.estimator
    if isinstance(estimator, Mixtures):
        estimator = estimator.models
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(estimator, Network):
            estimator.model.save(folder / f"part-{NETWORK}")
            os.replace(folder / f"part-{NETWORK}", folder / NETWORK)
            estimator = None
        content = {"mean": classifier.mean, "scale": classifier.scale, "estimator": estimator}
        skops.io.dump(content, folder / f"part-{FILE}")
        os.replace(folder / f"part-{FILE}", folder / FILE)
    except OSError as error:
        raise EdgeBenchError(f"{folder}: cannot be written: {error.strerror or error}") from None


def load(folder: Path, name: str, classes: int) -> FrameClassifier:
    """Read a fitted baseline.

    Raises
    ------
    ConfigError
        If the file is missing, damaged, or holds anything but such a baseline.
    """
    import skops.io

    file = folder / FILE
    try:
        content = skops.io.load(file, trusted=[_TREE])
        classifier = make(name, classes, {})
        estimator = content["estimator"]
        classifier.mean, classifier.scale = np.asarray(content["mean"]), np.asarray(content["scale"])
        if isinstance(classifier.estimator, Mixtures):
            classifier.estimator.models = estimator
        elif isinstance(classifier.estimator, Network):
            from . import models

            classifier.estimator.model = models.load(folder / NETWORK)
        else:
            _check_trees(estimator, len(classifier.mean))
            classifier.estimator = estimator
        # a prediction proves that the parts fit together
        classifier.predict_frames(np.zeros((1, len(classifier.mean)), np.float32))
    except EdgeBenchError:
        raise
    except Exception as error:  # skops and the estimators raise whatever a damaged file leads them to
        raise ConfigError(f"{file}: cannot be read as a trained {name}: {str(error).splitlines()[0]}") from None
    return classifier


def _check_trees(estimator: Any, features: int) -> None:
    for one in getattr(estimator, "estimators_", ()):
        tree = one.tree_
        nodes = np.arange(tree.node_count)
        for child in (tree.children_left, tree.children_right):
            # a child comes after its parent, so no walk is endless
            if not ((child == -1) | ((child > nodes) & (child < tree.node_count))).all():
                raise ValueError("a tree points outside itself")
        if ((tree.children_left == -1) != (tree.children_right == -1)).any() or tree.feature.max() >= features:
            raise ValueError("a tree asks for a feature that is not there")


def parameters(classifier: FrameClassifier) -> int:
    """Return the free parameters: of the mixtures or the network; values in a forest's nodes or the machine."""
    estimator = classifier.estimator
    if isinstance(estimator, Mixtures):
        return baselines.gmm_parameters(
            len(classifier.mean), components=estimator.models[0].n_components, classes=classifier.classes
        )
    if isinstance(estimator, Network):
        from .models import trainable_parameters

        return trainable_parameters(estimator.model)
    if hasattr(estimator, "estimators_"):  # threshold and feature of a node, the classes' shares in a leaf
        trees = [one.tree_ for one in estimator.estimators_]
        return int(sum(2 * (t.node_count - t.n_leaves) + t.n_leaves * classifier.classes for t in trees))
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    arrays = [getattr(step, name, np.zeros(0)) for step in steps for name in
              ("components_", "normalization_", "coef_", "intercept_")]  # fmt: skip
    return int(sum(array.size for array in arrays))
