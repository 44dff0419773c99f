"""An experiment: one TOML file in, a trained network with its curves, metrics and bundles out.

The file names the model, the front end, the augmentation and the training; every key has a default, and an unknown
key is an error. What comes out lies in one folder: ``model.keras``, ``history.json``, ``curves.png``,
``metrics.json``, ``experiment.json`` (all that is needed to do it again) and the checkpoints.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edge_runtime import ConfigError, FrontEndConfig

from .augment import Augmentation
from .inputs import Cuts

if TYPE_CHECKING:
    from .batches import TeacherTracks
    from .corpus import Corpus
    from .features import Pool
    from .finetune import Start
    from .fit import Watch
    from .fit_config import FitConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Experiment:
    """The parsed file.

    Attributes
    ----------
    model : str
        A name of the zoo.
    options : dict
        The model's own options, such as dropout.
    classes : tuple of str
    leave_out : tuple of str
        Classes of the corpus that this network does not know, and whose recordings it neither learns nor is judged by.
    examples : Cuts
        For the networks of `edge_bench.train.systems`: where in a recording they look.
    copies : int
        Augmented copies of each training recording.
    validation_copies : int
        Augmented copies of each validation recording; they count in the choice of the best epoch.
    seed : int
        Of the first weights and of the order of the clips.
    pool_seed : int
        Of the augmented copies; the same for several seeds, or each would compute a pool of its own.
    calibration_clips : int
        Clips that set the int8 ranges.
    teachers : tuple of str
        Whom to distil from, such as ``yamnet``; several are averaged.
    train_share : float
        Part of each class' training groups that is used.
    freeze : tuple of str
        When fine-tuning: layers whose name begins so keep their weights.
    fit : dict
        Keys of `edge_bench.train.fit.FitConfig`.
    """

    model: str = "swishnet-slim"
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ("speech", "music", "noise")
    leave_out: tuple[str, ...] = ()
    examples: Cuts = field(default_factory=Cuts)
    copies: int = 8
    validation_copies: int = 2
    seed: int = 0
    pool_seed: int = 0
    calibration_clips: int = 1500
    teachers: tuple[str, ...] = ()
    train_share: float = 1.0
    freeze: tuple[str, ...] = ()
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    fit: Mapping[str, Any] = field(default_factory=dict)


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Return a dataclass from plain values; lists become tuples, tables nested dataclasses.

    Raises
    ------
    ConfigError
        For an unknown key or a value of the wrong kind, with the place in the file.
    """
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}; known are {', '.join(sorted(known))}")
    defaults = kind()
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        current = getattr(defaults, key)
        if isinstance(current, FrontEndConfig):
            arguments[key] = FrontEndConfig.from_dict(value)
        elif is_dataclass(current) and isinstance(value, Mapping):
            arguments[key] = build(type(current), value, f"{where} [{key}]")
        elif isinstance(current, tuple) and isinstance(value, list):
            arguments[key] = tuple(value)
        elif isinstance(current, bool) != isinstance(value, bool) or (
            isinstance(current, (int, float, str)) and not isinstance(value, (type(current), int))
        ):
            raise ConfigError(f"{where}: {key} is {value!r}, expected {type(current).__name__}")
        else:
            arguments[key] = value
    return kind(**arguments)


