"""Commands for what single sources do: trials, music maps, signal-to-noise ratios, views of features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edge_runtime import ConfigError, EdgeBenchError
from edge_runtime.cli import write_json

from .cli import Bar, corpus_option, import_tensorflow, need_corpus

_PATH = click.Path(path_type=Path)


def _cache_option(function: Any) -> Any:
    return click.option("--cache", type=_PATH, help="Feature cache; or EDGE_BENCH_CACHE.")(function)


def _json_option(function: Any) -> Any:
    return click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")(function)


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeBenchError(f"{path}: cannot be made: {error.strerror or error}") from None
    return path


@click.command()
@click.argument("recipes", nargs=-1, required=True)
@corpus_option
@click.option("--extra", multiple=True, type=_PATH, help="A folder to add, see render-midi.")
@click.option("--trials", "count", default=50, show_default=True, help="Random splits.")
@click.option("--epochs", default=6, show_default=True, help="Epochs of each training.")
@click.option("--share", default=0.8, show_default=True, help="Of each class' groups, to train on.")
@click.option("--per-class", default=0, help="Recordings of each class, for a small corpus; all by default.")
@click.option("--out", type=_PATH, help="Folder for the results; runs/trials by default.")
@_cache_option
@_json_option
def trials(
    recipes: tuple[str, ...], corpus: Path | None, extra: tuple[Path, ...], count: int, epochs: int, share: float,
    per_class: int, out: Path | None, cache: Path | None, json_file: str | None,
) -> None:  # fmt: skip
    """Compare RECIPES on many random splits of the train split: mean accuracy and F1, and their distribution.

    Every recipe gets the same splits, by group; p is against the first. Writes trials.jsonl, trials.json,
    distribution.png and confusion.png; run it again to continue after an interruption.

    \b
    Example:
      edge-bench trials separable-single separable-plain separable --per-class 22   # 66 recordings, as the source
      edge-bench trials poolnet poolnet-conv --trials 1 --epochs 10                 # one 80/20 split by file
    """
    from edge_bench.benchmarks.table import table

    from . import pictures
    from .experiment import load
    from .trials import TrialsConfig, draw, run

    named = {Path(recipe).stem: load(recipe) for recipe in recipes}
    if len(named) < len(recipes):
        raise ConfigError("trials: two recipes have the same name; rename a file")
    config = TrialsConfig(trials=count, epochs=epochs, share=share, per_class=per_class)
    import_tensorflow()
    folder = _folder(out or Path("runs") / "trials")
    result = run(
        named, need_corpus(corpus), folder, config, extra=extra, cache=cache, progress=Bar(),
        say=lambda s: click.echo(s, err=True),
    )  # fmt: skip
    found = result["recipes"]
    write_json(str(folder / "trials.json"), result)
    draw(result, folder / "distribution.png")
    pictures.draw_confusions(found, result["classes"], folder / "confusion.png")
    if json_file != "-":
        rows = [
            [name, f"{100 * r['accuracy']:.1f}", f"{100 * r['accuracy_sd']:.1f}", f"{100 * r['f1']:.1f}",
             f"{100 * r['f1_sd']:.1f}", "-" if r["p"] is None else f"{r['p']:.3g}"]
            for name, r in found.items()
        ]  # fmt: skip
        click.echo(f"{count} splits of the train split, corpus {result['corpus']}, percent: {folder}")
        click.echo(table(["recipe", "accuracy", "s.d.", "F1", "s.d.", f"p against {next(iter(found))}"], rows))
        for name, r in found.items():
            worst = ", ".join(f"{file} ({n})" for file, n in list(r["errors"].items())[:5])
            click.echo(f"  most errors of {name}: {worst or 'none'}")
    if json_file:
        write_json(json_file, result)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--model", default="runs/musicnoise", show_default=True, help="Folder of a trained musicnoise.")
@click.option("--out", default=".", show_default=True, type=_PATH, help="Folder for pictures and WAV files.")
@click.option("--bandwidth", default=8000.0, show_default=True, help="Judge up to here, in Hz; what is above goes.")
@click.option("--soft", is_flag=True, help="Weaken by the probability, instead of keeping or silencing.")
@_json_option
def musicmap(
    files: tuple[str, ...], model: str, out: Path, bandwidth: float, soft: bool, json_file: str | None
) -> None:
    """Find the music in FILES and cut it out: NAME.music.png (spectrogram, map, what stays) and NAME.music.wav.

    \b
    Example:
      edge-bench train musicnoise
      edge-bench musicmap street.wav --out maps
    """
    import_tensorflow()
    import numpy as np

    from edge_runtime import audio
    from edge_runtime.wav import write_wav

    from .inputs import MUSICNOISE_RATE
    from .musicmap import draw, music_map
    from .systems import open_system

    if not 0 < bandwidth <= MUSICNOISE_RATE / 2:
        raise ConfigError(f"--bandwidth is {bandwidth:g}, must be above 0 and at most {MUSICNOISE_RATE // 2}")
    _distinct(files)
    system = open_system(model, "musicnoise")
    column = list(system.classes).index("music")
    entries = []
    for file in files:
        samples = audio.load(file, sample_rate=MUSICNOISE_RATE)
        try:
            found = music_map(system.predict, system.inputs.config, samples, music=column, bandwidth=bandwidth)
        except EdgeBenchError as error:
            raise type(error)(f"{file}: {error}") from None
        wave, picture = (_folder(out) / f"{Path(file).stem}.music{suffix}" for suffix in (".wav", ".png"))
        music = found.music(soft=soft)[: len(samples)]
        write_wav(wave, music, MUSICNOISE_RATE)
        draw(found, picture, soft=soft, title=Path(file).name)
        share = float(np.nanmean(found.units > 0.5))
        entries.append(
            {"file": file, "wav": str(wave), "picture": str(picture), "music_units": share,
             "probability": [[None if np.isnan(p) else round(float(p), 4) for p in row] for row in found.units]}
        )  # fmt: skip
        if json_file != "-":
            click.echo(f"{file}: {share:.0%} of the map is music: {wave}, {picture}")
    if json_file:
        write_json(json_file, {"schema": "edge-bench/musicmap/1", "bandwidth": bandwidth, "files": entries})


def _distinct(files: Sequence[str]) -> None:
    if len({Path(file).stem for file in files}) < len(files):
        raise ConfigError("two files have the same name, and so would have their results: take them one by one")


@click.command("music-snr")
@click.argument("model")
@corpus_option
@click.option("--split", default="validation", show_default=True, type=click.Choice(["train", "validation"]))
@click.option("--snr", default="20,10,0,-10,-20", show_default=True, help="Ratios in dB, music to noise.")
@click.option("--seed", default=0, show_default=True, help="Which noise meets which music.")
@click.option("--plot", type=_PATH, help="Draw the curves as a PNG.")
@_cache_option
@_json_option
def music_snr(
    model: str, corpus: Path | None, split: str, snr: str, seed: int, plot: Path | None, cache: Path | None,
    json_file: str | None,
) -> None:  # fmt: skip
    """Tell music from noise at several signal-to-noise ratios, window by window: the area under the curve.

    MODEL is the folder of a trained network that knows music and noise, such as musicnoise or a baseline.

    \b
    Example:
      edge-bench music-snr runs/musicnoise --plot roc.png
    """
    try:
        ratios = [float(part) for part in snr.split(",")]
    except ValueError:
        raise ConfigError(f"--snr is {snr!r}, must be numbers with commas between, such as 20,0,-10") from None
    import_tensorflow()
    from edge_bench.benchmarks.table import table

    from .music_snr import curves, draw
    from .systems import find

    system = find(model)
    if system is None or not {"music", "noise"} <= set(system.classes):
        raise ConfigError(f"{model}: holds no system that knows music and noise; edge-bench train musicnoise makes one")
    result = curves(system, need_corpus(corpus), split, ratios=ratios, seed=seed, cache=cache, progress=Bar())
    if json_file != "-":
        click.echo(f"{result['model']} on {split}, windows of {result['window_s']:.2f} s, corpus {result['corpus']}")
        rows = [["clean" if r["snr_db"] is None else f"{r['snr_db']:+g} dB", f"{r['windows']:,}", f"{r['auc']:.3f}"]
                for r in result["results"]]  # fmt: skip
        click.echo(table(["music to noise", "windows", "AUC"], rows))
    if plot:
        draw(result, plot)
    if json_file:
        write_json(json_file, result)


@click.command("features-view")
@click.argument("model")
@corpus_option
@click.option("--split", default="validation", show_default=True, type=click.Choice(["train", "validation"]))
@click.option("--out", "-o", default="features.png", show_default=True, type=_PATH, help="The picture.")
@_cache_option
@_json_option
def features_view(
    model: str, corpus: Path | None, split: str, out: Path, cache: Path | None, json_file: str | None
) -> None:
    """Draw the 16 features that the all-conv net in the folder MODEL has before its dense layers, class by class.

    \b
    Example:
      edge-bench train allconv-mel
      edge-bench features-view runs/allconv-mel -o features.png
    """
    import_tensorflow()
    from . import models, views
    from .corpus import load
    from .features import features
    from .systems import open_system

    system = open_system(model, "allconv")
    data = load(need_corpus(corpus), classes=system.classes, leave_out=system.leave_out)
    pool = features(data, split, system.inputs, cache=cache, progress=Bar())
    network = models.load(Path(model) / "model.keras")
    vectors = views.feature_vectors(network, pool, system.inputs.what.shape, system.classes)
    views.draw_features(vectors, out)
    if json_file != "-":
        counts = ", ".join(f"{len(v):,} windows of {name}" for name, v in vectors.items())
        click.echo(f"{counts}: {out}")
    if json_file:
        means = {name: v.mean(axis=0).round(5).tolist() for name, v in vectors.items()}
        write_json(json_file, {"schema": "edge-bench/features-view/1", "split": split, "means": means})


@click.command()
@click.argument("file", type=click.Path())
@click.option("--model", default="runs/genre", show_default=True, help="Folder of a trained genre network.")
@click.option("--layer", default=5, show_default=True, help="Convolution, from 1.")
@click.option("--features", "wanted", help="Maps, such as 3,17; by default the five that answer most.")
@click.option("--start", default=0.0, show_default=True, help="Where the 4 s begin, in seconds.")
@click.option("--out", default=".", show_default=True, type=_PATH, help="Folder for the picture and the WAV files.")
@_json_option
def auralise(
    file: str, model: str, layer: int, wanted: str | None, start: float, out: Path, json_file: str | None
) -> None:
    """Make audible what features of the genre network hear in 4 s of FILE: a WAV for each, and a picture.

    \b
    Example:
      edge-bench train genre
      edge-bench auralise song.wav --layer 1 --out heard
    """
    try:
        numbers = None if wanted is None else [int(part) for part in wanted.split(",")]
    except ValueError:
        raise ConfigError(f"--features is {wanted!r}, must be numbers with commas between, such as 3,17") from None
    import_tensorflow()
    import numpy as np

    from edge_runtime import audio
    from edge_runtime.wav import write_wav

    from . import models, views
    from .models import genre
    from .models.auralise import auralise as hear
    from .systems import open_system

    open_system(model, "genre")
    network = models.load(Path(model) / "model.keras")
    samples = audio.load(file, sample_rate=genre.SAMPLE_RATE)
    clip = views.genre_clip(samples, start, network.input_shape[2])
    numbers = numbers or views.strongest(network, clip, layer, 5)
    heard = {number: hear(network, clip, layer=layer, feature=number) for number in numbers}
    folder, stem, entries = _folder(out), Path(file).stem, []
    for number, sound in heard.items():
        path = folder / f"{stem}-layer{layer}-feature{number}.wav"
        peak = float(np.abs(sound).max())
        write_wav(path, sound / np.float32(max(1.0, peak)), genre.SAMPLE_RATE)
        entries.append({"feature": number, "wav": str(path), "silent": peak == 0})
        if json_file != "-":
            click.echo(f"feature {number} of layer {layer}{' does not answer' if peak == 0 else ''}: {path}")
    picture = folder / f"{stem}-layer{layer}.png"
    views.draw_auralisation({stem: clip, **{f"feature {n}": s for n, s in heard.items()}}, picture)
    if json_file != "-":
        click.echo(str(picture))
    if json_file:
        found = {"file": file, "layer": layer, "picture": str(picture), "features": entries}
        write_json(json_file, {"schema": "edge-bench/auralise/1", **found})
