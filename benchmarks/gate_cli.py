"""``edge-bench gate`` and ``edge-bench gate-trial``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from edge_runtime import ConfigError
from edge_runtime.cli import write_json


def _plant(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    planted = {}
    for value in values:
        stage, _, factor = value.partition("=")
        try:
            planted[stage] = float(factor)
        except ValueError:
            raise click.BadParameter(f"{value!r} is not STAGE=FACTOR such as model=1.05") from None
        if stage not in ("frontend", "model") or not 1 < planted[stage] <= 10:
            raise click.BadParameter(f"{value!r}: the stage must be frontend or model, the factor above 1, at most 10")
    return planted


def _evaluation(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: is no evaluation; give a file of `edge-bench evaluate --json FILE`")
    return value


def _rule(margin: float, tolerated: float) -> Any:
    from .verdict import Rule

    try:
        return Rule(margin=margin / 100, tolerated=tolerated / 100)
    except ValueError as error:
        raise ConfigError(f"--margin {margin:g}, --tolerated {tolerated:g}: {error}") from None


def options_of(
    *, board: Path | None, evaluations: tuple[Path, Path] | None, margin: float, tolerated: float, **more: Any
) -> Any:
    """Return the options of a gate from what a command or a test was given; margins in percent."""
    from . import budget
    from .gate import GateOptions

    options = GateOptions(
        rule=_rule(margin, tolerated), limits=budget.read(board) if board else {},
        drop=budget.accuracy_drop(*(_evaluation(p) for p in evaluations)) if evaluations else None, **more,
    )  # fmt: skip
    if "accuracy_drop" in options.limits and options.drop is None:
        raise ConfigError(f"{board}: accuracy_drop is limited: give --evaluations CANDIDATE.json BASELINE.json")
    return options


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\033[K  {text}", err=True, nl=False)


@click.command()
@click.argument("candidate")
@click.option("--baseline", required=True, metavar="REF|FILE|NAME",
              help="A bundle, a shipped name, a result file, or a git REF or REF:PATH of the candidate's repository.")
@click.option("--build", metavar="COMMAND",
              help="Make the baseline by this shell command in a worktree of REF, when git does not hold the bundle.")
@click.option("--budget", "board", type=click.Path(path_type=Path), help="TOML file with a [budget] of limits.")
@click.option("--evaluations", nargs=2, type=click.Path(path_type=Path), metavar="CANDIDATE BASELINE",
              help="Files of `edge-bench evaluate --json`, for the limit accuracy_drop.")  # fmt: skip
@click.option("--margin", default=2.0, show_default=True, help="Percent of slow-down that never alarms.")
@click.option("--tolerated", default=5.0, show_default=True, help="A pass says: slower by less than so many percent.")
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(5), help="At most.")
@click.option("--clip", "clip_s", default=2.0, show_default=True, type=click.FloatRange(0.05, 60), help="Seconds.")
@click.option("--clock", default="wall", show_default=True, type=click.Choice(["wall", "cpu"]),
              help="cpu counts processor time: blind to waiting, steady beside other work.")  # fmt: skip
@click.option("--backend", default="auto", show_default=True, help="auto, litert, tflite-runtime, tf.lite or numpy.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--plant", multiple=True, callback=_plant, metavar="STAGE=FACTOR",
              help="Make the candidate slower on purpose, to test the gate: model=1.05.")  # fmt: skip
@click.option("--seed", type=int, help="Of the random order; another one each time by default.")
@click.option("--force", is_flag=True, help="Compare result files although the environments differ.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def gate(
    candidate: str, baseline: str, build: str | None, board: Path | None, evaluations: tuple[Path, Path] | None,
    margin: float, tolerated: float, seconds: float, clip_s: float, clock: str, backend: str, threads: int,
    plant: dict[str, float], seed: int | None, force: bool, json_file: str | None,
) -> None:  # fmt: skip
    """Say whether CANDIDATE is slower than the baseline: pass (exit code 0), regress (1), inconclusive (3).

    Bundles are measured here, now, in pairs of fresh processes that take turns; a file of `edge-bench run --json` is
    taken as it is. An alarm needs the lower bound of the slow-down above --margin and above what two baselines differ
    by; a pass needs its upper bound below --tolerated. --budget adds absolute limits, such as a board's profile has.

    \b
    Example:
      edge-bench gate new.tflite --baseline swishnet-slim-int8
      edge-bench gate new.tflite --baseline old.tflite --budget board.toml --json gate.json
      edge-bench gate model.tflite --baseline origin/main
    """
    from .gating import gate_any
    from .verdict import EXIT_CODES

    options = options_of(
        board=board, evaluations=evaluations, margin=margin, tolerated=tolerated, clip_s=clip_s, budget_s=seconds,
        clock=clock, backend=backend, threads=threads, plant=plant, seed=seed,
    )  # fmt: skip
    found = gate_any(candidate, baseline, options, build=build, force=force, say=_progress)
    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    if json_file != "-":
        click.echo(render(found))
    if json_file:
        write_json(json_file, found)
    sys.exit(EXIT_CODES[found["verdict"]])


def render(found: dict[str, Any]) -> str:
    """Return a gate's result as text for people."""
    from .results import STAGE_WORDS
    from .table import micro, table

    def percent(ratio: float | None) -> str:
        return "?" if ratio is None else f"{100 * (ratio - 1):+.1f}"

    rows = []
    for name, stage in found["stages"].items():
        times, (low, high) = found["times"][name], stage["interval"]
        p = "-" if stage["wilcoxon_p"] is None else f"{stage['wilcoxon_p']:.2g}"
        rows.append(
            [STAGE_WORDS[name], micro(times["baseline_us"]), micro(times["candidate_us"]),
             f"{percent(stage['ratio'])} %", f"{percent(low)} to {percent(high)} %",
             f"{100 * stage['noise_floor']:.1f} %", p, stage["verdict"]]
        )  # fmt: skip
    about = ""
    if found["pairs"]:
        about = f", {found['pairs']} pairs and {found['same_pairs']} of equals in {found['seconds']:.0f} s"
    git = found["baseline"].get("git")
    at = f" at {git['ref']} ({git['commit'][:12]})" if git else ""
    lines = [
        f"{found['candidate']['name']} against {found['baseline']['name']}{at}, {found['clip_s']:g} s clips{about}",
        "",
        table(["stage", "baseline", "candidate", "change", "bounds", "noise floor", "p", ""], rows),
        "",
    ]
    for check in found["budget"]:
        lines.append(f"budget: {check['name']} {check['value']:g} of {check['limit']:g}: {check['verdict']}")
    lines.append(f"{found['verdict'].upper()}: {_why(found)}")
    if found.get("planted"):
        lines.append(f"note: planted on purpose: {found['planted']}")
    lines += [f"note: {remark}" for remark in found["context"]["remarks"]]
    return "\n".join(lines)