def read_toml(file: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises
    ------
    ConfigError
        If it does not exist or is not TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as TOML: {error}") from None


def read_values(path: str | Path) -> dict[str, Any]:
    """Return what an experiment's file says, or a recipe of the package by its name (``swishnet-slim``).

    Raises
    ------
    ConfigError
        If there is none, or it is not TOML.
    """
    file = Path(path)
    if not file.is_file() and len(file.parts) == 1:
        file = RECIPES / f"{file.name.removesuffix('.toml')}.toml"
    if not file.exists():
        recipes = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise ConfigError(f"{path}: no such file or recipe; recipes are {recipes}")
    return read_toml(file)


def with_rate(experiment: Experiment, *, rate: float | None = None, epochs: int | None = None) -> Experiment:
    """Return the experiment with another learning rate or length; a single cosine stays a single cosine."""
    fit = dict(experiment.fit)
    if rate is not None:
        fit["learning_rate"] = rate
        fit["final_rate"] = min(fit.get("final_rate", 1e-5), rate)
    if epochs is not None:
        if fit.get("first_cycle", 0) >= fit.get("epochs", 1):
            fit["first_cycle"] = epochs
        fit["epochs"] = epochs
    return replace(experiment, fit=fit)


def load(path: str | Path) -> Experiment:
    """Read an experiment's file, or a recipe of the package by its name.

    Raises
    ------
    ConfigError
        If it does not exist, is not TOML, or holds an unknown key.
    """
    return build(Experiment, read_values(path), str(path))


def how_to_train(experiment: Experiment) -> FitConfig:
    """Return how to train, after the model's name and ``[fit]`` were judged; this needs no Keras.

    Raises
    ------
    ConfigError
        For an unknown model, or a key or a value in ``[fit]`` that makes no sense.
    """
    from . import models, systems
    from .fit_config import FitConfig

    if experiment.model in systems.BASELINES:
        build(systems.BaselineFit, {"seed": experiment.seed, **experiment.fit}, "[fit]")
        return FitConfig(seed=experiment.seed)  # it has no epochs
    models.check_name(experiment.model)
    return build(FitConfig, {"seed": experiment.seed, **experiment.fit}, "[fit]")


def settle(experiment: Experiment) -> FitConfig:
    """Return how to train, after everything was judged that can be without a corpus.

    Raises
    ------
    ConfigError
        For an unknown model, or a key or a value in its options or in ``[fit]`` that makes no sense.
    """
    from . import models, systems

    how = how_to_train(experiment)
    if experiment.model in systems.BASELINES:
        systems.check_baseline(experiment)
    else:
        models.configure(experiment.model, **experiment.options)
    return how


@dataclass(frozen=True)
class Prepared:
    """What a training needs and a cache keeps: features without normalisation, and how to normalise them."""

    data: Corpus
    pool: Pool
    validation: Pool
    front_end: FrontEndConfig
    teacher: TeacherTracks | None


def prepare(
    experiment: Experiment,
    corpus_root: Path,
    *,
    extra: Sequence[Path] = (),
    cache: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Prepared:
    """Read the corpus and compute the features and the teachers' answers, or find them in the cache."""
    from . import features, systems

    if systems.is_system(experiment.model):
        return systems.prepare(experiment, corpus_root, extra=extra, cache=cache, progress=progress)

    data = load_corpus(experiment, corpus_root, extra)
    common: dict[str, Any] = {
        "augmentation": experiment.augmentation, "seed": experiment.pool_seed, "cache": cache, "progress": progress,
    }  # fmt: skip
    plain = experiment.front_end.normalised((), ())  # batches are normalised when they are cut
    pool = features.features(data, "train", plain, copies=experiment.copies, **common)
    # always the default changes, so that the scores of two experiments with other ones compare
    validation = features.features(
        data, "validation", plain, copies=experiment.validation_copies, cache=cache, progress=progress
    )
    config = experiment.front_end
    if not config.mean:
        config = config.normalised(*features.normalisation(pool))
    teacher = None
    if experiment.teachers:
        from .teachers import tracks

        teacher = tracks(
            experiment.teachers, data, config, experiment.classes, pool, copies=experiment.copies, **common
        )
    return Prepared(data, pool, validation, config, teacher)


def run(
    experiment: Experiment,
    corpus_root: Path,
    folder: Path,
    *,
    extra: Sequence[Path] = (),
    start: Start | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = print,
    progress: Callable[[str, int, int], None] | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Train, write everything into `folder`, and return the metrics on the validation split.

    A folder with an unfinished training of the same experiment is continued.

    Parameters
    ----------
    start : Start, optional
        Fine-tune this network, under its front end, in place of a new one; see `edge_bench.train.finetune`.
    watch : callable, optional
        Gets the history after each validation and may end the training.
    """
    from . import models, report, systems
    from .clips import evaluation_clips
    from .fit import Fitted, fit, predict, validation_sets

    if systems.is_system(experiment.model):
        if start is not None or experiment.freeze:
            raise ConfigError(f"{experiment.model}: cannot be fine-tuned yet; take freeze and --from out")
        return systems.run(
            experiment, corpus_root, folder, extra=extra, cache=cache, say=say, progress=progress, watch=watch
        )
    if start is not None:
        experiment = start.adapt(experiment)
    elif experiment.freeze:
        raise ConfigError("freeze keeps weights that a network starts from: give it one with --from")
    how = settle(experiment)
    ready = prepare(experiment, corpus_root, extra=extra, cache=cache, progress=progress)
    data, pool, validation, config = ready.data, ready.pool, ready.validation, ready.front_end
    import keras

    keras.utils.set_random_seed(how.seed)
    origin, claim = None, None
    if start is None:
        model = models.build(
            experiment.model, inputs=config.features, classes=len(experiment.classes), **experiment.options
        )
        if experiment.model == "mobilenet":
            from .models import mobilenet

            seen = evaluation_clips(pool.only(copy=int(pool.copy.max())), config, experiment.classes, 1.0, hop=16.0)
            mobilenet.settle(model, seen.x[:: 1 + len(seen.x) // 500])
    else:
        model = start.network(experiment.classes, experiment.freeze, **experiment.options)
        origin = start.describe(evaluation_clips(validation.only(copy=0), config, experiment.classes, 1.0), say)
        claim = {"sha256": origin["sha256"], "freeze": list(experiment.freeze)}
    say(
        f"{experiment.model}: {model.count_params():,} parameters; {len(pool.starts)} training pieces, "
        f"{len(pool.data) * config.hop_s / 3600:.1f} h with their augmented copies"
    )
    fitted: Fitted = fit(
        model, pool, validation, config, experiment.classes, how, folder, teacher=ready.teacher, start=claim,
        say=say, watch=watch,
    )  # fmt: skip
    for layer in model.layers:
        layer.trainable = True  # who goes on from here decides anew what is frozen
    model.save(folder / "model.keras")
    best = max(fitted.history, key=lambda row: row["score"])
    sets = validation_sets(validation, config, experiment.classes, how.clip_s)
    metrics = {
        "schema": "edge-bench/train/1",
        "model": experiment.model,
        "parameters": model.count_params(),
        "best": best,
        "seconds": round(sum(row["seconds"] for row in fitted.history), 1),
        "validation": {
            name: report.scores(clips, predict(model, clips.x), experiment.classes, samples=200)
            for name, clips in sets.items()
        },
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    write_description(folder, replace(experiment, front_end=config), asdict(how), data, extra, origin)
    report.draw_curves(fitted.history, folder / "curves.png")
    return metrics


def load_corpus(experiment: Experiment, root: Path, extra: Sequence[Path] = ()) -> Corpus:
    """Return the recordings that an experiment trains on and is validated with."""
    from . import corpus

    data = corpus.load(root, classes=experiment.classes, extra=extra, leave_out=experiment.leave_out)
    return data.thinned(experiment.train_share)


def write_description(
    folder: Path,
    experiment: Experiment,
    fit: Mapping[str, Any],
    data: Corpus,
    extra: Sequence[Path],
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write ``experiment.json``: all that is needed to do a training again, and what `read_folder` reads.

    `origin` says what a fine-tuned network started from.
    """
    import keras

    from .corpus import attribution

    description = {
        "schema": "edge-bench/experiment/1",
        "experiment": {**asdict(experiment), "front_end": experiment.front_end.to_dict()},
        "fit": dict(fit),
        "corpus": {
            "revision": data.revision(),
            "extra": [str(path) for path in extra],
            "attribution": attribution(data.recordings),
        },
        "start": origin,
        "keras": keras.__version__,
        "framework": framework(),
    }
    (folder / "experiment.json").write_text(json.dumps(description, indent=1))


def framework() -> str:
    """Return the framework that Keras runs on here, with its version, and its GPU if it has one."""
    import importlib

    import keras

    name = keras.backend.backend()
    module: Any = importlib.import_module(name)
    gpu = ""
    if name == "jax" and module.default_backend() == "gpu":
        gpu = f" on {module.devices()[0].device_kind}"
    elif name == "tensorflow" and (found := module.config.list_physical_devices("GPU")):
        gpu = f" on {module.config.experimental.get_device_details(found[0]).get('device_name', 'a GPU')}"
    return f"{name} {module.__version__}{gpu}"


def read_folder(folder: Path) -> tuple[Experiment, dict[str, Any]]:
    """Return the experiment (front end with its normalisation) and the whole description of a finished training.

    Raises
    ------
    ConfigError
        If the folder holds none.
    """
    try:
        description: dict[str, Any] = json.loads((folder / "experiment.json").read_text())
        return build(Experiment, description["experiment"], str(folder / "experiment.json")), description
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{folder}: holds no finished training (experiment.json): run edge-bench train first ({error})"
        ) from None
