"""A gate where a side is a result file: no pairs can be measured, so medians of whole runs are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edge_runtime import ConfigError

from . import budget, results
from .gate import GateOptions, answer, overall
from .run import RunOptions, run
from .statistics import Interval, median_interval, unpaired_ratio
from .verdict import StageVerdict, decide

REMARK = "a result file cannot be measured in pairs: differences from process to process are not in the intervals"


def gate_results(
    candidate: str, baseline: str, options: GateOptions, *, force: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Return the verdict on two sides of which at least one is a file of ``edge-bench run``; see `gate.gate`.

    A bundle is benchmarked here with the clip length of the gate. The noise floor is how much the halves of each run
    differ.

    Raises
    ------
    ConfigError
        If the environments differ and `force` is not set, a result lacks the clip length, or a slow-down is planted.
    """
    if options.plant:
        raise ConfigError("a slow-down is planted in a bundle, not in a result file: give two bundles")
    sides = []
    for name in (candidate, baseline):
        if results.is_result(name):
            sides.append(results.read(name))
        else:
            how = RunOptions(
                clips=(options.clip_s,), budget_s=options.budget_s / 3, backend=options.backend, threads=options.threads
            )
            sides.append(run(name, how, say=say))
    new, old = sides
    results.refuse_emulated(new, old)
    different = results.differences(old, new)
    if different and not force:
        raise ConfigError(
            f"the environments differ ({'; '.join(different)}): give both as bundles, to be measured here, or --force"
        )
    samples = []
    for name, side in zip((candidate, baseline), sides, strict=True):
        rows = {stage: np.array(t["samples"]) for clip_s, stage, t in results.stages(side) if clip_s == options.clip_s}
        if not rows:
            raise ConfigError(f"{name}: holds no clips of {options.clip_s:g} s; give --clip one of its lengths")
        samples.append(rows)
    stages = {stage: _stage(samples[0][stage], samples[1][stage], options) for stage in results.STAGES}
    times = {stage: median_interval(samples[0][stage], level=0.99) for stage in results.STAGES}
    checks = budget.check(
        options.limits, times=times, clip_s=options.clip_s, peak=new["memory"]["peak"], size=new["model"]["bytes"],
        drop=options.drop, counts=new.get("instructions"),
    )  # fmt: skip
    return {
        **answer(overall(stages, checks), stages, checks, options.rule),
        "pairs": 0,
        "clip_s": options.clip_s,
        "candidate": {key: new["model"][key] for key in ("name", "sha256", "bytes")},
        "baseline": {key: old["model"][key] for key in ("name", "sha256", "bytes")},
        "times": {
            stage: {
                "baseline_us": float(np.median(samples[1][stage])),
                "candidate_us": float(np.median(samples[0][stage])),
            }
            for stage in results.STAGES
        },
        "environment_differences": different,
        "context": {**new["context"], "remarks": [*new["context"].get("remarks", []), REMARK]},
    }


def _stage(new: Any, old: Any, options: GateOptions) -> StageVerdict:
    rule = options.rule
    lower = unpaired_ratio(new, old, level=1 - 2 * rule.alarm_alpha / len(results.STAGES), resamples=4000)
    upper = unpaired_ratio(new, old, level=1 - 2 * rule.pass_alpha, resamples=4000)
    ratio = Interval(lower.value, lower.low, upper.high)
    halves = [np.array_split(side, 2) for side in (new, old)]
    floor = float(np.expm1(max(abs(np.log(np.median(a) / np.median(b))) for a, b in halves)))
    return StageVerdict(decide(ratio, rule, floor), ratio, floor, None, 0)