def _why(found: dict[str, Any]) -> str:
    """Return the verdict's reason, and the remedy where there is one."""
    from .results import STAGE_WORDS

    rule = found["rule"]
    broken = [check["name"] for check in found["budget"] if check["verdict"] == "exceeded"]
    slower = [STAGE_WORDS[n] for n, s in found["stages"].items() if s["verdict"] == "regress"]
    if found["verdict"] == "pass":
        return f"no stage is slower by {100 * rule['tolerated']:g} % or more"
    if found["verdict"] == "regress":
        reasons = [f"slower: {', '.join(slower)}"] if slower else []
        return "; ".join(reasons + ([f"over budget: {', '.join(broken)}"] if broken else []))
    return "the bounds are still too wide: give more --seconds, a quieter machine, or --clock cpu"


@click.command("gate-trial")
@click.option("--runs", default=100, show_default=True, type=click.IntRange(1), help="Gates of each kind.")
@click.option("--bundle", default="swishnet-slim-int8", show_default=True)
@click.option("--plant", multiple=True, default=("model=1.05",), show_default=True, callback=_plant)
@click.option("--margin", default=2.0, show_default=True)
@click.option("--tolerated", default=5.0, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(5), help="Budget of a gate.")
@click.option("--clock", default="wall", show_default=True, type=click.Choice(["wall", "cpu"]))
@click.option("--out", type=click.Path(path_type=Path), default=Path("gate-trial.jsonl"), show_default=True,
              help="A line for each gate; what is there is not run again.")  # fmt: skip
@click.option("--json", "json_file", metavar="FILE", help="Write the summary as JSON; - for standard output.")
def gate_trial(
    runs: int, bundle: str, plant: dict[str, float], margin: float, tolerated: float, seconds: float, clock: str,
    out: Path, json_file: str | None,
) -> None:  # fmt: skip
    """Try the gate itself: gates with a planted slow-down and gates of a bundle with itself, in turn.

    Every second one of each kind beside a process that loads a core. Counts what was caught and the false alarms,
    with exact intervals. Can be stopped and goes on where it was.

    \b
    Example:
      edge-bench gate-trial --runs 100 --out results/gate-trial.jsonl
    """
    from .gate import GateOptions
    from .gate_trial import render as text
    from .gate_trial import trial

    options = GateOptions(budget_s=seconds, clock=clock, rule=_rule(margin, tolerated))
    summary = trial(bundle, plant, runs, out, options, say=lambda line: click.echo(f"  {line}", err=True))
    if json_file != "-":
        click.echo(text(summary))
    if json_file:
        write_json(json_file, summary)
