"""``edge-bench gate`` and ``edge-bench gate-trial``."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import click

from edge_bench.boards.board_options import board_options
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
@click.option("--instructions", is_flag=False, flag_value="auto", metavar="[SOURCE]",
              help="Decide by instruction counts, by auto (the default), perf or callgrind.")  # fmt: skip
@click.option("--margin", type=click.FloatRange(0), metavar="PERCENT",
              help="Slow-down that never alarms: 2, or 0.5 with --instructions.")  # fmt: skip
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
@board_options("gate")
def gate(
    candidate: str, baseline: str, build: str | None, board: Path | None, evaluations: tuple[Path, Path] | None,
    instructions: str | None, margin: float | None, tolerated: float, seconds: float, clip_s: float, clock: str,
    backend: str, threads: int, plant: dict[str, float], seed: int | None, force: bool, json_file: str | None,
) -> None:  # fmt: skip
    """Say whether CANDIDATE is slower than the baseline: pass (exit code 0), regress (1), inconclusive (3).

    Bundles are measured here, now, in pairs of fresh processes that take turns; a file of `edge-bench run --json` is
    taken as it is. An alarm needs the lower bound of the slow-down above --margin and above what two baselines differ
    by; a pass needs its upper bound below --tolerated. --budget adds absolute limits, such as a board's profile has.
    --instructions counts in place of timing: exact whatever else runs, but blind to caches and waiting; a ref of
    this project then means its edge_runtime, too.

    \b
    Example:
      edge-bench gate new.tflite --baseline swishnet-slim-int8
      edge-bench gate swishnet-slim-int8 --baseline main --instructions
      edge-bench gate new.tflite --baseline old.tflite --budget board.toml --json gate.json
      edge-bench gate model.tflite --baseline origin/main
      edge-bench gate new.tflite --baseline old.tflite --board pi4 --host pi@192.168.1.20
    """
    if instructions:
        from . import budget

        limits = budget.read(board) if board else {}
        found = _by_count(
            candidate, baseline, build, instructions, margin, clip_s, backend, plant, force, limits=limits
        )
        finish(found, json_file)
    from .gating import gate_any

    options = options_of(
        board=board, evaluations=evaluations, margin=2.0 if margin is None else margin, tolerated=tolerated,
        clip_s=clip_s, budget_s=seconds, clock=clock, backend=backend, threads=threads, plant=plant, seed=seed,
    )  # fmt: skip
    finish(gate_any(candidate, baseline, options, build=build, force=force, say=_progress), json_file)


def _by_count(
    candidate: str, baseline: str, build: str | None, source: str, margin: float | None, clip_s: float, backend: str,
    plant: dict[str, float], force: bool, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    from .gate_instructions import MARGIN, CountOptions, gate, turns

    options = CountOptions(
        margin=MARGIN if margin is None else margin / 100, clip_s=clip_s, source=source, backend=backend, force=force,
        **more,
    )  # fmt: skip
    if plant:
        options = replace(options, plant=turns(plant, candidate, options))
    return gate(candidate, baseline, options, build=build, say=_progress)


def by_counter(given: dict[str, Any], counter: Any) -> NoReturn:
    """Gate by instructions that `counter` counts, with the command line's options, and end."""
    names = ("candidate", "baseline", "build", "margin", "clip_s", "backend", "plant", "force")
    found = _by_count(**{name: given[name] for name in names}, source="auto", counter=counter)
    finish(found, given["json_file"])


def finish(found: dict[str, Any], json_file: str | None) -> NoReturn:
    """Show or write a verdict, and end with its exit code."""
    from .verdict import EXIT_CODES

    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    if json_file != "-":
        click.echo(render_counts(found) if found.get("clock") == "instructions" else render(found))
    if json_file:
        write_json(json_file, found)
    sys.exit(EXIT_CODES[found["verdict"]])


