"""Quantise a finished training, compare it with Keras on validation, and refuse when it loses too much."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_bench.train.clips import ClipSet, evaluation_clips
from edge_bench.train.experiment import Prepared
from edge_bench.train.fit import predict as predict_keras
from edge_runtime import ConfigError, metrics
from edge_runtime.bundle import Bundle
from edge_runtime.cases import Case
from edge_runtime.classify import fitted, predict, quantise
from edge_runtime.crosscheck import crosscheck, to_dict
from edge_runtime.files import write_aside

from . import convert
from .data import Data, prepared
from .deploy import Deployed
from .layers import layer_noise, to_blame
from .quantiser import INT8
from .recipes import recipe_of
from .source import open_source

LAYER_CLIPS = 60
LARGE_CALIBRATION = 300  # clips for a network that takes numpy long
CASE_CLIPS = 8
KERNELS = ("default", "reference")  # what a user gets, and what it is measured by
Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes
    ----------
    recipe, ranges, optimise : str
        See `edge_bench.quantize.recipes` and `edge_bench.quantize.deploy`.
    max_drop : float
        Largest loss of class-average F1 in points, at any clip length.
    qat_epochs : int
        Epochs of quantisation-aware training; 0 for none.
    interpreters : bool
        Whether the bundle is run on every interpreter here.
    forms : bool
        Whether the costs of all forms are measured.
    """

    recipe: str = "static-int8"
    ranges: str | None = None
    optimise: str = "balanced"
    max_drop: float = 0.5
    qat_epochs: int = 0
    interpreters: bool = True
    forms: bool = False


