"""The main job: how long a bundle takes on this machine, stage by stage, and what memory it needs."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime import EdgeBenchError
from edge_runtime.bundle import Bundle, read

from . import context, instructions, sound
from .against import against
from .ask import ask
from .peers import Peer
from .statistics import median_interval, outliers

SCHEMA = "edge-bench/run/1"
STAGES = ("frontend", "model", "total")


@dataclass(frozen=True)
class RunOptions:
    """How to measure.

    Attributes
    ----------
    clips : tuple of float
        Clip lengths, seconds.
    rounds : int
        Samples of every stage and clip, at most.
    budget_s : float
        Seconds for the steady part, at most.
    warm_s : float
        Of which warm-up, at least; it goes on until the times have settled.
    precision : float, optional
        Sampling ends early once every median is known to +- this part of it (0.01: 1 %), at 95 %.
    idle_s, idle_calls : float, int
        Calls after a pause of so many seconds: what an application that classifies now and then sees.
    rate : float, optional
        Also label so many clips (of the last length) a second, as an application would, for as long as the budget.
    pin : bool
        Keep the measuring process on the least busy core, if it has one thread.
    cold : int
        Fresh processes for the cold calls of each clip length; the median is reported.
    sandbox : bool
        Run the network in a process with limits; the times include the way there, the memory is without it.
    instructions : str, optional
        Count instructions, too: 'auto', 'perf' or 'callgrind'; see `instructions`.
    against : tuple of Peer
        Networks to time in turns with the bundle; see `peers`.
    """

    clips: tuple[float, ...] = (0.5, 1.0, 2.0)
    rounds: int = 1000
    budget_s: float = 10.0
    warm_s: float = 0.5
    precision: float | None = None
    idle_s: float = 0.1
    idle_calls: int = 5
    rate: float | None = None
    pin: bool = True
    cold: int = 3
    backend: str = "auto"
    threads: int = 1
    delegate: str | None = None
    sandbox: bool = False
    instructions: str | None = None
    against: tuple[Peer, ...] = ()


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """Return the 50th, 90th and 99th percentile, rounded to 10 ns when they are microseconds."""
    values = np.percentile(samples, [50, 90, 99])
    return {name: round(float(v), 2) for name, v in zip(("p50", "p90", "p99"), values, strict=True)}


def run(
    model: Bundle | str, options: RunOptions = RunOptions(), *, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Benchmark a bundle in fresh processes on sound made on the spot.

    Returns
    -------
    dict
        ``edge-bench/run/1``: context, model, clips with stages, memory. Times in microseconds, sizes in bytes;
        ``real_time_factor`` is the median total time over the length of the clip.

    Raises
    ------
    EdgeBenchError
        As reading the bundle and opening the interpreter raise, or if a measuring process dies.
    """
    bundle = model if isinstance(model, Bundle) else read(model)
    if options.instructions:
        instructions.available(options.instructions)  # before minutes of measuring
    about = context.collect()
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        file = Path(folder) / "sound.npy"
        rate = bundle.front_end.sample_rate
        np.save(file, sound.scene(max(options.clips) * 4, sample_rate=rate))
        request = {
            "bundle": bundle.path, "sound": str(file), "backend": options.backend, "threads": options.threads,
            "delegate": options.delegate, "sandbox": options.sandbox,
        }  # fmt: skip
        cold: dict[float, list[dict[str, Any]]] = {s: [] for s in options.clips}
        for number in range(options.cold):
            for clip_s in options.clips:
                say(f"cold calls: {clip_s:g} s, process {number + 1} of {options.cold}")
                first = {**request, "task": "first_call", "clip_s": clip_s}
                cold[clip_s].append(ask("worker", first, threads=options.threads))
        say(f"steady calls: up to {options.rounds} rounds or {options.budget_s:g} s")
        measured = ask(
            "worker",
            {
                **request, "task": "steady", "clips": options.clips, "rounds": options.rounds,
                "budget_s": options.budget_s, "warm_s": options.warm_s, "precision": options.precision,
                "idle_s": options.idle_s, "idle_calls": options.idle_calls, "rate": options.rate, "pin": options.pin,
            },
            threads=options.threads,
        )  # fmt: skip
    about["after"] = context.state()
    beside = None
    if options.against:
        beside = against(
            bundle, options.against, clip_s=_usual(options.clips), rounds=options.rounds, budget_s=options.budget_s,
            backend=options.backend, threads=options.threads, say=say,
        )  # fmt: skip
    counted = _instructions(bundle, options, say) if options.instructions else None
    about["remarks"] = context.remarks(about)
    sampling = {**measured["sampling"], "precision": options.precision}
    about["trust"] = "good" if sampling["settled"] and not about["remarks"] else "doubtful"
    about["remarks"] += _sampling_remarks(sampling, options)
    if measured["backend"] == "numpy" and options.backend == "auto":
        about["remarks"].append("no TFLite interpreter works here, so numpy ran the network: some 20 times slower")
    if options.sandbox:
        about["remarks"].append("sandbox: times include the way to its process, memory is without it")
    clips = []
    for clip_s, samples, idle in zip(options.clips, measured["clips"], measured["idle"], strict=True):
        stages: dict[str, Any] = {}
        for stage in STAGES:
            colds = [c["cold"][stage] for c in cold[clip_s]]
            if not samples[stage]:
                raise EdgeBenchError(f"no sample within {options.budget_s:g} s: give a larger --budget")
            known = median_interval(samples[stage])
            stages[stage] = {
                **percentiles(samples[stage]),
                "interval": [round(x, 3) if math.isfinite(x) else None for x in (known.low, known.high)],
                "cold": round(float(np.median(colds)), 2),
                "outliers": int(outliers(samples[stage]).sum()),
                "samples": [round(v, 3) for v in samples[stage]],
            }
        clips.append(
            {
                "clip_s": clip_s,
                "stages": stages,
                "after_idle": round(float(np.median(idle)), 2) if idle else None,
                "real_time_factor": round(stages["total"]["p50"] / (clip_s * 1e6), 8),
            }
        )
    longest = cold[max(options.clips)]
    return {
        "schema": SCHEMA,
        "context": about,
        "model": {
            "name": bundle.name,
            "bytes": bundle.size,
            "model_bytes": len(bundle.flatbuffer),
            "sha256": bundle.sha256,
            "parameters": bundle.info["parameters"],
            "precision": bundle.info["precision"],
            **{k: measured[k] for k in ("backend", "backend_version", "nodes", "delegated_nodes", "partitions")},
            "threads": options.threads,
        },
        "clips": clips,
        "memory": _memory(longest),
        "start": {
            "import": round(float(np.median([c["import"] for c in longest])), 1),
            "load": round(float(np.median([c["load"] for c in longest])), 1),
        },
        "sampling": sampling,
        "at_rate": _at_rate(measured, options),
        "instructions": counted,
        "against": beside,
        "options": {"rounds": options.rounds, "budget_s": options.budget_s, "cold_processes": options.cold},
    }


