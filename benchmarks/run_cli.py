"""``edge-bench run``: the main job on the command line."""

from __future__ import annotations

from typing import Any

import click

from edge_bench.boards.board_options import board_options
from edge_runtime.cli import write_json


def _clips(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of seconds such as 0.5,1,2") from None


def _precision(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        precision = float(value.removesuffix("%")) / 100
    except ValueError:
        precision = 0.0
    if not 0.0005 <= precision <= 0.5:
        raise click.BadParameter(f"{value!r} is not a percentage from 0.05 to 50, such as 1%")
    return precision


@click.command()
@click.argument("bundle", default="swishnet-slim-int8")
@click.option("--clips", default="0.5,1,2", show_default=True, callback=_clips, help="Clip lengths in seconds.")
@click.option("--rounds", type=click.IntRange(10), help="Samples, at most: 1000, or 100,000 with --precision.")
@click.option("--budget", default=10.0, show_default=True, type=click.FloatRange(0.1), help="Seconds, at most.")
@click.option("--precision", callback=_precision, metavar="PERCENT",
              help="Stop once every median is known to +- this, such as 1% (or the budget ends).")  # fmt: skip
@click.option("--cold", default=3, show_default=True, type=click.IntRange(1), help="Fresh processes for cold calls.")
@click.option("--backend", default="auto", show_default=True, help="auto, litert, tflite-runtime, tf.lite or numpy.")
@click.option("--sandbox", is_flag=True, help="Run the network in a process with limits: for a file from a stranger.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--delegate", type=click.Path(), help="Shared library of an external delegate.")
@click.option("--rate", type=click.FloatRange(0.01, 10_000), metavar="HZ",
              help="Also label so many clips a second, as an application would.")  # fmt: skip
@click.option("--pin/--no-pin", default=True, help="Keep a measuring process with one thread on its quietest core.")
@click.option("--instructions", is_flag=False, flag_value="auto", metavar="[SOURCE]",
              help="Count instructions, too: auto (the default), perf or callgrind.")  # fmt: skip
@click.option("--against", multiple=True, metavar="NAME|FILE[:FRONT_END]",
              help="Also time yamnet, silero, mlperf-kws, or any .tflite or .onnx, in turns with BUNDLE.")  # fmt: skip
@click.option("--json", "json_file", metavar="FILE", help="Write the result with its raw samples; - for stdout.")
@board_options("run")
def run(
    bundle: str, clips: tuple[float, ...], rounds: int | None, budget: float, precision: float | None, cold: int,
    backend: str, threads: int, delegate: str | None, sandbox: bool, rate: float | None,
    pin: bool, instructions: str | None, against: tuple[str, ...], json_file: str | None,
) -> None:  # fmt: skip
    """Benchmark BUNDLE (a path or a shipped name) on this machine, or on a board.

    Times the front end (samples to features), the model (features to probabilities: quantise, set, invoke, get) and
    both together, each by itself, for every clip length, in a fresh process, on sound made at run time. "+-" is how
    well the median is known (95 %), "cold" the first call of a fresh process, "after idle" the first after a pause.
    Memory: RSS is what the process holds, PSS shares common pages among processes (`edge-bench memory` tells more).

    A FILE of --against is a network that takes samples, or features of a front end that is named behind a colon: ours,
    log-mel, mfcc or power, with settings such as mfcc,mel_bands=40,coefficients=10,hop_length=320.

    \b
    Example:
      edge-bench run
      edge-bench run --against yamnet --against theirs.tflite:log-mel,mel_bands=40
      edge-bench run swishnet-wide-int8 --json wide.json
      edge-bench run --precision 1% --budget 60
      edge-bench run --board pi4 --host pi@192.168.1.20
    """
    from .peers import find
    from .run import RunOptions
    from .run import run as measure

    options = RunOptions(
        clips=clips, rounds=rounds or (100_000 if precision else 1000), budget_s=budget, precision=precision, cold=cold,
        backend=backend, threads=threads, delegate=delegate, sandbox=sandbox, rate=rate, pin=pin,
        instructions=instructions, against=tuple(find(text) for text in against),
    )
    result = measure(bundle, options, say=lambda text: click.echo(f"  {text}", err=True))
    if json_file != "-":
        click.echo(render(result))
    if json_file:
        write_json(json_file, result)
        if json_file != "-":
            click.echo(f"\nraw samples: {json_file}")


def _around(times: dict[str, Any]) -> str:
    """Return how well a median is known, in percent."""
    low, high = times["interval"]
    return "?" if low is None or high is None else f"{50 * (high - low) / times['p50']:.1f} %"


def render(result: dict[str, Any]) -> str:
    """Return a result as text for people."""
    from .table import micro, size, table

    model, about, memory = result["model"], result["context"], result["memory"]
    machine = about["machine"]
    rows = []
    for clip in result["clips"]:
        for stage, label in (("frontend", "front end"), ("model", "model"), ("total", "total")):
            t = clip["stages"][stage]
            rows.append(
                [f"{clip['clip_s']:g} s  {label}", micro(t["p50"]), _around(t),
                 *(micro(t[k]) for k in ("p90", "p99", "cold")),
                 micro(clip["after_idle"]) if stage == "total" and clip["after_idle"] else "",
                 f"{1 / clip['real_time_factor']:,.0f} x" if stage == "total" else ""]
            )  # fmt: skip
    mib = 1 << 20

    def both(stage: str) -> str:
        pss = memory["pss"].get(stage)
        rss = memory[stage]
        if rss is None:
            return "-"
        return f"{rss / mib:.1f}" + (f" ({pss / mib:.1f})" if pss else "")

    governor = f", governor {machine['governor']}" if machine["governor"] else ""
    heat = f", {about['after']['temperature_c']:.0f} C" if about["after"]["temperature_c"] is not None else ""
    lines = [
        f"{model['name']}: {model['parameters']:,} parameters, {size(model['bytes'])} "
        f"({size(model['model_bytes'])} without the bundle part), {model['precision']}",
        f"{model['backend']} {model['backend_version']}, {model['threads']} thread(s), "
        f"{model['delegated_nodes']} of {model['nodes']} nodes delegated",
        f"{machine['board'] or machine['cpu']}, {machine['cores']} core(s), {machine['architecture']}{governor}, "
        f"load {about['before']['load']}{heat}; Python {about['python']}, numpy {about['numpy']}",
        "",
        table(["clip", "p50", "+-", "p90", "p99", "cold", "after idle", "real time"], rows),
        "",
        "memory, RSS (PSS) in MiB: "
        + ", ".join(f"{label} {both(k)}" for k, label in (
            ("after_import", "after import"), ("after_load", "after load"), ("steady", "steady"), ("peak", "peak"),
        )),
        f"start: import {micro(result['start']['import'])}, load {micro(result['start']['load'])}",
    ]  # fmt: skip
    if result.get("instructions"):
        from .instructions_cli import line

        lines.append(line(result["instructions"]))
    if result.get("at_rate"):
        paced = result["at_rate"]
        lines.append(
            f"at {paced['rate']:g} clips of {paced['clip_s']:g} s a second: p50 {micro(paced['p50'])}, "
            f"p99 {micro(paced['p99'])}, {paced['late']} of {paced['calls']} calls began late"
        )
    if result.get("against"):
        from .against import render as beside

        lines += ["", beside(result["against"]), ""]
    s = result["sampling"]
    stages = [t for clip in result["clips"] for t in clip["stages"].values()]
    flagged, count = sum(t.get("outliers", 0) for t in stages), sum(len(t["samples"]) for t in stages)
    core = "" if s.get("core") is None else f" on core {s['core']}"
    lines.append(
        f"{s['rounds']} rounds{core} after {s['warm_up_s']:.1f} s of warm-up, ended by {s['ended']}; "
        f"{flagged:,} of {count:,} samples stand out, none is dropped"
    )
    lines += [f"note: {remark}" for remark in about["remarks"]]
    return "\n".join(lines)
