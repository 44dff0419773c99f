"""Reading JSON results of any kind: each is checked against its JSON Schema in ``schemas/``.

A document names its kind itself (``"schema": "edge-bench/run/1"``); a file of ``pytest --benchmark-json`` does not,
and is told by what it holds.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError

from .json_schema import first_error

SCHEMAS = Path(__file__).parent / "schemas"
PYTEST = "pytest-benchmark"

# kind -> what writes it
MADE_BY = {
    "run": "edge-bench run --json FILE",
    "gate": "edge-bench gate --json FILE",
    "gate-trial": "edge-bench gate-trial --json FILE",
    "instructions": "edge-bench instructions --json FILE",
    "memory": "edge-bench memory --json FILE",
    "devices": "edge-bench devices --json FILE",
    "repeatability": "edge-bench repeatability --json FILE",
    "compare": "edge-bench compare --json FILE",
    "history": "edge-bench history show --json FILE",
    "doctor": "edge-bench doctor --json FILE",
    "evaluate": "edge-bench evaluate --json FILE",
    "evaluations": "edge-bench evaluate --json FILE (several models)",
    "quantize": "edge-bench quantize --json FILE",
    "inspect": "edge-bench inspect --json FILE",
    "plan": "edge-bench plan --json FILE",
    "verify": "edge-bench verify --json FILE",
    PYTEST: "pytest --benchmark-json FILE",
}


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of a kind.

    Raises
    ------
    KeyError
        If there is none.
    """
    if kind not in MADE_BY:
        raise KeyError(kind)
    return _schema(kind)


@cache
def _schema(kind: str) -> dict[str, Any]:
    name = kind if kind == PYTEST else f"{kind}-1"
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return schema


def kind_of(value: Any) -> str | None:
    """Return the kind of a document, None when it is none of ours, or of another version."""
    if not isinstance(value, dict):
        return None
    schema = value.get("schema")
    if schema is None and {"benchmarks", "machine_info", "datetime"} <= set(value):
        return PYTEST
    return next((kind for kind in MADE_BY if schema == f"edge-bench/{kind}/1"), None)


def read(path: str | Path, *kinds: str) -> tuple[str, dict[str, Any]]:
    """Return the kind of a file's document and the document.

    Parameters
    ----------
    path : path
    *kinds : str
        What is accepted; all kinds when none is named.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no JSON, or does not follow the schema of an accepted kind.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise ConfigError(f"{path}: is not JSON in UTF-8; give a file of `{_makers(kinds)}`") from None
    return parse(text, *kinds, what=str(path))


def parse(text: str, *kinds: str, what: str) -> tuple[str, dict[str, Any]]:
    """Return the kind of a text's document and the document; see `read`. `what` names it in messages."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ConfigError(f"{what}: is not JSON; give a file of `{_makers(kinds)}`") from None
    kind = kind_of(value)
    if kind is None or (kinds and kind not in kinds):
        found = value.get("schema") if isinstance(value, dict) else None
        said = f"schema is {found!r}" if found is not None or kind is None else f"is a file of {kind}"
        raise ConfigError(f"{what}: {said}, needed is {_names(kinds)}: a file of `{_makers(kinds)}`")
    problem = first_error(value, schema_of(kind))
    if problem:
        raise ConfigError(f"{what}: is damaged: {problem}; make it again with `{MADE_BY[kind]}`")
    return kind, value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _names(kinds: tuple[str, ...]) -> str:
    names = [f"'edge-bench/{kind}/1'" for kind in kinds or MADE_BY if kind != PYTEST]
    return " or ".join(names) if len(names) <= 4 else "one of an edge-bench command"


def _makers(kinds: tuple[str, ...]) -> str:
    named = [MADE_BY[kind] for kind in kinds] or [MADE_BY["run"]]
    return "` or `".join(named[:3])
