"""The results of a queue: a file of JSON lines that only grows, and the table of what is there so far."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError

from .job_queue import Job, Queue

SCHEMA = "edge-bench/queue-result/1"


def read(path: Path) -> list[dict[str, Any]]:
    """Return the results so far; a last line without its end (a power cut) is none.

    Raises
    ------
    ConfigError
        If the file holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    found = []
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break
        try:
            result = json.loads(line)
            if result["schema"] != SCHEMA:
                raise ValueError(f"its schema is {result['schema']!r}, expected {SCHEMA!r}")
            found.append(result)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} line {number}: is no result of edge-bench queue ({error})") from None
    return found


def of_jobs(queue: Queue, results: Sequence[Mapping[str, Any]], path: Path) -> dict[str, Mapping[str, Any]]:
    """Return the results of the queue's jobs by label.

    Raises
    ------
    ConfigError
        If a job has a result that another recipe, override, command or shipped bundle gave.
    """
    found = {}
    for job in queue.jobs:
        for result in results:
            if (result["name"], result["seed"]) != (job.entry.name, job.seed):
                continue
            if result["digest"] != job.digest:
                raise ConfigError(
                    f"{path}: has {job.label} with other settings or another shipped bundle than the queue's; give the "
                    "changed job another name, or delete that line and the job's folder"
                )
            found[job.label] = result
    return found


def value_at(result: Mapping[str, Any], name: str | Sequence[str]) -> float | None:
    """Return the number at a dotted name, such as ``validation.2s.macro_f1``, or at its parts, or None."""
    value: Any = result
    for part in name.split(".") if isinstance(name, str) else name:
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def summary(queue: Queue, found: Mapping[str, Mapping[str, Any]], states: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a row for each ``[[job]]``: how many of its seeds are done, and their mean and standard deviation.

    Parameters
    ----------
    states : mapping
        By label, in a word, what is known of jobs without a result.
    """
    rows = []
    for name in dict.fromkeys(job.entry.name for job in queue.jobs):
        jobs: list[Job] = [job for job in queue.jobs if job.entry.name == name]
        results = [found[job.label] for job in jobs if job.label in found]
        values = [v for r in results if (v := value_at(r, queue.head.metric)) is not None]
        waiting = sorted({states.get(job.label, "waiting") for job in jobs if job.label not in found})
        rows.append(
            {
                "name": name, "n": len(results), "of": len(jobs), "values": values,
                "mean": statistics.fmean(values) if values else None,
                "sd": statistics.stdev(values) if len(values) > 1 else None,
                "parameters": results[-1].get("parameters") if results else None,
                "seconds": sum(r["seconds"] for r in results),
                "corpus": sorted({r["corpus"] for r in results if r.get("corpus")}),
                "state": ", ".join(waiting) or "done",
            }
        )  # fmt: skip
    return rows
