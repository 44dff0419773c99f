"""Instructions that were counted on emulated boards: the table of the shipped bundles, and the time they allow.

A processor core retires at most so many instructions a cycle as it decodes; instructions over that and the clock is a
lower bound on the time, like the roofline of `plan`, and a closer one for networks whose operators are small: loads,
address arithmetic and the interpreter are in it. Misses and stalls are not, so it is a prediction, never a measurement.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError

from .profile import Processor, Profile

SHIPPED = Path(__file__).with_name("instructions-aarch64.json")
STAGES = ("frontend_hop", "frontend", "model", "invoke")
# Instructions decoded a cycle (Arm's software optimisation guides; the A53's technical reference manual).
WIDTH = {"Cortex-A53": 2, "Cortex-A57": 3, "Cortex-A72": 3, "Cortex-A76": 4}


def bound_us(count: float, processor: Processor) -> float | None:
    """Return the least microseconds that so many instructions take on a core; None if its width is not known."""
    width = WIDTH.get(processor.core)
    return None if width is None else round(count / width / processor.clock_mhz, 3)


def lookup(sha256: str, board: Profile, file: str | Path = SHIPPED) -> dict[str, Any] | None:
    """Return the row of a bundle for a board's core; None if there is none.

    Cores of one instruction set differ, too: XNNPACK and OpenBLAS have kernels of their own for an A53.

    Raises
    ------
    ConfigError
        If `file` is no such table.
    """
    try:
        values = json.loads(Path(file).read_text(encoding="utf-8"))
        rows: list[dict[str, Any]] = values["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: cannot be read as a table of instructions: {error}") from None
    return next((r for r in rows if r["sha256"] == sha256 and r["core"] == board.processor.core), None)


def predict(sha256: str, board: Profile, file: str | Path = SHIPPED) -> dict[str, Any] | None:
    """Return the least time of a clip of a bundle on a board by its instructions; None if they were not counted.

    Returns
    -------
    dict
        ``clip_s``; ``core``, on which was counted; by stage (``frontend_hop``, ``frontend``, ``model``) the
        ``instructions`` and ``us``; ``total_us`` of front end and model, ``real_time_factor``.
    """
    found = lookup(sha256, board, file)
    if found is None or board.processor.core not in WIDTH:
        return None
    clip_s = float(found["context"]["clip_s"])
    stages = {
        name: {"instructions": count, "us": bound_us(count, board.processor)}
        for name, count in ((name, found["stages"][name]["median"]) for name in STAGES[:3])
    }
    total = stages["frontend"]["us"] + stages["model"]["us"]
    return {
        "prediction": True, "clip_s": clip_s, "core": found["core"], "source": found["source"], **stages,
        "total_us": round(total, 3), "real_time_factor": total / 1e6 / clip_s,
    }  # fmt: skip
