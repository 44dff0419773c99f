"""``edge-bench models``, ``train``, ``distill``, ``render-midi`` and ``card``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from edge_runtime import CorpusError
from edge_runtime.cli import write_json
from edge_runtime.quiet import quiet_stderr


def corpus_option(function: Any) -> Any:
    """Add ``--corpus``, which defaults to EDGE_BENCH_CORPUS."""
    return click.option(
        "--corpus", envvar="EDGE_BENCH_CORPUS", type=click.Path(path_type=Path), help="Folder; or EDGE_BENCH_CORPUS."
    )(function)


def need_corpus(corpus: Path | None) -> Path:
    """Return the corpus folder or say how to give one."""
    if corpus is None:
        raise CorpusError("no corpus given: use --corpus DIR or set EDGE_BENCH_CORPUS")
    from .corpus import check_folder

    check_folder(corpus)
    return corpus


def exit_on_signals() -> None:
    """Let SIGTERM and a closed terminal end this process by an exception, so that what it has started is ended, too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda number, _: sys.exit(128 + number))


def import_tensorflow() -> None:
    """Import TensorFlow without its start-up messages, and let the process keep the memory that it frees.

    Imports nothing when `KERAS_BACKEND` names another framework: training needs none but that one.
    """
    from .heap import keep_freed_memory

    keep_freed_memory()
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        # trying out kernels for convolutions this small takes two minutes on a GPU and gains nothing
        os.environ.setdefault("XLA_FLAGS", "--xla_gpu_autotune_level=0")
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        import tensorflow  # noqa: F401


class Bar:
    """A progress bar for each stage of the feature cache, on standard error."""

    _bar: Any

    def __init__(self) -> None:
        self._name, self._done = "", 0

    def __call__(self, name: str, done: int, total: int) -> None:
        """Move the bar."""
        if name != self._name:
            self._name, self._done = name, 0
            bar: Any = click.progressbar(length=total, label=name, file=click.get_text_stream("stderr"))  # type: ignore[operator]
            self._bar = bar.__enter__()
        self._bar.update(done - self._done)
        self._done = done
        if done == total:
            self._bar.__exit__(None, None, None)


@click.command()
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def models(json_file: str | None) -> None:
    """List the zoo.

    \b
    Example:
      edge-bench models --json -
    """
    from edge_bench.benchmarks.table import table
    from edge_runtime.bundle import shipped

    from .models import ZOO

    bundles = shipped()
    entries: list[dict[str, Any]] = [
        {
            "name": e.name, "source": e.source, "parameters": e.parameters, "input": e.input, "output": e.output,
            "shipped": [b for b in bundles if b.startswith(e.name + "-")],
        }
        for e in ZOO.values()
    ]  # fmt: skip
    if json_file != "-":
        rows = [[e["name"], f"{e['parameters']:,}", e["input"], ", ".join(e["shipped"]) or "-", e["source"]]
                for e in entries]  # fmt: skip
        click.echo(table(["model", "parameters", "input", "shipped", "source"], rows))
    if json_file:
        write_json(json_file, {"schema": "edge-bench/models/1", "models": entries})


@click.command()
@click.argument("config", required=False)
@corpus_option
@click.option("--from", "source", metavar="MODEL", help="Fine-tune this bundle, training's folder or .keras file.")
@click.option("--freeze", default="", metavar="NAMES", help="With --from: keep layers whose name begins so, as b1,b2.")
@click.option("--classes", default="", metavar="NAMES", help="Classes in the order of the outputs, as speech,music.")
@click.option("--rate", type=float, help="Learning rate, instead of the file's.")
@click.option("--epochs", type=int, help="Instead of the file's.")
@click.option("--extra", multiple=True, type=click.Path(path_type=Path), help="A folder to add, see render-midi.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the results; runs/NAME by default.")
@click.option("--cache", type=click.Path(path_type=Path), help="Feature cache; or EDGE_BENCH_CACHE.")
@click.option("--seed", type=int, help="Instead of the file's.")
@click.option("--devices", default=1, show_default=True, help="GPUs that share each batch; parts of a CPU to try it.")
@click.option("--json", "json_file", metavar="FILE", help="Write the metrics; - for standard output.")
def train(
    config: str | None, corpus: Path | None, source: str | None, freeze: str, classes: str, rate: float | None,
    epochs: int | None, extra: tuple[Path, ...], out: Path | None, cache: Path | None, seed: int | None, devices: int,
    json_file: str | None,
) -> None:  # fmt: skip
    """Train the network that CONFIG describes: a TOML file or the name of a recipe.

    Writes model.keras, curves.png, metrics.json and checkpoints; run it again to continue after an interruption.

    With --from an existing network learns on, at a low rate and under its own front end; CONFIG is then the recipe
    "finetune" unless given, and the classes are those of the corpus unless named. Classes that the network knows keep
    their part of its head; if any is new, the head is.

    \b
    Example:
      edge-bench train swishnet-slim --corpus ~/corpus
      edge-bench train my.toml --out runs/mine
      edge-bench train --from swishnet-slim-int8 --corpus ~/my-sounds --freeze b1,b2,b3 --rate 1e-4 --out runs/mine
    """
    from dataclasses import replace

    from edge_runtime import ConfigError

    from . import distribution
    from .experiment import how_to_train, load, read_values, run, with_rate

    if config is None and source is None:
        raise ConfigError("name a TOML file or a recipe, or a network to start from with --from")
    experiment = with_rate(load(config or "finetune"), rate=rate, epochs=epochs)
    if seed is not None:
        experiment = replace(experiment, seed=seed)
    if freeze:
        experiment = replace(experiment, freeze=_names(freeze))
    folder = out or Path("runs") / Path(config or "finetune").stem
    root = need_corpus(corpus)
    how = how_to_train(experiment)
    import_tensorflow()
    start = None
    if source is not None:
        from .corpus import labels
        from .finetune import corpus_classes, open_start

        start = open_start(source)
        if "classes" not in read_values(config or "finetune"):
            experiment = replace(experiment, classes=corpus_classes(labels(root, extra=extra), start.classes))
    if classes:
        experiment = replace(experiment, classes=_names(classes))
    if devices != 1:
        distribution.check_batch(how.batch, devices)
    with distribution.devices(devices):
        result = run(
            experiment, root, folder, extra=extra, start=start, cache=cache, progress=Bar(),
            say=lambda s: click.echo(s, err=True),
        )  # fmt: skip
    if json_file != "-":
        click.echo(f"best validation F1 {result['best']['score']:.4f} in epoch {result['best']['epoch']:.0f}: {folder}")
    if json_file:
        write_json(json_file, result)


