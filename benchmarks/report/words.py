"""The summary of a report, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from ..history import change_words
from ..table import micro, size
from .gather import Gathered, Group
from .trends import scores_of, split_of


def summary(found: Gathered) -> list[str]:
    """Return what the results say, the most important first; each a sentence or two."""
    return [*_verdicts(found), *_models(found), *_best(found), *_changes(found), *_doubts(found)]


def _verdicts(found: Gathered) -> Iterator[str]:
    for _, gate in found.gates:
        names = [side.get("name") or side.get("bundle") for side in (gate["candidate"], gate["baseline"])]
        change = f"{100 * (gate['ratio'] - 1):+.1f} % in the stage {gate['stage']}"
        broken = [c["name"] for c in gate.get("budget", ()) if c["verdict"] == "exceeded"]
        over = f" Over budget: {', '.join(broken)}." if broken else ""
        yield f"Gate of {names[0]} against {names[1]}: {gate['verdict']}, {change}.{over}"


def _models(found: Gathered) -> Iterator[str]:
    scores, split = scores_of(found), split_of(found)
    for group in found.groups[:12]:
        run = group.newest
        clip_s = run.clips[-1]
        front, model, total = (run.times[clip_s, s]["p50"] for s in ("frontend", "model", "total"))
        speed = f"{clip_s * 1e6 / total:,.0f} times real time"
        text = f"{group.label} takes {micro(total)} for {clip_s:g} s of sound, {speed}: "
        text += f"{micro(front)} in the front end, {micro(model)} in the model."
        peak = f"; its process peaks at {size(run.memory['peak'])}" if run.memory["peak"] else ""
        text += f" The file has {size(run.model['bytes'])}{peak}."
        score = scores.get(run.entry.name, {}).get("clips_by_length", {}).get(f"{clip_s:g}")
        if score:
            bounds = score.get("intervals", {}).get("macro_f1")
            around = f" ({100 * bounds[0]:.0f} to {100 * bounds[1]:.0f})" if bounds else ""
            text += f" Class-average F1 on the {split} split: {100 * score['macro_f1']:.1f} %{around}."
        if run.instructions:
            text += f" {run.instructions['model']:,} instructions a call of the model ({run.instructions['source']})."
        yield text
    if len(found.groups) > 12:
        yield f"{len(found.groups) - 12} more models or environments are in the tables."


def _best(found: Gathered) -> Iterator[str]:
    keys = {g.newest.entry.environment.key for g in found.groups}
    if len(found.groups) < 2 or len(keys) != 1:
        return
    clip_s = min(g.newest.clips[-1] for g in found.groups)
    able = [g for g in found.groups if clip_s in g.newest.clips]

    def total(group: Group) -> float:
        return float(group.newest.times[clip_s, "total"]["p50"])

    fast = min(able, key=total)
    small = min(able, key=lambda g: int(g.newest.model["bytes"]))
    text = f"Of these, {fast.label} is the fastest"
    text += " and the smallest" if small is fast else f" and {small.label} the smallest"
    scores = scores_of(found)
    scored = [g for g in able if f"{clip_s:g}" in scores.get(g.newest.entry.name, {}).get("clips_by_length", {})]
    if len(scored) > 1:
        good = max(scored, key=lambda g: scores[g.newest.entry.name]["clips_by_length"][f"{clip_s:g}"]["macro_f1"])
        text += f"; {good.label} is the most accurate"
    yield text + f", at {clip_s:g} s."


def _changes(found: Gathered) -> Iterator[str]:
    several = [s for s in found.series if len(s["points"]) > 1]
    if not several:
        return
    moved = sorted(((c["time"], change_words(s, c)) for s in several for c in s["changes"]), reverse=True)
    if not moved:
        yield f"No level changed in {len(several)} series."
    for _, words in moved[:5]:
        yield f"Level changed: {words}."
    if len(moved) > 5:
        yield f"{len(moved) - 5} earlier changes are in the history below."


def _doubts(found: Gathered) -> Iterator[str]:
    environments = found.environments
    if len(environments) > 1:
        yield f"The results come from {len(environments)} environments: only times within one compare models."
    for group in found.groups[:12]:
        for remark in group.newest.remarks:
            yield f"Doubtful: {group.label}: {remark}."
