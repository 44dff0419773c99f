"""Results in the formats of others: one small module each, with a function ``export(results) -> str``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from edge_runtime import ConfigError

FORMATS = {
    "csv": "comma-separated values, a row for each clip length and stage",
    "markdown": "a table for a README or a pull request",
    "bencher": "Bencher Metric Format (bencher run --adapter json)",
    "github-action-benchmark": "customSmallerIsBetter list",
    "pytest-benchmark": "what pytest-benchmark compare reads",
    "google-benchmark": "what google/benchmark's compare.py reads",
}


def export(format_name: str, results: Sequence[dict[str, Any]]) -> str:
    """Return results of ``edge-bench run`` as text in a format.

    Raises
    ------
    ConfigError
        If the format is unknown.
    """
    if format_name not in FORMATS:
        raise ConfigError(f"format {format_name!r} is unknown, must be one of {', '.join(FORMATS)}")
    module = importlib.import_module(f".{format_name.replace('-', '_')}", __name__)
    text: str = module.export(results)
    return text


def label(result: dict[str, Any], clip_s: float, stage: str) -> str:
    """Return the name that a stage of a result has in every format: ``swishnet-slim-int8/2s/model``."""
    return f"{result['model']['name']}/{clip_s:g}s/{stage}"
