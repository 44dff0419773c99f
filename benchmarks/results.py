"""Reading result files of ``edge-bench run`` and telling whether two were made in the same environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError

from . import documents

SCHEMA = "edge-bench/run/1"
STAGES = ("frontend", "model", "total")
STAGE_WORDS = {"frontend": "front end", "model": "model", "total": "total"}
SCHEMA_FILE = Path(__file__).parent / "schemas" / "run-1.json"

_MACHINE = ("board", "cpu", "architecture", "cores", "governor")
_SOFTWARE = ("python", "numpy")
_MODEL = ("backend", "backend_version", "threads")


def is_result(path: str | Path) -> bool:
    """Return whether a file looks like JSON and so like a result, not like a bundle."""
    try:
        with Path(path).open("rb") as file:
            return file.read(64).lstrip()[:1] == b"{"
    except OSError:
        return False


def read(path: str | Path) -> dict[str, Any]:
    """Return a result of ``edge-bench run``.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no JSON, or does not follow the schema.
    """
    return documents.read(path, "run")[1]


def stages(result: dict[str, Any]) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """Yield (clip length in seconds, stage, its times) of a result."""
    for clip in result["clips"]:
        for stage in STAGES:
            yield float(clip["clip_s"]), stage, clip["stages"][stage]


def environment(result: dict[str, Any]) -> dict[str, Any]:
    """Return what times depend on beside the model: machine, software and interpreter, by name."""
    about, model = result["context"], result["model"]
    return (
        {f"machine's {k}": about["machine"].get(k) for k in _MACHINE}
        | {k: about.get(k) for k in _SOFTWARE}
        | {k.replace("_", " "): model.get(k) for k in _MODEL}
    )


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Return in what the environments of two results differ, in words; empty when times can be compared."""
    old, new = environment(a), environment(b)
    return [f"{name} {_word(old[name])} / {_word(new[name])}" for name in old if old[name] != new[name]]


def refuse_emulated(*found: dict[str, Any]) -> None:
    """Raise for results of emulated boards, whose times are the emulator's.

    Raises
    ------
    ConfigError
    """
    for result in found:
        if by := result["context"].get("emulated"):
            raise ConfigError(
                f"a result of {result['model']['name']} is of an emulated {by.get('cpu', 'board')}, whose times say "
                "nothing: compare instructions (edge-bench gate A --baseline B --instructions)"
            )


def _word(value: Any) -> str:
    return "unknown" if value is None else str(value)
