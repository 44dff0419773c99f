"""``edge-bench evaluate``: one model, several side by side, and under noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime import ConfigError
from edge_runtime.cli import write_json

from .cli import Bar, corpus_option, import_tensorflow, need_corpus

if TYPE_CHECKING:
    from .evaluate import Answers


def numbers(text: str, option: str) -> list[float]:
    """Return the numbers of a list with commas.

    Raises
    ------
    ConfigError
        If a part is no number.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is no list of numbers such as 0.5,1,2") from None


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@corpus_option
@click.option("--split", default="validation", show_default=True, help="train, validation or test.")
@click.option("--clips", default="0.5,1,2", show_default=True, help="Clip lengths in seconds.")
@click.option("--gain", default=0.0, show_default=True, help="Change the level of everything by so many dB.")
@click.option("--snr", metavar="DB,...", help="Also mix speech and music with noise, as 20,15,10,5,0,-5,-10.")
@click.option("--seed", default=0, show_default=True, help="Which noises --snr draws.")
@click.option("--backend", default="auto", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Feature cache; or EDGE_BENCH_CACHE.")
@click.option("--log", default="results/test-log.jsonl", show_default=True, help="Looks at the test split go here.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw confusion, ROC and reliability as a PNG.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def evaluate(
    models: tuple[str, ...], corpus: Path | None, split: str, clips: str, gain: float, snr: str | None, seed: int,
    backend: str, cache: Path | None, log: str, plot: Path | None, json_file: str | None,
) -> None:  # fmt: skip
    """Score each MODEL (a bundle, a shipped name, or a training's folder) on a split of the corpus.

    Clips overlap by half. Intervals are 95 %, from a bootstrap over groups (speakers, tracks) within each class. Of
    several models each is compared with the first on the same clips: the difference of class-average F1 in points, its
    interval from a paired bootstrap, and the share of the samples in which it is below zero.

    With --snr the picture of --plot FILE.png gets a second beside it, FILE-snr.png.

    \b
    Example:
      edge-bench evaluate swishnet-slim-int8 --corpus ~/corpus --split test --json test.json
      edge-bench evaluate swishnet-slim-int8 runs/mine --corpus ~/corpus --plot both.png
      edge-bench evaluate swishnet-slim-int8 --corpus ~/corpus --snr 20,15,10,5,0,-5,-10 --plot slim.png
    """
    lengths = numbers(clips, "--clips")
    if not all(0 < s <= 60 for s in lengths):
        raise ConfigError(f"--clips: {clips!r} holds a length that is not above 0 and at most 60 s")
    root = need_corpus(corpus)
    if any(map(_is_training, models)):
        import_tensorflow()
    from . import snr as noisy
    from .evaluate import answers, differences, score, write_log

    ratios = noisy.check_ratios(numbers(snr, "--snr")) if snr is not None else ()
    common: dict[str, Any] = {"clip_s": lengths, "backend": backend, "cache": cache, "progress": Bar()}
    found, results = [], []
    for model in models:
        found.append(answers(model, root, split, gain_db=gain, **common))
        if found[-1].classes != found[0].classes:
            found[-1] = found[-1].ordered(found[0].classes)
        result = score(found[-1], path=model, split=split, gain_db=gain)
        if split == "test":
            write_log(result, Path(log))
        if ratios:
            result["snr"] = noisy.sweep(model, root, split, ratios, seed=seed, **common)
        results.append(result)
    apart = [differences(found[0], other) for other in found[1:]]

    if json_file != "-":
        level = f", level {gain:+g} dB" if gain else ""
        who = results[0]["model"] if len(models) == 1 else f"{len(models)} models"
        click.echo(f"{who} on {split} of {root}, corpus {results[0]['corpus']}{level}, percent")
        click.echo(_scores(results, _labels(results), apart))
        if absent := results[0]["absent"]:
            click.echo(f"The split holds no {' and no '.join(absent)}: F1 is over the other classes.")
        if len(models) == 1:
            _errors(results[0])
        for label, result in zip(_labels(results), results, strict=True):
            if ratios:
                click.echo(f"\n{label} under noise, {result['clip_s']:g} s clips; AUC against noise alone")
                click.echo(_sweep(result["snr"][f"{result['clip_s']:g}"], result))
    if plot:
        _draw(found, results, plot)
    if json_file:
        write_json(json_file, results[0] if len(models) == 1 else {
            "schema": "edge-bench/evaluations/1",
            "evaluations": results,
            "differences": [
                {"model": r["path"], "against": results[0]["path"], "clips_by_length": d}
                for r, d in zip(results[1:], apart, strict=True)
            ],
        })  # fmt: skip


def _is_training(model: str) -> bool:
    return model.endswith(".keras") or Path(model).is_dir()


def _labels(results: list[dict[str, Any]]) -> list[str]:
    """Return what the models are called: their names, or what the user typed where two have the same name."""
    names = [r["model"] for r in results]
    return names if len(set(names)) == len(names) else [r["path"] for r in results]


def _scores(results: list[dict[str, Any]], labels: list[str], apart: list[dict[str, Any]]) -> str:
    """Return the table: a row for each clip length and model."""
    from edge_bench.benchmarks.table import table

    several = len(results) > 1
    header = ["clip", *(["model"] if several else []), "clips", "overall", "speech/non", "F1", "95 %",
              *(["F1 more", "95 %", "below 0"] if several else []), "AUC", "cal. error",
              *(f"{c} recall" for c in results[0]["classes"])]  # fmt: skip
    rows = []
    for key in results[0]["clips_by_length"]:
        for number, (label, result) in enumerate(zip(labels, results, strict=True)):
            r = result["clips_by_length"][key]
            low, high = r["intervals"]["macro_f1"]
            row = [f"{key} s", *([label] if several else []), f"{r['clips']:,}", f"{100 * r['overall']:.2f}",
                   "-" if r["speech_nonspeech"] is None else f"{100 * r['speech_nonspeech']:.2f}",
                   f"{100 * r['macro_f1']:.2f}", f"{100 * low:.1f} to {100 * high:.1f}"]  # fmt: skip
            if several and number == 0:
                row += ["-", "-", "-"]
            elif several:
                more = apart[number - 1][key]["macro_f1"]
                low, high = more["interval"]
                row += [f"{100 * more['delta']:+.2f}", f"{100 * low:+.1f} to {100 * high:+.1f}",
                        f"{100 * more['below_zero']:.0f}"]  # fmt: skip
            row += ["-" if r["macro_auc"] is None else f"{100 * r['macro_auc']:.2f}",
                    f"{100 * r['calibration_error']:.1f}", *_recalls(r["recall"], result)]
            rows.append(row)  # fmt: skip
    return table(header, rows)


def _recalls(recall: dict[str, float], result: dict[str, Any]) -> list[str]:
    return ["-" if name in result["absent"] else f"{100 * value:.1f}" for name, value in recall.items()]


def _errors(result: dict[str, Any]) -> None:
    """Print the collections and the recordings with most errors at the longest clip length."""
    longest = f"{result['clip_s']:g}"
    for row in result["errors_by_source"][longest][:5]:
        if row["errors"]:
            click.echo(f"  {row['errors']} of {row['clips']} clips in {row['recordings']} {row['label']} recordings "
                       f"taken for {row['taken_for']} most: {row['source']}")  # fmt: skip
    for row in result["errors"][longest][:10]:
        click.echo(f"  {row['errors']} of {row['clips']} clips taken for {row['taken_for']}: {row['file']}")


def _sweep(rows: list[dict[str, Any]], result: dict[str, Any]) -> str:
    """Return the table of an SNR sweep."""
    from edge_bench.benchmarks.table import table

    targets = list(rows[0]["auc"])
    header = ["SNR", *(cell for name in targets for cell in (f"{name} AUC", "95 %")), "F1", "95 %",
              *(f"{c} recall" for c in result["classes"]), "noise precision"]  # fmt: skip
    lines = []
    for r in rows:
        line = ["clean" if r["snr_db"] is None else f"{r['snr_db']:g} dB"]
        for name in targets:
            low, high = r["intervals"]["auc"][name]
            line += [f"{r['auc'][name]:.3f}", f"{low:.3f} to {high:.3f}"]
        low, high = r["intervals"]["macro_f1"]
        line += [f"{100 * r['macro_f1']:.1f}", f"{100 * low:.1f} to {100 * high:.1f}"]
        line += [*_recalls(r["recall"], result), f"{100 * r['precision']['noise']:.1f}"]
        lines.append(line)
    return table(header, lines)


def _draw(found: list[Answers], results: list[dict[str, Any]], plot: Path) -> None:
    """Draw one model at every clip length, or several at the longest; and their sweeps, if there are any."""
    from . import pictures

    if len(found) == 1:
        rows = {f"{s:g} s": (results[0]["clips_by_length"][f"{s:g}"], *pair) for s, pair in found[0].clips.items()}
    else:
        rows = {
            label: (r, *one.clips[r["clip_s"]]) for label, one, r in zip(_labels(results), found, results, strict=True)
        }
    pictures.draw_evaluation(rows, found[0].classes, plot)
    if "snr" in results[0]:
        sweeps = {label: r["snr"][f"{r['clip_s']:g}"] for label, r in zip(_labels(results), results, strict=True)}
        pictures.draw_sweeps(sweeps, plot.with_name(f"{plot.stem}-snr{plot.suffix}"))
