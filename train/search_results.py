"""What a search's folder holds: the state of each trial read from its files, ``search.json``, the best recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_runtime.files import write_text

from . import recipe as recipes
from .search_space import Search, describe


def trial_folder(folder: Path, number: int) -> Path:
    """Return the folder of a trial."""
    return folder / "trials" / f"{number:04d}"


def read_trial(search: Search, folder: Path, number: int) -> dict[str, Any]:
    """Return what is known of a trial; ``best`` is its highest value of the metric so far, or None.

    ``state`` is one of waiting, begun, done, stopped (early, by the search) and failed.
    """
    place = trial_folder(folder, number)
    metric = search.file.search.metric
    history = _read(place / "history.json") or []
    metrics = _read(place / "metrics.json") or {}
    rows = [row for row in history or [metrics.get("best", {})] if isinstance(row.get(metric), (int, float))]
    best = max(rows, key=lambda row: row[metric], default=None)
    failed = (place / "error.txt").is_file()
    state = (
        "done" if metrics else "failed" if failed else "stopped" if (place / "stopped").is_file()
        else "begun" if place.is_dir() else "waiting"
    )  # fmt: skip
    return {
        "trial": number, "values": search.trials[number], "state": state,
        "best": None if best is None else best[metric],
        "best_epoch": None if best is None else int(best.get("epoch", 1)),
        "epochs": int(history[-1]["epoch"]) if history else 0, "parameters": metrics.get("parameters"),
        "seconds": round(sum(row.get("seconds", 0.0) for row in rows), 1),
        "curve": [row[metric] for row in rows], "curve_epochs": [int(row.get("epoch", 1)) for row in rows],
        **({"error": (place / "error.txt").read_text(errors="replace").strip()} if state == "failed" else {}),
    }  # fmt: skip


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def collect(search: Search, folder: Path, source: str) -> dict[str, Any]:
    """Return the search as it stands, best trial first."""
    trials = [read_trial(search, folder, number) for number in range(len(search.trials))]
    trials.sort(key=lambda t: (t["best"] is None, -(t["best"] or 0.0), t["trial"]))
    ended = sum(t["state"] in ("done", "stopped", "failed") for t in trials)
    corpus = next((c for t in trials if (c := _revision(trial_folder(folder, t["trial"])))), None)
    return {
        "schema": "edge-bench/search/1", "search": source, "recipe": search.file.recipe,
        "method": search.file.search.method, "metric": search.file.search.metric, "digest": search.digest,
        "corpus": corpus, "ended": ended, "finished": ended == len(trials), "trials": trials,
    }  # fmt: skip


def _revision(place: Path) -> str | None:
    description = _read(place / "experiment.json") or {}
    revision = description.get("corpus", {}).get("revision")
    return str(revision) if revision else None


def write(search: Search, folder: Path, source: str) -> dict[str, Any]:
    """Write ``search.json`` and, when a trial has a score, ``best.toml``; return the former."""
    result = collect(search, folder, source)
    write_text(folder / "search.json", json.dumps(result, indent=1) + "\n")
    first = result["trials"][0]
    if first["best"] is not None:
        comment = (
            f"Trial {first['trial']} of {source}, the best of {len(search.trials)} ({result['ended']} have ended): "
            f"validation {result['metric']} {first['best']:.4f} in epoch {first['best_epoch']} of {first['epochs']}.\n"
            f"{describe(first['values'])}"
        )
        recipes.write(search.recipe(first["trial"]), folder / "best.toml", comment=comment)
    return result
