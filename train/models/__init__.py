"""The model zoo: a name for each network, its configuration and how to build it.

Keras is imported when a model is built, not when the names are listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_runtime import ConfigError

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class ModelEntry:
    """A line of the zoo."""

    name: str
    family: str
    source: str
    parameters: int
    input: str
    output: str
    options: dict[str, Any]


SWISHNET = "Hussain & Haque 2018, arXiv 1812.00149"

ZOO = {
    entry.name: entry
    for entry in (
        ModelEntry("swishnet-slim", "swishnet", SWISHNET, 5483, "20 MFCC", "3 classes", {"width": 1}),
        ModelEntry("swishnet-wide", "swishnet", SWISHNET, 18267, "20 MFCC", "3 classes", {"width": 2}),
    )
}


def build(name: str, **options: Any) -> keras.Model:
    """Return a new network of the zoo.

    Raises
    ------
    ConfigError
        If the name or an option is unknown.
    """
    if name not in ZOO:
        raise ConfigError(f"model {name!r} is unknown; the zoo has {', '.join(sorted(ZOO))}")
    from . import swishnet

    try:
        config = swishnet.SwishNetConfig(**{**ZOO[name].options, **options})
    except TypeError as error:
        raise ConfigError(f"model {name}: {error}") from None
    return swishnet.build(config)
