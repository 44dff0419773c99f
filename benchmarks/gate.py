"""Is the candidate slower than the baseline? Both are measured here, in pairs of fresh processes.

The unit is a pair of processes on one processor core that take turns in random order; a sample is the mean of as many
calls as last 1 ms; every fifth unit is a pair of two baselines (A/A), which gives the noise floor. The gate looks at
its pairs at planned parts of its budget and ends with the first verdict; see `verdict` for the rule.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.bundle import Bundle, read

from . import budget, context, instructions, pairs, sound
from .gate_worker import STAGES
from .statistics import Interval, median_interval
from .verdict import INCONCLUSIVE, PASS, REGRESS, Rule, StageVerdict, judge, together, worst

SCHEMA = "edge-bench/gate/1"
SAME_EVERY = 5  # one unit of so many is A/A


@dataclass(frozen=True)
class GateOptions:
    """How a gate measures.

    Attributes
    ----------
    clip_s : float
        Length of the clip, seconds.
    budget_s : float
        Seconds, at most.
    clock : {'wall', 'cpu'}
        'cpu' counts the processor time of the process only: blind to waiting, and to being kept waiting by others.
    plant : mapping
        Factor by stage ('frontend', 'model') by which the candidate is made slower: a test of the gate itself.
    limits : mapping
        Absolute limits; see `budget`.
    drop : float, optional
        Points of F1 lost, for the limit ``accuracy_drop``.
    """

    clip_s: float = 2.0
    budget_s: float = 60.0
    backend: str = "auto"
    threads: int = 1
    clock: str = "wall"
    rule: Rule = Rule()
    plant: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    drop: float | None = None
    seed: int | None = None


def gate(
    candidate: Bundle, baseline: Bundle, options: GateOptions = GateOptions(), *,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure both and return the verdict.

    Returns
    -------
    dict
        ``edge-bench/gate/1``: `verdict`, and `stage`, `ratio`, `interval` and `noise_floor` of the stage that decides;
        all `stages`; the `budget`'s checks; the log-ratio of every pair.

    Raises
    ------
    EdgeBenchError
        If a bundle cannot be run, or a measuring process dies.
    """
    began = time.monotonic()
    about = context.collect()
    rng = random.Random(options.seed)
    measured: list[pairs.Pair] = []
    same: list[pairs.Pair] = []
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        sides = []
        for number, bundle in enumerate((baseline, candidate)):
            mine = Path(folder) / f"sound{number}.npy"  # each at its own rate
            np.save(mine, sound.scene(options.clip_s + 0.1, sample_rate=bundle.front_end.sample_rate))
            sides.append(
                pairs.Side(str(bundle.path), options.clip_s, options.backend, options.threads, str(mine), options.clock)
            )
        base, other = sides
        cpus = pairs.cores()
        if options.plant:
            planted = pairs.calibrate(other, dict(options.plant), cpu=cpus[0])
            other = pairs.Side(**{**other.__dict__, "planted": planted})
        last = 0.0  # seconds that a unit took
        for look, part in enumerate(options.rule.looks):
            while len(same) < 2 or time.monotonic() - began + last < part * options.budget_s:
                unit_began = time.monotonic()
                units = len(measured) + len(same)
                cpu = cpus[units % len(cpus)]
                if units % SAME_EVERY == 1:
                    same.append(pairs.run_pair(base, base, rng, cpu=cpu))
                else:
                    measured.append(pairs.run_pair(base, other, rng, cpu=cpu))
                last = time.monotonic() - unit_began
                say(f"{len(measured)} pairs, {time.monotonic() - began:.0f} of {options.budget_s:g} s")
            stages = {
                name: judge([p.logs[name] for p in measured], [p.logs[name] for p in same], options.rule, look=look,
                            stages=len(STAGES))
                for name in STAGES
            }  # fmt: skip
            checks = _checks(measured, candidate, options)
            verdict = overall(stages, checks)
            if verdict != INCONCLUSIVE:
                break
    about["after"] = context.state()
    about["remarks"] = context.remarks(about)
    return {
        **answer(verdict, stages, checks, options.rule),
        "pairs": len(measured),
        "same_pairs": len(same),
        "look": look + 1,
        "seconds": round(time.monotonic() - began, 2),
        "clip_s": options.clip_s,
        "clock": options.clock,
        "planted": dict(options.plant),
        "backend": measured[-1].backend,
        "candidate": {"name": candidate.name, "sha256": candidate.sha256, "bytes": candidate.size},
        "baseline": {"name": baseline.name, "sha256": baseline.sha256, "bytes": baseline.size},
        "times": {
            name: {
                "baseline_us": round(float(np.median([p.first[name] for p in measured])), 3),
                "candidate_us": round(float(np.median([p.second[name] for p in measured])), 3),
                "logs": [round(p.logs[name], 6) for p in measured],
                "same_logs": [round(p.logs[name], 6) for p in same],
            }
            for name in STAGES
        },
        "context": about,
    }


def _checks(measured: list[pairs.Pair], candidate: Bundle, options: GateOptions) -> list[budget.Check]:
    if not options.limits:
        return []
    times = {name: median_interval([p.second[name] for p in measured], level=0.99, serial=False) for name in STAGES}
    counts = None
    if any(name in budget.COUNTS for name in options.limits):
        counts = instructions.count(candidate.path, clip_s=options.clip_s, backend=options.backend).to_dict()
    peaks = [p.peaks[1] for p in measured if p.peaks[1] is not None]
    return budget.check(
        options.limits, times=times, clip_s=options.clip_s, peak=float(np.median(peaks)) if peaks else None,
        size=candidate.size, drop=options.drop, counts=counts,
    )  # fmt: skip


def overall(stages: Mapping[str, StageVerdict], checks: list[budget.Check]) -> str:
    """Return the verdict of stages and limits together: an exceeded limit fails the gate like a regression."""
    words = {budget.WITHIN: PASS, budget.EXCEEDED: REGRESS, budget.OPEN: INCONCLUSIVE}
    return together([*(s.verdict for s in stages.values()), *(words[c.verdict] for c in checks)])


def answer(verdict: str, stages: Mapping[str, StageVerdict], checks: list[budget.Check], rule: Rule) -> dict[str, Any]:
    """Return the part of a gate's result that says what was decided, and by what."""

    def bounds(ratio: Interval) -> list[float | None]:
        return [round(x, 5) if np.isfinite(x) and x > 0 else None for x in (ratio.low, ratio.high)]

    rows = {
        name: {
            "verdict": s.verdict,
            "ratio": round(s.ratio.value, 5),
            "interval": bounds(s.ratio),
            "noise_floor": round(s.noise_floor, 5),
            "wilcoxon_p": None if s.p_value is None else float(f"{s.p_value:.3g}"),
        }
        for name, s in stages.items()
    }
    name = worst(stages)
    return {
        "schema": SCHEMA,
        "verdict": verdict,
        "stage": name,
        **{key: rows[name][key] for key in ("ratio", "interval", "noise_floor")},
        "stages": rows,
        "budget": [asdict(c) for c in checks],
        "rule": asdict(rule),
    }


def of_bundles(candidate: str, baseline: str, options: GateOptions, **more: Any) -> dict[str, Any]:
    """Read both bundles (paths or shipped names) and gate; see `gate`."""
    return gate(read(candidate), read(baseline), options, **more)