def _at_rate(measured: dict[str, Any], options: RunOptions) -> dict[str, Any] | None:
    """Return the total times of a clip at a fixed rate of calls."""
    if not options.rate:
        return None
    return {
        "rate": options.rate, "clip_s": options.clips[-1], **percentiles(measured["paced"]),
        "calls": len(measured["paced"]), "late": measured["late"],
        "samples": [round(v, 3) for v in measured["paced"]],
    }  # fmt: skip


def _usual(clips: Sequence[float]) -> float:
    """Return the clip length for what is measured at one only: 2 s, which others compare at, or the longest."""
    return 2.0 if 2.0 in clips else max(clips)


def _instructions(bundle: Bundle, options: RunOptions, say: Callable[[str], None]) -> dict[str, Any]:
    say("counting instructions")
    assert options.instructions is not None
    return instructions.count(
        bundle.path, clip_s=_usual(options.clips), source=options.instructions, backend=options.backend
    ).to_dict()


def _sampling_remarks(sampling: dict[str, Any], options: RunOptions) -> list[str]:
    """Return what was not reached, with the remedy."""
    found = []
    if not sampling["settled"]:
        found.append(
            f"the times had not settled after {sampling['warm_up_s']:.1f} s of warm-up: stop other work, or give a "
            "larger --budget"
        )
    if options.precision and sampling["ended"] != "precision":
        more = "--rounds" if sampling["ended"] == "rounds" else "--budget"
        found.append(
            f"the precision of {100 * options.precision:g} % was not reached in {sampling['rounds']} rounds: give a "
            f"larger {more}, or a quieter machine"
        )
    return found


def _memory(processes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the median over processes: RSS by stage at the top, PSS and USS below."""

    def median(values: Sequence[int | None]) -> int | None:
        known = [v for v in values if v is not None]
        return int(np.median(known)) if known else None

    def stage(name: str, kind: str) -> int | None:
        return median([p["memory"][name][kind] for p in processes])

    names = ("start", "after_import", "after_load", "after_first", "steady")
    return {
        **{name: stage(name, "rss") for name in names},
        "peak": median([p["peak"] for p in processes]),
        "pss": {name: stage(name, "pss") for name in names},
        "uss": {name: stage(name, "uss") for name in names},
        "anonymous": {name: stage(name, "anonymous") for name in names},
    }