def quantize(
    path: str | Path,
    corpus_root: Path,
    *,
    request: Request = Request(),
    extra: Sequence[Path] = (),
    out: Path | None = None,
    cache: Path | None = None,
    clip_s: tuple[float, ...] = convert.CLIP_S,
    progress: Progress | None = None,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Convert, compare with Keras on the validation split, and write the bundle if it is good enough.

    Parameters
    ----------
    path : str or Path
        Of a finished training's folder, or of a float32 bundle (`edge_bench.quantize.source`).
    extra : sequence of Path
        Folders of recordings beside the corpus; those of the training by default.
    out : Path, optional
        The bundle; in the training's folder by default.

    Returns
    -------
    dict
        ``edge-bench/quantize/1``; ``drop`` is in points of class-average F1 at the longest clip.

    Raises
    ------
    ConfigError
        For an unknown recipe or a folder without a finished training.
    """
    recipe = recipe_of(request.recipe, ranges=request.ranges)
    if request.qat_epochs and recipe.kind is not INT8:
        raise ConfigError(f"quantisation-aware training is for static-int8, not for {recipe.name}")
    if out is None and not Path(path).is_dir():
        raise ConfigError(f"{path} is no folder of a training: say with --out where the new bundle goes")
    source = open_source(path, extra=extra)
    model, experiment = source.model, source.experiment
    folder = source.folder or Path(str(out)).parent
    deployed = convert.deploy(model, optimise=request.optimise)
    data = prepared(source, corpus_root, cache=cache, progress=progress)
    at_most = None if deployed.has_dense else LARGE_CALIBRATION
    calibration = data.calibration(clip_s, deployed.frames, at_most=at_most) if recipe.kind else None
    history: tuple[dict[str, float], ...] = ()
    if request.qat_epochs:
        assert calibration is not None
        converted, history = _train(data, deployed, calibration, recipe, folder, request.qat_epochs, say, corpus_root,
                                    cache, progress)  # fmt: skip
    else:
        converted = convert.convert_deployed(deployed, recipe, calibration, progress=progress)
    target = out or folder / f"{experiment.model}-{recipe.precision}.tflite"
    training = {
        **source.training,
        **({"quantisation_aware": {"epochs": request.qat_epochs, "history": list(history)}} if history else {}),
    }
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as scratch:
        draft = convert.write_bundle(
            Path(scratch) / target.name, converted, deployed, recipe, name=target.stem, family=experiment.model,
            parameters=model.count_params(), front_end=experiment.front_end, classes=experiment.classes,
            training=training, calibration=calibration,
        )  # fmt: skip
        sets = {f"{s:g}": evaluation_clips(data.validation, experiment.front_end, experiment.classes, s)
                for s in clip_s}  # fmt: skip
        by_length = {key: _compare(model, draft, clips, experiment.classes) for key, clips in sets.items()}
        longest = sets[f"{max(clip_s):g}"]
        layers = []
        if recipe.kind is INT8:
            chosen = _spread(longest.x, LAYER_CLIPS)
            layers = layer_noise(converted.graph, converted.exact, fitted(chosen, deployed.frames))
        found = _everywhere(draft, sets, say) if request.interpreters else None
        good = all(r["drop"] <= request.max_drop for r in by_length.values())
        if good:
            with write_aside(target) as aside:
                aside.write_bytes(Path(draft.path).read_bytes())
    forms = []
    if request.forms:
        from .costs import compare_forms

        say("timing all forms in turn")
        forms = [cost.to_dict() for cost in compare_forms(model, recipe, calibration)]
    return {
        "schema": "edge-bench/quantize/1",
        "recipe": recipe.name,
        "ranges": recipe.ranges if recipe.kind else None,
        "form": f"{deployed.form}{', one scale a layer' if deployed.one_scale and recipe.kind else ''}",
        **by_length[f"{max(clip_s):g}"],
        "by_length": by_length,
        "bytes": draft.size,
        "model_bytes": len(draft.flatbuffer),
        "sha256": draft.sha256,
        "max_drop": request.max_drop,
        "written": good,
        "out": str(target),
        "layers": [layer.to_dict() for layer in layers],
        "to_blame": [layer.number for layer in to_blame(layers)],
        "interpreters": found,
        "forms": forms,
        "quantisation_aware": list(history),
    }


def _train(
    data: Data, deployed: Deployed, calibration: convert.Calibration, recipe: Any, folder: Path, epochs: int, say: Say,
    corpus_root: Path, cache: Path | None, progress: Progress | None,
) -> tuple[convert.Converted, tuple[dict[str, float], ...]]:  # fmt: skip
    from edge_bench.train.experiment import prepare

    from .qat import train

    say(f"quantisation-aware training, {epochs} epochs")
    ready: Prepared = prepare(data.experiment, corpus_root, extra=data.extra, cache=cache, progress=progress)
    trained = train(
        data.experiment, ready, deployed, calibration, recipe, folder / f"qat-{deployed.form.replace(' ', '-')}",
        epochs=epochs, say=say,
    )  # fmt: skip
    return trained.converted, trained.history


def _compare(model: keras.Model, draft: Bundle, clips: ClipSet, classes: Sequence[str]) -> dict[str, Any]:
    """Return the scores of both on one length of clip, the loss and its interval over recordings."""
    x = _as_keras(model, clips.x, draft)
    answers = [predict_keras(model, x).argmax(axis=1), predict(draft, clips.x).argmax(axis=1)]
    before, after = (metrics.evaluate(clips.labels, answer, classes).macro_f1 for answer in answers)
    return {
        "float_macro_f1": before,
        "int8_macro_f1": after,
        "drop": 100 * (before - after),
        "drop_interval": paired_interval(clips, answers[0], answers[1], len(classes)),
        "agreement": float((answers[0] == answers[1]).mean()),
    }


def _as_keras(model: keras.Model, x: NDArray[np.float32], draft: Bundle) -> NDArray[np.float32]:
    if len(model.input_shape) == 4:  # an image of bands, for one length of clip
        return fitted(x, int(model.input_shape[2])).transpose(0, 2, 1)[..., None]
    if draft.info.get("frames", {}).get("step", 0) > 1:  # whole windows: Keras drops what fills none, a bundle pads
        return fitted(x, draft.padded_frames(x.shape[1]))
    return x


def paired_interval(
    clips: ClipSet, before: NDArray[np.int64], after: NDArray[np.int64], classes: int, *, samples: int = 1000
) -> tuple[float, float]:
    """Return the 95 % interval of the loss of class-average F1 in points, bootstrap over recordings.

    Both answers are resampled alike: recordings that are hard for both do not widen it.
    """
    drawn = [
        metrics.f1_scores(metrics.bootstrap_confusions(clips.labels, answer, clips.groups, classes, samples=samples))
        for answer in (before, after)
    ]
    low, high = metrics.interval(100 * (drawn[0].mean(axis=1) - drawn[1].mean(axis=1)))
    return low, high


def _spread(x: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return at most `count` clips, evenly taken."""
    return x[np.unique(np.linspace(0, len(x) - 1, count).astype(int))]


def _everywhere(draft: Bundle, sets: dict[str, ClipSet], say: Say) -> dict[str, Any]:
    """Run validation clips on every interpreter, each in a process of its own."""
    form, form_number = draft.info["forms"]["clip"]["input"], draft.info["forms"]["clip"]["subgraph"]
    cases = []
    for key, clips in sets.items():
        frames = draft.padded_frames(clips.x.shape[1])
        x = fitted(_spread(clips.x, CASE_CLIPS), frames)[:, None, None]
        scale, zero = form.get("scale", 0.0), form.get("zero_point", 0)
        cases.append(Case(f"clip {key} s", form_number, quantise(x, scale, zero, np.dtype(form["dtype"]))))
    return to_dict(crosscheck(draft.flatbuffer, cases, kernels=KERNELS, say=say))
