"""A gate on whatever names a candidate and a baseline: bundles, shipped names, result files, git refs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from . import git_baseline, results
from .gate import GateOptions, of_bundles
from .gate_results import gate_results


def gate_any(
    candidate: str, baseline: str, options: GateOptions, *, build: str | None = None,
    force: bool = False, say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Return ``edge-bench/gate/1``; with a git ref as baseline, ``baseline.git`` names ref, commit and path.

    Raises
    ------
    EdgeBenchError
        As `gate`, `gate_results` and `git_baseline.baseline_file` raise.
    """
    with git_baseline.baseline_file(baseline, candidate, build=build) as (base, origin):
        if results.is_result(candidate) or results.is_result(base):
            found = gate_results(candidate, base, options, force=force, say=say)
        else:
            found = of_bundles(candidate, base, options, say=say)
    if origin:
        found["baseline"]["git"] = asdict(origin)
    return found
