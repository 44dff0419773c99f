"""A gate by instruction counts: exact, so the ratio itself decides and one count of each side is enough.

What is left between two counts of the same code is the layout of memory (Python's method cache goes by addresses):
below 0.2 % from one environment or folder to another, measured by ``edge-bench gate-trial --instructions``. So the
margin can be 0.5 %.

A baseline that was counted with other software cannot be compared with. If its file names the commit and git has it,
that commit's `edge_runtime` is counted here in its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_runtime import ConfigError
from edge_runtime.bundle import resolve

from . import budget, context, git_baseline, results, trees
from .instructions import SCHEMA, Instructions, count
from .instructions_worker import STAGES
from .verdict import PASS, REGRESS

MARGIN = 0.005
LAYOUT = 0.002  # what two counts of the same code may differ by
_SAME = ("clip_s", "backend", "backend_version", "python", "numpy", "architecture", "processor_features")


@dataclass(frozen=True)
class CountOptions:
    """How to count and decide.

    Attributes
    ----------
    margin : float
        A growth up to this, or to `LAYOUT` if that is more, is no alarm (0.005: half a percent).
    source : {'auto', 'perf', 'callgrind'}
    limits : mapping
        Absolute limits; see `budget`. Only counts and ``flash`` are checked here.
    plant : mapping
        Turns of an empty loop put into every call of a stage of the candidate: a test of the gate.
    counter : callable
        What counts: `instructions.count`, or the same for an emulated board.
    """

    margin: float = MARGIN
    clip_s: float = 2.0
    source: str = "auto"
    backend: str = "auto"
    limits: Mapping[str, float] = field(default_factory=dict)
    plant: Mapping[str, int] = field(default_factory=dict)
    force: bool = False
    counter: Callable[..., Instructions] = count


def gate(
    candidate: str, baseline: str, options: CountOptions = CountOptions(), *, build: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Count both sides, as far as they are not counted yet, and return the verdict.

    Parameters
    ----------
    candidate : str
        A bundle, a shipped name, or a file with counts.
    baseline : str
        The same, or a git ref; see `git_baseline`. Where the ref has an `edge_runtime`, that one runs the baseline.

    Returns
    -------
    dict
        ``edge-bench/gate/1`` with ``clock: instructions``; `noise_floor` is what the layout of memory may make.

    Raises
    ------
    ConfigError
        If a side makes no sense, or the counts cannot be compared and cannot be made here.
    """
    about = context.collect()
    remarks = []
    if results.is_result(candidate):
        new = read(candidate, None, options.clip_s)
    else:
        say("counting the candidate")
        new = _count(candidate, options, plant=options.plant)
    name = new.context["bundle"] if results.is_result(candidate) else candidate
    if results.is_result(baseline):
        old = read(baseline, new.context["bundle"], options.clip_s, new.source)
        different = differences(old, new)
        if different and not options.force:
            commit = _commit(baseline)
            if commit is None:
                raise ConfigError(
                    f"{baseline}: was counted with other software ({'; '.join(different)}) and cannot be counted here: "
                    "give a bundle or a commit as the baseline, or --force"
                )
            remarks.append(f"the baseline was counted with other software, so commit {commit[:12]} was counted here")
            say(f"counting commit {commit[:12]}")
            old = _count_commit(commit, name, options)
            if still := differences(old, new):
                raise ConfigError(f"{baseline}: cannot be compared with {candidate}: {'; '.join(still)}")
    else:
        say("counting the baseline")
        with git_baseline.baseline_file(baseline, candidate, build=build) as (file, origin):
            where = resolve(candidate).parent if origin else None
            if origin and trees.has_runtime(origin.commit, where=where):
                old = _count_commit(origin.commit, file, options, where)
            else:
                old = _count(file, options)
    found = verdict(new, old, options)
    mine = {k: limit for k, limit in options.limits.items() if k in (*budget.COUNTS, "flash")}
    if others := sorted(set(options.limits) - set(mine)):
        remarks.append(f"not checked by counting: {', '.join(others)}; run the gate without --instructions, too")
    size = 0 if results.is_result(candidate) else resolve(candidate).stat().st_size
    if "flash" in mine and not size:
        raise ConfigError(f"{candidate}: a file of counts has no size: give the bundle, or no limit of flash")
    checks = budget.check(mine, times={}, clip_s=options.clip_s, peak=None, size=size, drop=None, counts=new.to_dict())
    found["budget"] = [asdict(check) for check in checks]
    if any(check.verdict == budget.EXCEEDED for check in checks):
        found["verdict"] = REGRESS
    return {**found, "context": {**about, "remarks": remarks}}


