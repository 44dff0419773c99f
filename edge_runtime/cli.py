"""Commands that a board has: classify, inspect, verify."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from . import files
from .errors import ConfigError, EdgeBenchError

_backend = click.option(
    "--backend", default="auto", show_default=True, help="auto, litert, tflite-runtime, tf.lite or numpy."
)
_sandbox = click.option(
    "--sandbox", is_flag=True, help="Run the network in a process with limits: for a file from a stranger."
)


def write_json(target: str, value: Any) -> None:
    """Write a value as JSON to a file, aside and renamed, or to standard output for ``-``.

    Raises
    ------
    EdgeBenchError
        If the file cannot be written.
    """
    write_text(target, json.dumps(value) + "\n")


def write_text(target: str, text: str) -> None:
    """Write text to a file in one step, or to standard output for ``-``."""
    if target == "-":
        click.echo(text, nl=False)
    else:
        files.write_text(target, text, parents=False)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--clip", "clip_s", default=2.0, show_default=True, help="Clip length in seconds (0.5, 1 or 2).")
@click.option("--hop", "hop_s", type=float, help="Step between clips in seconds; as long as the clip by default.")
@click.option("--model", default="swishnet-slim-int8", show_default=True, help="A bundle or a shipped name.")
@_backend
@_sandbox
@click.option("--json", "json_file", metavar="FILE", help="Write JSON lines; - for standard output.")
def classify(
    files: tuple[str, ...], clip_s: float, hop_s: float | None, model: str, backend: str, sandbox: bool,
    json_file: str | None,
) -> None:  # fmt: skip
    """Say of each clip of FILES whether it is speech, music or noise.

    Clips do not overlap by default; a tail shorter than a clip is dropped, unless the file has only that. A file that
    cannot be used is reported, the others are still labelled, and the exit code is 2.

    \b
    Example:
      edge-bench classify interview.wav song.flac --clip 1
      edge-bench classify *.wav --json - | jq .label
    """
    from . import audio
    from .classify import Classifier

    lines, failed = [], 0
    schema = "edge-bench/classify/1"
    with Classifier(model, clip_s=clip_s, backend=backend, sandbox=sandbox) as classifier:
        rate = classifier.bundle.front_end.sample_rate
        for file in files:
            try:
                results = classifier.classify(audio.load(file, sample_rate=rate), hop_s=hop_s)
            except EdgeBenchError as error:
                message = str(error)
                click.echo(f"edge-bench: {message if file in message else f'{file}: {message}'}", err=True)
                failed += 1
                continue
            for r in results:
                if json_file:
                    entry = {
                        "schema": schema, "file": file, "start_s": round(r.start_s, 6), "end_s": round(r.end_s, 6),
                        "label": r.label, "probabilities": {k: round(p, 6) for k, p in r.probabilities.items()},
                    }  # fmt: skip
                    lines.append(json.dumps(entry))
                if json_file != "-":
                    click.echo(
                        f"{file}  {r.start_s:8.2f} {r.end_s:8.2f}  {r.label:7s} "
                        + "  ".join(f"{k} {p:.2f}" for k, p in r.probabilities.items())
                    )
    if json_file:
        write_text(json_file, "".join(line + "\n" for line in lines))
    if failed:
        sys.exit(2)


@click.command()
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE [BUNDLE]")
@_backend
@_sandbox
@click.option("--time/--no-time", "timed", default=True, help="Measure each operator's share of the time.")
@click.option("--budget", default=3.0, show_default=True, type=click.FloatRange(0.1), help="Seconds of that, at most.")
@click.option("--plot", metavar="FILE", help="Picture of time, work and bytes by operator (.png, .svg).")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def inspect(
    bundles: tuple[str, ...], backend: str, sandbox: bool, timed: bool, budget: float, plot: str | None,
    json_file: str | None,
) -> None:  # fmt: skip
    """Print what is inside BUNDLE, or what two of them differ in.

    Operators with shapes, quantisation, multiply-accumulates, bytes and share of the time (measured by cutting the
    graph off behind each), memory, receptive field, front end and provenance. Any .tflite will do; what a bundle would
    have told is listed as missing.

    \b
    Example:
      edge-bench inspect swishnet-slim-int8
      edge-bench inspect swishnet-slim-float32 swishnet-slim-int8
      edge-bench inspect foreign.tflite --sandbox --plot foreign.png
    """
    from .inspect import inspect_file
    from .inspect_text import comparison, render, render_comparison

    if len(bundles) > 2:
        raise ConfigError(f"{len(bundles)} bundles were given, inspect takes one or two")
    if plot and len(bundles) > 1:
        raise ConfigError("--plot shows one bundle: name one")
    if plot:
        from edge_bench.benchmarks.inspect_plot import check_format
        from edge_bench.benchmarks.inspect_plot import plot as draw

        check_format(plot)
    reports = [
        inspect_file(name, backend=backend, timed=timed, budget_s=budget, isolate=sandbox) for name in bundles
    ]
    value = reports[0] if len(reports) == 1 else comparison(*reports)
    if plot:
        draw(reports[0], plot)
    if json_file != "-":
        click.echo(render(value) if len(reports) == 1 else render_comparison(value))
    if json_file:
        write_json(json_file, value)


@click.command()
@click.argument("bundle", default="swishnet-slim-int8")
@_backend
@_sandbox
@click.option("--interpreters", is_flag=True, help="Run it on every interpreter here, too, and compare them.")
@click.option("--inputs", default=100, show_default=True, type=click.IntRange(1), help="Random inputs for that.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def verify(
    bundle: str, backend: str, sandbox: bool, interpreters: bool, inputs: int, json_file: str | None
) -> None:
    """Check BUNDLE's checksums, and that this machine gets its golden vectors.

    A feature may differ by 0.01 standard deviations (another numpy or processor rounds otherwise), a quantised output
    by 3 steps (by 16 with numpy, which rounds as TFLite's reference kernels do), a float output by 1e-3. Exit code 1
    when it differs more.

    --interpreters runs random inputs on every interpreter that is installed, each in a process of its own and with
    three sets of kernels, and says by how many steps they differ from the numpy executor and at which operator that
    begins. Exit code 1 when an interpreter's reference kernels differ at all in int8, or one dies.

    \b
    Example:
      edge-bench verify swishnet-slim-int8
      edge-bench verify mine.tflite --interpreters --inputs 1000
    """
    from .bundle import read
    from .classify import check_golden, golden_fine

    built = read(bundle)
    report = check_golden(built, backend=backend, sandbox=sandbox)
    fine = golden_fine(report, built, backend)
    value: dict[str, Any] = {
        "schema": "edge-bench/verify/1", "name": built.name, "sha256": built.sha256, "fine": fine,
        "vectors": report.vectors, "features": report.features, "input_lsb": report.input_lsb,
        "output_lsb": report.output_lsb,
    }  # fmt: skip
    if json_file != "-":
        click.echo(
            f"{built.name}: checksums match; {report.vectors} golden vectors: features within {report.features:.2g}, "
            f"input within {report.input_lsb:g}, output within {report.output_lsb:g}: {'fine' if fine else 'DIFFERS'}"
        )
    if interpreters:
        from .cases import bundle_cases
        from .crosscheck import crosscheck, render, to_dict

        found = crosscheck(
            built.flatbuffer, bundle_cases(built, inputs), say=lambda text: click.echo(f"  {text}", err=True)
        )
        value |= {"interpreters": to_dict(found), "fine": fine and found.fine}
        if json_file != "-":
            click.echo("\n" + render(found))
    if json_file:
        write_json(json_file, value)
    if not value["fine"]:
        sys.exit(1)