def _names(text: str) -> tuple[str, ...]:
    """Return the parts of a list with commas."""
    return tuple(part.strip() for part in text.split(","))


def _distill(**options: Any) -> None:
    from edge_runtime import ConfigError

    from .experiment import load

    if options["config"] is None or not load(options["config"]).teachers:
        name = options["config"] or "CONFIG"
        raise ConfigError(f'{name}: names no teacher; add teachers = ["yamnet"], or use edge-bench train')
    assert train.callback is not None
    train.callback(**options)


distill = click.Command(
    "distill",
    callback=_distill,
    params=train.params,
    help="""Train the network that CONFIG describes on the answers of its teachers as well as on the labels.

    As train, but CONFIG must name teachers; their weights lie in the folder EDGE_BENCH_WEIGHTS.

    \b
    Example:
      EDGE_BENCH_WEIGHTS=~/weights edge-bench distill swishnet-slim-distilled --corpus ~/corpus
    """,
)


@click.command("render-midi")
@corpus_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the WAV files.")
@click.option("--variants", default=3, show_default=True, help="Renderings of each file.")
@click.option("--seconds", default=20.0, show_default=True, help="Length of a rendering, at most.")
def render_midi(corpus: Path | None, out: Path, variants: int, seconds: float) -> None:
    """Play the corpus' midi/ folder with many instruments into a folder that train takes as --extra.

    Needs Debian's fluidsynth and fluid-soundfont-gm, and the extra [midi].

    \b
    Example:
      edge-bench render-midi --corpus ~/corpus --out ~/midi-wav
      edge-bench train swishnet-slim --corpus ~/corpus --extra ~/midi-wav
    """
    from .midi import render_folder

    count = render_folder(need_corpus(corpus), out, variants=variants, seconds=seconds, progress=Bar())
    click.echo(f"{count} renderings: {out}")


@click.command()
@click.argument("bundles", nargs=-1, required=True)
@corpus_option
@click.option("--extra", multiple=True, type=click.Path(path_type=Path), help="As given to train.")
@click.option("--evaluation", multiple=True, type=click.Path(path_type=Path), help="JSON of edge-bench evaluate.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="The Markdown file; standard output by default.")
def card(
    bundles: tuple[str, ...], corpus: Path | None, extra: tuple[Path, ...], evaluation: tuple[Path, ...],
    out: Path | None,
) -> None:  # fmt: skip
    """Write the model card of BUNDLES (one network in several precisions): figures, limits, data, attribution.

    \b
    Example:
      edge-bench card swishnet-slim-int8 swishnet-slim-float32 --evaluation results/slim-int8-test.json -o card.md
    """
    import json

    from edge_runtime.bundle import read

    from .card import write_card
    from .corpus import load

    try:
        evaluations = [json.loads(path.read_text()) for path in evaluation]
    except (OSError, ValueError) as error:
        raise CorpusError(f"--evaluation: {error}") from None
    if not evaluations:
        raise CorpusError("a card without figures is none: give --evaluation FILE")
    built = [read(name) for name in bundles]
    text = write_card(built, load(need_corpus(corpus), classes=built[0].classes, extra=extra), evaluations)
    if out:
        out.write_text(text)
    else:
        click.echo(text, nl=False)