def verdict(new: Instructions, old: Instructions, options: CountOptions) -> dict[str, Any]:
    """Return what is decided on two counts."""
    ratios = {stage: getattr(new, stage) / getattr(old, stage) for stage in STAGES}
    rows = {
        stage: {
            "verdict": REGRESS if ratio > 1 + max(options.margin, LAYOUT) else PASS,
            "ratio": round(ratio, 6),
            "interval": [round(ratio, 6)] * 2,
            "noise_floor": LAYOUT,
            "baseline": getattr(old, stage),
            "candidate": getattr(new, stage),
        }
        for stage, ratio in ratios.items()
    }
    worst = max(ratios, key=lambda stage: ratios[stage])
    return {
        "schema": "edge-bench/gate/1",
        "clock": "instructions",
        "verdict": REGRESS if any(row["verdict"] == REGRESS for row in rows.values()) else PASS,
        "stage": worst,
        **{key: rows[worst][key] for key in ("ratio", "interval", "noise_floor")},
        "stages": rows,
        "rule": {"margin": options.margin},
        "source": new.source,
        "clip_s": new.context["clip_s"],
        "candidate": new.context,
        "baseline": old.context,
        "planted": dict(options.plant),
    }


def turns(factors: Mapping[str, float], bundle: str, options: CountOptions) -> dict[str, int]:
    """Return the turns of an empty loop that make stages of a bundle longer by the given factors."""
    plain, few, many = (_count(bundle, options, plant=dict.fromkeys(factors, n)) for n in (0, 100, 1100))
    found = {}
    for stage, factor in factors.items():
        a, b, c = (getattr(counted, stage) for counted in (plain, few, many))
        turn = (c - b) / 1000
        call = b - a - 100 * turn  # what the planted call costs beside its turns
        found[stage] = max(1, round(((factor - 1) * a - call) / turn))
    return found


def differences(old: Instructions, new: Instructions) -> list[str]:
    """Return in what two counts differ that makes them incomparable, in words."""
    found = [] if old.source == new.source else [f"source {old.source} / {new.source}"]
    for key in _SAME:
        a, b = old.context.get(key), new.context.get(key)
        if a != b:
            if isinstance(a, list) and isinstance(b, list):
                a, b = sorted(set(a) - set(b)) or "fewer", sorted(set(b) - set(a)) or "fewer"
            found.append(f"{key.replace('_', ' ')} {a} / {b}")
    return found


def read(path: str, bundle: str | None, clip_s: float, source: str | None = None) -> Instructions:
    """Return the counts in a file of ``edge-bench instructions`` or ``edge-bench run --instructions``.

    Parameters
    ----------
    bundle, source : str or None
        Which, if the file has several.

    Raises
    ------
    ConfigError
        If the file has none, or none of that bundle.
    """
    value = _json(path)
    if value.get("schema") == SCHEMA:
        entries = value.get("counts")
    elif value.get("schema") == results.SCHEMA:
        entries = [value["instructions"]] if value.get("instructions") else []
    else:
        raise ConfigError(f"{path}: schema is {value.get('schema')!r}, needed is a file of `edge-bench instructions`")
    if not entries:
        raise ConfigError(f"{path}: holds no instruction counts: measure with `edge-bench run --instructions`")
    try:
        counts = [Instructions(**entry) for entry in entries]
        if not all(isinstance(getattr(c, s), int) and getattr(c, s) > 0 for c in counts for s in STAGES):
            raise TypeError("a count is no positive whole number")
        fitting = [c for c in counts if c.context["clip_s"] == clip_s]
        named = [c for c in fitting if bundle in (None, c.context["bundle"])] or (fitting if len(counts) == 1 else [])
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: a part is missing or damaged ({error}); count again") from None
    if not named:
        raise ConfigError(f"{path}: holds no counts of {bundle or 'a bundle'} with clips of {clip_s:g} s")
    return next((c for c in named if c.source == source), named[0])


def _json(path: str) -> dict[str, Any]:
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: is no result; give a file that `edge-bench instructions --json FILE` wrote")
    return value


def _commit(path: str) -> str | None:
    """Return the commit that a file names, if git has it here."""
    commit = _json(path).get("commit")
    return trees.commit_of(commit) if isinstance(commit, str) else None


def _count(bundle: str, options: CountOptions, **more: Any) -> Instructions:
    return options.counter(bundle, clip_s=options.clip_s, source=options.source, backend=options.backend, **more)


def _count_commit(commit: str, bundle: str, options: CountOptions, where: Path | None = None) -> Instructions:
    with trees.tree(commit, where=where) as then:
        found = _count(then.bundle(bundle), options, tree=then.folder)
    return replace(found, context={**found.context, "commit": then.commit})
