"""Recipes by name: in which numbers a network is deployed, and how the ranges are chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_runtime import ConfigError

from .quantiser import KINDS, Activations
from .ranges import METHODS


@dataclass(frozen=True)
class Recipe:
    """How weights and activations are stored.

    Attributes
    ----------
    name : str
    precision : str
        What the bundle is called by: ``swishnet-slim-int8``.
    activations : str
        'float32', or the integers of a static recipe.
    ranges : str
        How the ranges of a static recipe are chosen: see `edge_bench.quantize.ranges`.
    says : str
        For people.
    """

    name: str
    precision: str
    says: str
    activations: str = "float32"
    ranges: str = "mse"

    @property
    def kind(self) -> Activations | None:
        """The integers of the activations, None for a recipe that needs no calibration."""
        return KINDS.get(self.activations)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("static-int8", "int8", "int8 throughout, input and output included", "int8"),
        Recipe("int16x8", "int16", "int16 activations, int8 weights: for a network that int8 hurts, slow", "int16",
               "min-max"),
        Recipe("dynamic-int8", "dynamic-int8", "weights of large layers int8, activations float32"),
        Recipe("float16", "float16", "weights float16, activations float32"),
        Recipe("float32", "float32", "as trained"),
    )
}  # fmt: skip
ALIASES = {"int8": "static-int8", "int16": "int16x8"}


def recipe_of(name: str, *, ranges: str | None = None) -> Recipe:
    """Return a recipe, with another choice of ranges if one is given.

    Raises
    ------
    ConfigError
        If the recipe or the choice is unknown, or the recipe has no ranges.
    """
    found = RECIPES.get(ALIASES.get(name, name))
    if found is None:
        raise ConfigError(f"recipe {name!r} is unknown, must be one of {', '.join(RECIPES)}")
    if ranges is None:
        return found
    if ranges not in METHODS:
        raise ConfigError(f"range choice {ranges!r} is unknown, must be one of {', '.join(METHODS)}")
    if found.kind is None:
        raise ConfigError(f"recipe {found.name} has no ranges to choose; static-int8 and int16x8 have")
    return replace(found, ranges=ranges)
