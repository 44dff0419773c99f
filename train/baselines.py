"""Frame-wise baselines: a frame of MFCC with its first and second deltas is classified alone, a clip by majority vote.

Hussain & Haque 2018 (section 4.2; seed 003, III-A) compare with three Gaussian mixtures and a self-normalising
network; Bhatia & Thakur (seed 000, table 1) with a random forest and support vector machines. All of them are a
`FrameClassifier` here: ``fit(frames, labels)``, ``predict_frames(frames)``, ``vote(clips)``.

*Ours*: the width of the deltas (9 frames, librosa's default), standardised inputs for every method, equal priors of
the mixtures, the size of the forest, and the SVM's kernel: linear, or RBF on Nystroem's features, because an exact
one would take the square of a million frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, FrontEndConfig
from edge_runtime.metrics import validate

from .clips import source_weights
from .features import Pool

Float32 = NDArray[np.float32]
Int = NDArray[np.int64]


def delta(x: Float32, *, order: int = 1, width: int = 9) -> Float32:
    """Return the time derivative of frames: that of a polynomial of degree `order` through `width` frames.

    Equal to ``librosa.feature.delta`` with time in the last but one axis. The first and last half-window have the value
    next to them, as with librosa; a clip shorter than the window is continued with its first and last frame.

    Parameters
    ----------
    x : np.ndarray, float32, shape (..., frames, features)
    order : int
        1 or 2.
    width : int
        Odd, at least 3.
    """
    if order not in (1, 2) or width < 3 or width % 2 == 0:
        raise ConfigError(f"delta: order is {order} and width {width}; needed are 1 or 2, and an odd number from 3 on")
    half = width // 2
    frames = x.shape[-2]
    more = max(0, width - frames)
    edges = [(0, 0)] * (x.ndim - 2)
    x = np.pad(x, [*edges, (more // 2, more - more // 2), (0, 0)], mode="edge") if more else x
    at = np.arange(-half, half + 1)
    # least squares: the pseudo-inverse's row for the coefficient of t**order, whose derivative is order! times it
    weights = order * np.linalg.pinv(np.vander(at, order + 1, increasing=True))[order]
    count = x.shape[-2] - width + 1
    inner = sum(w * x[..., i : i + count, :] for i, w in enumerate(weights))
    whole = np.pad(np.asarray(inner), [*edges, (half, half), (0, 0)], mode="edge")
    return whole[..., more // 2 : more // 2 + frames, :].astype(np.float32)


def frame_features(mfcc: Float32) -> Float32:
    """Return MFCC, deltas and second deltas side by side: (..., frames, n) to (..., frames, 3 n)."""
    return np.concatenate([mfcc, delta(mfcc), delta(mfcc, order=2)], axis=-1)


def training_frames(
    pool: Pool, config: FrontEndConfig, classes: Sequence[str], *, per_class: int = 100_000, seed: int = 0
) -> tuple[Float32, Int]:
    """Return random frames of a pool, as many of each class, drawn from its collections as clips are.

    Parameters
    ----------
    pool : Pool
        MFCC without normalisation.
    config : FrontEndConfig
        With normalisation.

    Returns
    -------
    (frames (n, 3 * features), labels (n,))
    """
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(per_class * len(classes), source_weights(pool, classes))
    mean, scale = np.asarray(config.mean, np.float32), np.asarray(config.scale, np.float32)
    frames, labels = [], []
    for i in np.flatnonzero(counts):
        rows = frame_features((np.asarray(pool.piece(int(i)), np.float32) - mean) * scale)
        frames.append(rows[rng.integers(len(rows), size=counts[i])])
        labels.append(np.full(counts[i], classes.index(pool.recordings[int(pool.recording[i])].label)))
    return np.concatenate(frames), np.concatenate(labels)


@dataclass
class FrameClassifier:
    """A classifier of standardised frames, and of clips by majority.

    Attributes
    ----------
    name : str
    classes : int
    estimator : object
        With scikit-learn's ``fit(x, y)`` and ``predict(x)``.
    """

    name: str
    classes: int
    estimator: Any

    def fit(self, frames: Float32, labels: Int) -> FrameClassifier:
        """Learn from frames (n, inputs) and their labels (n,).

        Raises
        ------
        ConfigError
            If a label is none of the classes, or a class has no frame.
        """
        y, _ = validate(labels, labels, self.classes)
        if len(y) != len(frames):
            raise ConfigError(f"{self.name}: {len(frames)} frames have {len(y)} labels")
        if missing := sorted(set(range(self.classes)) - set(y.tolist())):
            raise ConfigError(f"{self.name}: class {missing[0]} has no frame")
        self.mean = frames.mean(axis=0, dtype=np.float64)
        self.scale = 1 / (frames.std(axis=0, dtype=np.float64) + 1e-6)
        self.estimator.fit(self._standardised(frames), y)
        return self

    def _standardised(self, frames: Float32) -> Float32:
        return ((frames - self.mean) * self.scale).astype(np.float32)

    def predict_frames(self, frames: Float32) -> Int:
        """Return the class of each frame, (n, inputs) to (n,)."""
        return np.asarray(self.estimator.predict(self._standardised(frames)), np.int64)

    def votes(self, frames: Float32) -> Float32:
        """Return 1 for the class of each frame and 0 for the others: (n, inputs) to (n, classes)."""
        eye = np.eye(self.classes, dtype=np.float32)
        return np.concatenate([eye[self.predict_frames(frames[i : i + 2**16])] for i in range(0, len(frames), 2**16)])

    def vote(self, clips: Float32) -> Float32:
        """Return the share of each class among a clip's frames: (clips, frames, inputs) to (clips, classes).

        The majority is its largest column, the first one where two are equal.
        """
        clips_count, frames, inputs = clips.shape
        votes = self.predict_frames(clips.reshape(-1, inputs)).reshape(clips_count, frames)
        return np.stack([(votes == c).mean(axis=1) for c in range(self.classes)], axis=1).astype(np.float32)


def gmm_parameters(inputs: int = 60, *, components: int = 256, classes: int = 3) -> int:
    """Return the number of weights, means and diagonal variances of one mixture a class.

    Examples
    --------
    >>> gmm_parameters()
    92928
    """
    return classes * components * (1 + 2 * inputs)


class Mixtures:
    """One Gaussian mixture a class; the class is that of the largest likelihood."""

    def __init__(self, components: int, iterations: int, seed: int) -> None:
        self._components, self._iterations, self._seed = components, iterations, seed

    def fit(self, x: Float32, y: Int) -> Mixtures:
        from sklearn.mixture import GaussianMixture

        self.models = []
        for label in np.unique(y):
            rows = x[y == label]
            if len(rows) < self._components:
                raise ConfigError(f"gmm: class {label} has {len(rows)} frames for {self._components} components")
            model = GaussianMixture(
                self._components, covariance_type="diag", reg_covar=1e-3, max_iter=self._iterations,
                init_params="k-means++", random_state=self._seed,
            )  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the number of iterations is the recipe's
                self.models.append(model.fit(rows))
        return self

    def predict(self, x: Float32) -> Int:
        return np.stack([model.score_samples(x) for model in self.models], axis=1).argmax(axis=1)


class Network:
    """The self-normalising network, trained until held-out frames do not improve for `patience` epochs."""

    def __init__(self, classes: int, epochs: int, patience: int, seed: int) -> None:
        self._classes, self._epochs, self._patience, self._seed = classes, epochs, patience, seed

    def fit(self, x: Float32, y: Int) -> Network:
        import keras

        from .models import build

        keras.utils.set_random_seed(self._seed)
        self.model = build("snn", inputs=x.shape[1], classes=self._classes)
        trainee = keras.Model(self.model.input, self.model.get_layer("pooled_logits").output)
        trainee.compile(
            keras.optimizers.Adam(1e-3), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        trainee.optimizer.build(trainee.trainable_variables)
        order = np.random.default_rng(self._seed).permutation(len(x))
        held_out, rest = np.split(order, [max(1, len(x) // 10)])
        stop = keras.callbacks.EarlyStopping(patience=self._patience, restore_best_weights=True)
        trainee.fit(
            x[rest], y[rest], validation_data=(x[held_out], y[held_out]), batch_size=1024, epochs=self._epochs,
            verbose=0, callbacks=[stop],
        )  # fmt: skip
        return self

    def predict(self, x: Float32) -> Int:
        parts = [np.asarray(self.model(x[i : i + 65536])).argmax(axis=1) for i in range(0, len(x), 65536)]
        return np.concatenate(parts)


def gmm(classes: int = 3, *, components: int = 256, iterations: int = 100, seed: int = 0) -> FrameClassifier:
    """Return one mixture of diagonal Gaussians a class: 92,928 parameters with 60 inputs."""
    return FrameClassifier("gmm", classes, Mixtures(components, iterations, seed))


def snn(classes: int = 3, *, epochs: int = 50, patience: int = 5, seed: int = 0) -> FrameClassifier:
    """Return the self-normalising network: 179,203 parameters with 60 inputs."""
    return FrameClassifier("snn", classes, Network(classes, epochs, patience, seed))


def random_forest(
    classes: int = 3, *, trees: int = 200, leaf: int = 5, jobs: int = 1, seed: int = 0
) -> FrameClassifier:
    """Return a random forest, with at least `leaf` frames in a leaf."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(trees, min_samples_leaf=leaf, n_jobs=jobs, random_state=seed)
    return FrameClassifier("random-forest", classes, forest)


def svm(
    classes: int = 3, *, kernel: str = "rbf", features: int = 500, c: float = 1.0, seed: int = 0
) -> FrameClassifier:
    """Return a support vector machine, one class against the rest.

    Parameters
    ----------
    kernel : {'linear', 'rbf'}
        RBF is approximated with Nystroem's method.
    features : int
        Frames that stand for all in the approximation.
    c : float
        Weight of the errors.

    Raises
    ------
    ConfigError
        For another kernel.
    """
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    if kernel not in ("linear", "rbf"):
        raise ConfigError(f"svm: kernel is {kernel!r}, must be linear or rbf")
    machine = LinearSVC(C=c, dual=False, random_state=seed)
    if kernel == "rbf":
        machine = make_pipeline(Nystroem(n_components=features, random_state=seed), machine)
    return FrameClassifier(f"svm-{kernel}", classes, machine)
