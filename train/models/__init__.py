"""The model zoo: a name for each network, its typed configuration and how to build it.

A model's module has a frozen dataclass and ``build(config) -> keras.Model``. It is imported when the model is built,
not when the names are listed. In every network the layer ``pooled_logits``, (batch, classes), is what the softmax
layer ``probabilities`` sees: `edge_bench.train.fit` trains on the former.

YAMNet (`edge_bench.train.models.yamnet`) is a ready-made teacher and no Keras model, so it is not listed here.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime import ConfigError

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class ModelEntry:
    """A line of the zoo.

    Attributes
    ----------
    name, family, source : str
    parameters : int
        Trainable parameters with the default options.
    input, output : str
        In words.
    module, config : str
        Where it is built, and the name of its dataclass there.
    options : mapping
        What sets it apart from the dataclass' defaults.
    """

    name: str
    family: str
    source: str
    parameters: int
    input: str
    output: str
    module: str
    config: str
    options: Mapping[str, Any] = field(default_factory=dict)


_SWISHNET = ("Hussain & Haque 2018, arXiv 1812.00149", "swishnet", "SwishNetConfig")
_ALLCONV = ("Bhatia & Thakur, ISMIR extended abstract (000)", "allconv", "AllConvConfig")
_MUSICNOISE = ("Park & Lee 2015, ISMIR late-breaking (001)", "musicnoise", "MusicNoiseConfig")
_POOLNET = ("Brandinu & Bratschi, CAS Applied Data Science Bern (002)", "poolnet", "PoolNetConfig")
_MOBILENET = ("Hussain & Haque 2018; Howard et al. 2017, arXiv 1704.04861", "mobilenet", "MobileNetConfig")
_SNN = ("Hussain & Haque 2018; Klambauer et al. 2017, arXiv 1706.02515", "snn", "SnnConfig")
_GENRE = ("Choi et al. 2015, as told in 003, section III", "genre", "GenreConfig")
_SEPARABLE = ("Mersy & Kuan 2021, AAAI student abstract (004)", "separable", "SeparableConfig")


def _entry(
    name: str, where: tuple[str, str, str], parameters: int, takes: str, gives: str, **options: Any
) -> ModelEntry:
    source, module, config = where
    return ModelEntry(name, module, source, parameters, takes, gives, module, config, options)


ZOO = {
    entry.name: entry
    for entry in (
        _entry("swishnet-slim", _SWISHNET, 5_483, "20 MFCC", "3 classes", width=1),
        _entry("swishnet-wide", _SWISHNET, 18_267, "20 MFCC", "3 classes", width=2),
        _entry("mobilenet", _MOBILENET, 217_235, "64 log-mel bands", "3 classes"),
        _entry("snn", _SNN, 179_203, "frame of 20 MFCC and two deltas", "3 classes"),
        _entry("allconv", _ALLCONV, 54_046, "samples at 44.1 kHz", "2 classes"),
        _entry("allconv-mel", _ALLCONV, 54_046, "40 log-mel bands", "2 classes", input="mel"),
        _entry("musicnoise", _MUSICNOISE, 38_338, "64 x 256 of a spectrogram", "2 classes"),
        _entry("poolnet", _POOLNET, 2_271_330, "128 x 32 DFT slice", "2 classes", kind="pooling"),
        _entry("poolnet-conv", _POOLNET, 8_777_986, "128 x 32 DFT slice", "2 classes", kind="conv"),
        _entry("genre", _GENRE, 804_739, "257 x 173 spectrogram", "3 classes"),
        _entry("separable", _SEPARABLE, 43_841, "128 x 458 mel spectrograms", "6 classes", kind="depthwise"),
        _entry("separable-plain", _SEPARABLE, 48_150, "128 x 458 mel spectrograms", "6 classes", kind="plain"),
    )
}


def _module(entry: ModelEntry) -> Any:
    return importlib.import_module(f".{entry.module}", __name__)


def check_name(name: str) -> None:
    """Make sure that the zoo has a network.

    Raises
    ------
    ConfigError
        If it has none of this name.
    """
    if name not in ZOO:
        raise ConfigError(f"model {name!r} is unknown; the zoo has {', '.join(sorted(ZOO))}")


def configure(name: str, **options: Any) -> Any:
    """Return the configuration of a network of the zoo: the dataclass that its module's ``build`` takes.

    Raises
    ------
    ConfigError
        If the name or an option is unknown, or a value makes no sense.
    """
    from ..experiment import build as from_values

    check_name(name)
    entry = ZOO[name]
    return from_values(getattr(_module(entry), entry.config), {**entry.options, **options}, f"model {name}")


def build(name: str, **options: Any) -> keras.Model:
    """Return a new network of the zoo.

    Raises
    ------
    ConfigError
        If the name or an option is unknown, or a value makes no sense.
    """
    config = configure(name, **options)
    return _module(ZOO[name]).build(config)


def trainee(model: keras.Model) -> keras.Model:
    """Return the network that is trained, input to ``pooled_logits``; it shares all weights with `model`."""
    import keras

    module = importlib.import_module(".swishnet", __name__)
    if model.name in ("swishnet_slim", "swishnet_wide"):
        trained: keras.Model = module.trainee(model)
        return trained
    return keras.Model(model.input, model.get_layer("pooled_logits").output, name=model.name)


def load(path: str | Path) -> keras.Model:
    """Read a ``.keras`` file of any network of the zoo, in safe mode.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    import keras

    for entry in ZOO.values():
        _module(entry)  # registers the layers that the file may name
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: cannot be read as a .keras model: {str(error).splitlines()[0]}") from None


def trainable_parameters(model: keras.Model) -> int:
    """Return the number of weights that training moves: without the statistics of a normalisation."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)
