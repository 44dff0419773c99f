"""``edge-bench streams``, ``tune-smoothing``, ``evaluate-segmentation`` and ``false-activations``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_runtime import ConfigError
from edge_runtime.cli import write_json

from .cli import Bar, corpus_option, need_corpus


@click.command()
@corpus_option
@click.option("--split", default="validation", show_default=True, help="train, validation or test.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the streams.")
@click.option("--count", default=500, show_default=True, help="Number of streams.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same corpus: same bytes.")
def streams(corpus: Path | None, split: str, out: Path, count: int, seed: int) -> None:
    """Make streams of 20 to 120 s out of a split's recordings, with label files beside them, to test segmentation.

    Silence, noise, speech and music follow one another with mean lengths of 0.5, 5, 10 and 12 s; half of the
    transitions are cross-faded. An interrupted run goes on where it stopped. A hundred streams take some 230 MB.

    \b
    Example:
      edge-bench streams --corpus ~/corpus --split validation --out ~/streams --count 100
    """
    from . import corpus as corpora
    from .stream_files import write_streams

    manifest = write_streams(
        corpora.load(need_corpus(corpus)), split, out, count=count, seed=seed, progress=Bar()
    )  # fmt: skip
    seconds = sum(f["seconds"] for f in manifest["files"])
    click.echo(f"{len(manifest['files'])} streams, {seconds / 3600:.2f} h: {out}")


def _stream_options(function: Any) -> Any:
    for option in (
        click.option("--streams", "folder", type=click.Path(path_type=Path), help="Folder of edge-bench streams, or "
                     "of recordings with a .lab or .txt beside each."),
        click.option("--limit", type=click.IntRange(min=1), help="Only the first so many streams."),
        click.option("--windows", default="0.5,1,2", show_default=True, help="Clip lengths to slide, in seconds."),
        click.option("--backend", default="auto", show_default=True),
    ):  # fmt: skip
        function = option(function)
    return function


def _windows(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(f"--windows {text!r}: expected seconds separated by commas, such as 0.5,1,2") from None


@click.command("tune-smoothing")
@click.argument("bundle")
@_stream_options
@click.option("--out", "-o", required=True, metavar="FILE", help="JSON for evaluate-segmentation --smoothing.")
def tune_smoothing(
    bundle: str, folder: Path | None, limit: int | None, windows: str, backend: str, out: str
) -> None:
    """Choose BUNDLE's smoothing on validation streams: pooling, delay, median, hysteresis, durations, silence.

    The aim is frame accuracy, plus a twentieth of onset F1. Streams of the test split are refused.

    \b
    Example:
      edge-bench tune-smoothing swishnet-slim-int8 --streams ~/streams -o smoothing.json
    """
    from edge_bench.benchmarks.table import table

    from .segment_evaluate import tune_bundle

    if folder is None:
        raise ConfigError("no streams given: use --streams DIR, see edge-bench streams")
    result = tune_bundle(bundle, folder, _windows(windows), limit=limit, backend=backend, progress=Bar())
    rows = []
    for source, chosen in result["chosen"].items():
        s = chosen["smoothing"]
        silence = "-" if s["silence_dbfs"] is None else f"{s['silence_dbfs']:g} dBFS, {s['minimum_silence_s']:g} s"
        rows.append(
            [source, str(s["pool"]), str(s["delay"]), str(s["median"]), f"{s['enter']:g} / {s['leave']:g}",
             ", ".join(f"{k} {v:g}" for k, v in s["minimum_s"].items()) or "-", silence,
             f"{100 * chosen['frame_accuracy']:.2f}", f"{100 * chosen['onset_f1']:.1f}"]
        )  # fmt: skip
    header = ["window", "pool", "delay", "median", "enter / leave", "shortest, s", "silence", "accuracy", "onset F1"]
    if out != "-":
        click.echo(table(header, rows))
    write_json(out, result)


@click.command("evaluate-segmentation")
@click.argument("bundles", nargs=-1, required=True)
@_stream_options
@click.option("--recording", "recordings", nargs=2, multiple=True, type=click.Path(path_type=Path),
              metavar="AUDIO LABELS", help="An annotated recording; may be repeated.")  # fmt: skip
@click.option("--split", default="validation", show_default=True, help="Split that the streams must be made of.")
@click.option("--smoothing", multiple=True, type=click.Path(path_type=Path), help="JSON of tune-smoothing, by bundle.")
@click.option("--log", default="results/test-log.jsonl", show_default=True, help="Looks at the test split go here.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw one stream as a PNG.")
@click.option("--plot-file", default=0, show_default=True, help="Number of the stream to draw.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def evaluate_segmentation(
    bundles: tuple[str, ...], folder: Path | None, limit: int | None, windows: str, backend: str,
    recordings: tuple[tuple[Path, Path], ...], split: str, smoothing: tuple[Path, ...], log: str, plot: Path | None,
    plot_file: int, json_file: str | None,
) -> None:  # fmt: skip
    """Score who sounds when: BUNDLES' dense form and sliding windows on annotated streams.

    Without smoothing, with the paper's median of 200 frames, and with what tune-smoothing chose. Frame accuracy leaves
    silence out; intervals are 95 %, from a bootstrap over files.

    \b
    Example:
      edge-bench streams --corpus ~/corpus --split validation --out ~/streams
      edge-bench tune-smoothing swishnet-slim-int8 --streams ~/streams -o smoothing.json
      edge-bench evaluate-segmentation swishnet-slim-int8 --streams ~/streams --smoothing smoothing.json
    """
    from .segment_evaluate import cells, draw, evaluate, gather, read_choices

    streams = gather(folder, recordings, bundles, split=split, limit=limit)
    choices = read_choices(smoothing, bundles)
    result, tracks = evaluate(
        bundles, streams, _windows(windows), choices=choices, backend=backend, log=Path(log), progress=Bar()
    )
    if json_file != "-":
        from edge_bench.benchmarks.table import table

        where = f"split {streams.split}, seed {streams.seed}" if streams.split else "own recordings"
        click.echo(f"{len(streams.files)} files, {where}; frame accuracy / speech-non-speech, percent")
        click.echo(table(*cells(result, "paper")))
        click.echo()
        click.echo("percent; accuracy with its 95 % interval")
        click.echo(table(*cells(result, "scores")))
    if plot:
        draw(bundles[0], streams, tracks, choices, plot_file, plot)
    if json_file:
        write_json(json_file, result)


@click.command("false-activations")
@click.argument("bundles", nargs=-1, required=True)
@corpus_option
@click.option("--split", default="validation", show_default=True, help="train, validation or test.")
@click.option("--noise", default="noise", show_default=True, help="The class that is not to activate anything.")
@click.option("--smoothing", multiple=True, type=click.Path(path_type=Path), help="JSON of tune-smoothing, by bundle.")
@click.option("--log", default="results/test-log.jsonl", show_default=True, help="Looks at the test split go here.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw what is found against false activations.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def false_activations(
    bundles: tuple[str, ...], corpus: Path | None, split: str, noise: str, smoothing: tuple[Path, ...], log: str,
    plot: Path | None, json_file: str | None,
) -> None:  # fmt: skip
    """How often an hour BUNDLES hear something else in noise, and what a limit on confidence (--unknown) costs.

    A row for each limit: segments taken for another class by the hour of noise, and the share of the time of the other
    classes that is still found. Intervals are 95 %, from a bootstrap over groups.

    \b
    Example:
      edge-bench false-activations swishnet-slim-int8 --corpus ~/corpus
      edge-bench false-activations swishnet-slim-int8 swishnet-wide-int8 --corpus ~/corpus --plot alarms.png
    """
    from edge_bench.benchmarks.table import table
    from edge_runtime.bundle import read

    from . import corpus as corpora
    from . import false_activations as alarms
    from .posteriors import DENSE
    from .segment_evaluate import read_choices

    choices = read_choices(smoothing, bundles)
    whole = corpora.load(need_corpus(corpus), complete=False)
    results = []
    for path in bundles:
        bundle = read(path)
        results.append(
            alarms.evaluate(bundle, path, whole, split, choices.get(bundle.name, {}).get(DENSE), noise=noise,
                            log=Path(log), progress=Bar())
        )  # fmt: skip
    if json_file != "-":
        for result in results:
            hours = result["hours"][noise]
            click.echo(f"{result['model']} on {split}: false activations in {hours:.2f} h of {noise}")
            click.echo(table(*alarms.cells(result)))
    if plot:
        alarms.draw(results, plot)
    if json_file:
        write_json(json_file, {"schema": alarms.SCHEMA, "results": results})
