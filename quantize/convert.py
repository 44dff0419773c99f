"""A trained SwishNet to bundles: float32 and full-integer int8, each proven on the spot.

The calibration set is a fixed, seeded list of training clips, named in the bundle's provenance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import edge_runtime
from edge_bench.train.models.swishnet import RECEPTIVE_FIELD, STRIDE
from edge_runtime import ConfigError, FrontEndConfig, bundle, tflite
from edge_runtime.classify import make_golden, padded

from .bias import correct_biases
from .forms import two_forms
from .fuse import fuse
from .graph import clip_function
from .ranges import correct_ranges

Float32 = NDArray[np.float32]

DENSE_BLOCK = 512
INPUT_LIMIT = 5.0  # standard deviations; a wider int8 range would spend its steps on rare outliers
CLIP_FRAMES = (48, 98, 198)
PRECISIONS = ("float32", "int8")


@dataclass(frozen=True)
class Calibration:
    """The clips that set the ranges of the activations.

    Attributes
    ----------
    clips : np.ndarray, float32, shape (clips, 204, features)
        Normalised and padded.
    names : tuple of str
        Which recordings they come from.
    """

    clips: Float32
    names: tuple[str, ...]

    def provenance(self) -> dict[str, Any]:
        """Return what the bundle says of it."""
        return {
            "clips": len(self.clips),
            "sha256": hashlib.sha256(self.clips.tobytes()).hexdigest(),
            "recordings": sorted(set(self.names)),
        }


def convert(model: keras.Model, *, precision: str, calibration: Calibration | None = None) -> bytes:
    """Return a flatbuffer with the signatures ``clip`` and ``dense``.

    Parameters
    ----------
    model : keras.Model
        A SwishNet.
    precision : {'float32', 'int8'}
    calibration : Calibration
        Needed for int8.

    Raises
    ------
    ConfigError
        For an unknown precision, a model of another family, or int8 without calibration.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r} is unknown, must be one of {', '.join(PRECISIONS)}")
    frames = RECEPTIVE_FIELD + 2 * STRIDE
    # weights are constants of the function; the second argument only keeps its owner alive
    function, owner = clip_function(fuse(model), frames), tf.Module()
    exact = tf.lite.TFLiteConverter.from_concrete_functions([function], owner).convert()
    if precision == "float32":
        return two_forms(exact, block_frames=DENSE_BLOCK, receptive_field=RECEPTIVE_FIELD)
    if calibration is None or not len(calibration.clips):
        raise ConfigError("int8 needs calibration clips")
    clips = np.clip(padded(calibration.clips, frames), -INPUT_LIMIT, INPUT_LIMIT)

    def samples() -> Iterator[list[Float32]]:
        for clip in clips:
            yield [clip[None, None]]

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], owner)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    quantised = correct_ranges(converter.convert())
    quantised = correct_biases(quantised, exact, clips)
    return two_forms(quantised, block_frames=DENSE_BLOCK, receptive_field=RECEPTIVE_FIELD)


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
    licence: str = "Apache-2.0",
    seed: int = 0,
) -> bundle.Bundle:
    """Convert, write and verify a bundle, golden vectors included.

    The golden waveforms are made (a voice-like pulse train and noise), so that the bundle carries nobody's recording.
    """
    flatbuffer = convert(model, precision=precision, calibration=calibration)
    info: dict[str, Any] = {
        "name": name,
        "family": family,
        "precision": precision,
        "classes": list(classes),
        "front_end": front_end.to_dict(),
        "forms": bundle.describe(tflite.read(flatbuffer)),
        "clip_frames": list(CLIP_FRAMES),
        "dense": {"block_frames": DENSE_BLOCK, "left_context": RECEPTIVE_FIELD - 1},
        "receptive_field": RECEPTIVE_FIELD,
        "stride": STRIDE,
        "hop_s": front_end.hop_s,
        "parameters": model.count_params(),
        "training": dict(training),
        "calibration": calibration.provenance() if calibration and precision == "int8" else None,
        "licence": licence,
        "made_by": f"edge-bench {edge_runtime.__version__}, tensorflow {tf.__version__}, keras {keras.__version__}",
    }
    with bundle.write_aside(path) as aside:
        draft = bundle.write(aside, flatbuffer, info)
        golden = tuple(
            make_golden(draft, waveform, clip_frames=CLIP_FRAMES)
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
    sets: Sequence[tuple[Float32, Sequence[str]]], count: int, *, seed: int = 0
) -> Calibration:
    """Return `count` clips, the same number of each set, shuffled.

    Parameters
    ----------
    sets : sequence of (clips, names)
        Clips of one length, (n, frames, features), and the recording of each. A short clip stands behind more padding
        than a long one, so ranges and biases that serve all lengths need all lengths.
    """
    rng = np.random.default_rng(seed)
    clips, names = [], []
    for x, recordings in sets:
        chosen = rng.permutation(len(x))[: max(1, count // len(sets))]
        clips.append(padded(x[chosen], RECEPTIVE_FIELD + 2 * STRIDE))
        names += [recordings[i] for i in chosen]
    order = rng.permutation(len(names))
    return Calibration(np.concatenate(clips)[order], tuple(names[i] for i in order))