def render_counts(found: dict[str, Any]) -> str:
    """Return the result of a gate by instruction counts as text for people."""
    from .instructions_cli import WORDS
    from .table import table

    rows = [
        [WORDS[name], f"{row['baseline']:,}", f"{row['candidate']:,}", f"{100 * (row['ratio'] - 1):+.3f} %",
         row["verdict"]]
        for name, row in found["stages"].items()
    ]  # fmt: skip
    margin = f"{100 * found['rule']['margin']:g} %"
    grown = [WORDS[name] for name, row in found["stages"].items() if row["verdict"] == "regress"]
    over = [check["name"] for check in found["budget"] if check["verdict"] == "exceeded"]
    limits = [f"budget: {c['name']} {c['value']:,.0f} of {c['limit']:,.0f}: {c['verdict']}" for c in found["budget"]]
    why = f"grown by more than {margin}: {', '.join(grown)}" if grown else f"nothing has grown by more than {margin}"
    why += f"; over budget: {', '.join(over)}" if over else ""
    lines = [
        f"{found['candidate']['bundle']} against {found['baseline']['bundle']}, {found['clip_s']:g} s clips, "
        f"instructions by {found['source']}",
        "",
        table(["", "baseline", "candidate", "change", ""], rows),
        "",
        *limits,
        f"{found['verdict'].upper()}: {why}",
    ]
    if found["planted"]:
        lines.append(f"note: planted on purpose: a loop of so many turns: {found['planted']}")
    return "\n".join([*lines, *(f"note: {remark}" for remark in found["context"]["remarks"])])


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
@click.option("--instructions", is_flag=False, flag_value="auto", metavar="[SOURCE]",
              help="Try the gate by instruction counts, by auto (the default), perf or callgrind.")  # fmt: skip
@click.option("--plant", multiple=True, callback=_plant, metavar="STAGE=FACTOR",
              help="What is planted: model=1.05, or model=1.01 with --instructions.")  # fmt: skip
@click.option("--margin", type=click.FloatRange(0), help="Percent: 2, or 0.5 with --instructions.")
@click.option("--tolerated", default=5.0, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(5), help="Budget of a gate.")
@click.option("--clock", default="wall", show_default=True, type=click.Choice(["wall", "cpu"]))
@click.option("--out", type=click.Path(path_type=Path), default=Path("gate-trial.jsonl"), show_default=True,
              help="A line for each gate; what is there is not run again.")  # fmt: skip
@click.option("--json", "json_file", metavar="FILE", help="Write the summary as JSON; - for standard output.")
def gate_trial(
    runs: int, bundle: str, instructions: str | None, plant: dict[str, float], margin: float | None, tolerated: float,
    seconds: float, clock: str, out: Path, json_file: str | None,
) -> None:  # fmt: skip
    """Try the gate itself: gates with a planted slow-down and gates of a bundle with itself, in turn.

    Every second one of each kind beside a process that loads a core. Counts what was caught and the false alarms,
    with exact intervals. With --instructions each side is counted anew, out of another folder. Can be stopped and goes
    on where it was.

    \b
    Example:
      edge-bench gate-trial --runs 100 --out results/gate-trial.jsonl
      edge-bench gate-trial --instructions --runs 50 --out results/gate-trial-instructions.jsonl
    """
    from .trial_lines import render as text

    def say(line: str) -> None:
        click.echo(f"  {line}", err=True)

    if instructions:
        from . import instructions_trial
        from .gate_instructions import MARGIN, CountOptions

        how = CountOptions(margin=MARGIN if margin is None else margin / 100, source=instructions)
        summary = instructions_trial.trial(bundle, plant or {"model": 1.01}, runs, out, how, say=say)
    else:
        from . import gate_trial as timed
        from .gate import GateOptions

        options = GateOptions(budget_s=seconds, clock=clock, rule=_rule(2.0 if margin is None else margin, tolerated))
        summary = timed.trial(bundle, plant or {"model": 1.05}, runs, out, options, say=say)
    if json_file != "-":
        click.echo(text(summary))
    if json_file:
        write_json(json_file, summary)
