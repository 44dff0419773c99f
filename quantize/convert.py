"""A trained network to a bundle in the numbers of a recipe, proven on the spot.

The calibration set is a fixed, seeded list of training clips, named in the bundle's provenance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import edge_runtime
from edge_bench.train.models.swishnet import RECEPTIVE_FIELD, STRIDE
from edge_runtime import ConfigError, FrontEndConfig, bundle, tflite
from edge_runtime.classify import fitted, make_golden
from edge_runtime.files import write_aside

from .deploy import DENSE_BLOCK, Deployed, general, is_swishnet, swishnet
from .forms import one_form, two_forms
from .quantiser import Range, quantise_graph
from .ranges import measure
from .recipes import Recipe, recipe_of

Float32 = NDArray[np.float32]

INPUT_LIMIT = 5.0  # standard deviations; a wider int8 range would spend its steps on rare outliers
CLIP_S = (0.5, 1.0, 2.0)
LONGEST = 198  # frames of 2 s at a hop of 10 ms


@dataclass(frozen=True)
class Calibration:
    """The clips that set the ranges of the activations.

    Attributes
    ----------
    clips : np.ndarray, float32, shape (clips, frames, features)
        Normalised and padded.
    names : tuple of str
        Which recordings they come from.
    drawn : dict
        What re-creates the list: seed, clip lengths, split and copy.
    """

    clips: Float32
    names: tuple[str, ...]
    drawn: Mapping[str, Any] = field(default_factory=dict)

    def provenance(self) -> dict[str, Any]:
        """Return what the bundle says of it; the checksum is that of all features in their order."""
        return {
            "clips": len(self.clips),
            "sha256": hashlib.sha256(self.clips.tobytes()).hexdigest(),
            **self.drawn,
            "recordings": sorted(set(self.names)),
        }


@dataclass(frozen=True)
class Converted:
    """A flatbuffer and what it was made from.

    Attributes
    ----------
    flatbuffer : bytes
        With the signature ``clip`` and, if there is one, ``dense``.
    exact : bytes
        The float graph that was quantised: the same operators in the same order as ``clip``.
    graph : bytes
        The same graph in the recipe's numbers, before it was packed.
    """

    flatbuffer: bytes
    exact: bytes
    graph: bytes


def deploy(model: keras.Model, *, optimise: str = "balanced", frames: int = LONGEST) -> Deployed:
    """Return the float form of any network of the zoo that takes clips.

    Raises
    ------
    ConfigError
        If the network takes no clips, or the aim is unknown.
    """
    if is_swishnet(model) and optimise != "plain":
        return swishnet(model, optimise=optimise)
    return general(model, frames=frames)


def convert(
    model: keras.Model,
    *,
    precision: str,
    calibration: Calibration | None = None,
    optimise: str = "balanced",
) -> bytes:
    """Return the flatbuffer of a network; see `convert_deployed`.

    Parameters
    ----------
    precision : str
        Name of a recipe, such as ``float32`` or ``int8``.
    """
    return convert_deployed(deploy(model, optimise=optimise), recipe_of(precision), calibration).flatbuffer


def convert_deployed(
    deployed: Deployed,
    recipe: Recipe,
    calibration: Calibration | None = None,
    *,
    exact: bytes | None = None,
    ranges: Mapping[int, Range] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Converted:
    """Return a network in the numbers of a recipe.

    Parameters
    ----------
    calibration : Calibration
        Needed for static recipes, unless their ranges are given.
    exact : bytes
        The float graph, if its weights were trained since (`edge_bench.quantize.qat`).
    ranges : mapping
        By tensor number of `exact`, if they were trained.

    Raises
    ------
    ConfigError
        For a static recipe without calibration.
    """
    exact = deployed.convert(None) if exact is None else exact
    if recipe.kind is not None:
        if ranges is None:
            if calibration is None or not len(calibration.clips):
                raise ConfigError(f"{recipe.name} needs calibration clips")
            clips = fitted(calibration.clips, deployed.frames)
            ranges = measure(exact, clips, method=recipe.ranges, kind=recipe.kind, input_limit=INPUT_LIMIT,
                             progress=progress)  # fmt: skip
        graph = quantise_graph(exact, ranges, kind=recipe.kind, one_scale=deployed.one_scale)
    elif recipe.name == "float32":
        graph = exact
    else:
        graph = deployed.convert(_setup(recipe))
    if deployed.has_dense:
        packed = two_forms(graph, block_frames=DENSE_BLOCK, receptive_field=deployed.receptive_field)
    else:
        packed = one_form(graph)
    return Converted(packed, exact, graph)


def _setup(recipe: Recipe) -> Callable[[Any], None]:
    def setup(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if recipe.name == "float16":
            converter.target_spec.supported_types = [tf.float16]

    return setup


def export(
    path: Path,
    model: keras.Model,
    *,
    name: str,
    family: str,
    precision: str,
    front_end: FrontEndConfig,
    classes: Sequence[str],
    training: Mapping[str, Any],
    calibration: Calibration | None = None,
    optimise: str = "balanced",
    licence: str = "Apache-2.0",
    seed: int = 0,
) -> bundle.Bundle:
    """Convert, write and verify a bundle; see `convert` and `write_bundle`."""
    deployed, recipe = deploy(model, optimise=optimise), recipe_of(precision)
    converted = convert_deployed(deployed, recipe, calibration)
    return write_bundle(
        path, converted, deployed, recipe, name=name, family=family, parameters=model.count_params(),
        front_end=front_end, classes=classes, training=training, calibration=calibration, licence=licence, seed=seed,
    )  # fmt: skip


def write_bundle(
    path: Path,
    converted: Converted,
    deployed: Deployed,
    recipe: Recipe,
    *,
    name: str,
    family: str,
    parameters: int,
    front_end: FrontEndConfig,
    classes: Sequence[str],
    training: Mapping[str, Any],
    calibration: Calibration | None = None,
    licence: str = "Apache-2.0",
    seed: int = 0,
) -> bundle.Bundle:
    """Write and verify a bundle, golden vectors included.

    The golden waveforms are made (a voice-like pulse train and noise), so that the bundle carries nobody's recording.
    """
    flatbuffer = converted.flatbuffer
    info: dict[str, Any] = {
        "name": name,
        "family": family,
        "precision": recipe.precision,
        "recipe": {"name": recipe.name, "ranges": recipe.ranges if recipe.kind else None, "form": deployed.form},
        "classes": list(classes),
        "front_end": front_end.to_dict(),
        "forms": bundle.describe(tflite.read(flatbuffer)),
        "clip_frames": [front_end.frames(round(s * front_end.sample_rate)) for s in CLIP_S]
        if deployed.clip is None or deployed.clip["step"] else [deployed.frames],
        "receptive_field": deployed.receptive_field,
        "stride": deployed.stride,
        "hop_s": front_end.hop_s,
        "parameters": parameters,
        "training": dict(training),
        "calibration": calibration.provenance() if calibration and recipe.kind else None,
        "licence": licence,
        "made_by": f"edge-bench {edge_runtime.__version__}, tensorflow {tf.__version__}, keras {keras.__version__}",
    }
    if deployed.has_dense:
        info["dense"] = {"block_frames": DENSE_BLOCK, "left_context": deployed.receptive_field - 1}
    if deployed.clip is not None:
        info["frames"] = deployed.clip
    with write_aside(path) as aside:
        draft = bundle.write(aside, flatbuffer, info)
        golden = tuple(
            make_golden(draft, waveform, clip_frames=tuple(info["clip_frames"]))
            for waveform in golden_waveforms(front_end.sample_rate, seed=seed)
        )
        bundle.write(aside, flatbuffer, info, golden)
    return bundle.read(path)


def golden_waveforms(sample_rate: int, *, seed: int = 0) -> list[NDArray[np.int16]]:
    """Return two half-second waveforms: a gliding pulse train with formant-like peaks, and falling noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(sample_rate // 2) / sample_rate
    phase = 2 * np.pi * np.cumsum(110 + 40 * np.sin(2 * np.pi * 3 * t)) / sample_rate
    voice = sum(
        np.exp(-(((h * 120 - formant) / 250) ** 2)) * np.sin(h * phase)
        for h in range(1, 40)
        for formant in (500, 1500, 2500)
    )
    noise = np.cumsum(rng.standard_normal(len(t)))
    noise -= np.convolve(noise, np.ones(200) / 200, mode="same")
    return [np.round(w / np.abs(w).max() * 12000).astype(np.int16) for w in (voice, noise)]


def sample_clips(
    sets: Sequence[tuple[Float32, Sequence[str]]],
    count: int,
    *,
    seed: int = 0,
    frames: int = RECEPTIVE_FIELD + 2 * STRIDE,
    drawn: Mapping[str, Any] | None = None,
) -> Calibration:
    """Return `count` clips, the same number of each set, shuffled.

    Parameters
    ----------
    sets : sequence of (clips, names)
        Clips of one length, (n, frames, features), and the recording of each. A short clip stands behind more padding
        than a long one, so ranges that serve all lengths need all lengths.
    frames : int
        Length of all clips behind their padding.
    drawn : mapping
        For the provenance: where the sets come from.
    """
    rng = np.random.default_rng(seed)
    clips, names = [], []
    for x, recordings in sets:
        chosen = rng.permutation(len(x))[: max(1, count // len(sets))]
        clips.append(fitted(x[chosen], frames))
        names += [recordings[i] for i in chosen]
    order = rng.permutation(len(names))
    return Calibration(
        np.concatenate(clips)[order], tuple(names[i] for i in order), {**(drawn or {}), "seed": seed, "count": count}
    )
