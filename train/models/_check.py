"""Checks that the configurations of the zoo share; each error names the option and its value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_runtime import ConfigError


def whole(model: str, least: int = 1, **values: Any) -> None:
    """Raise `ConfigError` unless every value is a whole number, at least `least`."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{model}: {name} is {value!r}, must be a whole number, at least {least}")


def fraction(model: str, **values: Any) -> None:
    """Raise `ConfigError` unless every value is a number from 0 to below 1."""
    for name, value in values.items():
        if not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise ConfigError(f"{model}: {name} is {value!r}, must be from 0 to below 1")


def one_of(model: str, allowed: Sequence[str], **values: Any) -> None:
    """Raise `ConfigError` unless every value is one of `allowed`."""
    for name, value in values.items():
        if value not in allowed:
            raise ConfigError(f"{model}: {name} is {value!r}, must be one of {', '.join(allowed)}")
