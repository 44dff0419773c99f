"""``edge-bench search``."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from edge_runtime import ConfigError
from edge_runtime.cli import write_json

from .cli import Bar, corpus_option, import_tensorflow, need_corpus


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@corpus_option
@click.option("--extra", multiple=True, type=click.Path(path_type=Path), help="A folder to add, see render-midi.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for everything; runs/NAME by default.")
@click.option("--cache", type=click.Path(path_type=Path), help="Feature cache; or EDGE_BENCH_CACHE.")
@click.option("--address", metavar="HOST:PORT", help="A Ray cluster ('auto' on one of its machines); default: here.")
@click.option("--dry-run", is_flag=True, help="Judge the file and list the trials; needs no Ray.")
@click.option("--status", is_flag=True, help="Only show the table so far.")
@click.option("--json", "json_file", metavar="FILE", help="Write the table; - for standard output.")
def search(
    file: Path, corpus: Path | None, extra: tuple[Path, ...], out: Path | None, cache: Path | None,
    address: str | None, dry_run: bool, status: bool, json_file: str | None,
) -> None:  # fmt: skip
    """Search hyperparameters as FILE says: any key of a recipe, the model's options included.

    Needs Ray Tune (pip install 'edge-bench[search]'). Writes search.json, search.png, best.toml (which edge-bench train
    takes) and a folder for each trial; run it again to continue after an interruption. Exit code 1 when trials failed.

    \b
    Example:
      edge-bench search search-swishnet --corpus ~/corpus --out runs/search
      edge-bench search my.toml --address auto --out /shared/search
      edge-bench train runs/search/best.toml

    \b
    A FILE:
      recipe = "swishnet-slim"
      [search]
      method = "asha"        # or grid, random
      trials = 24
      epochs = 20
      [space]
      "fit.learning_rate" = { low = 1e-4, high = 1e-2, log = true }
      "options.dropout" = [0.0, 0.1]
    """
    from . import search_results, search_space

    source = _find(file)
    planned = search_space.load(source)
    folder = (out or Path("runs") / file.stem).absolute()
    if dry_run:
        import_tensorflow()
        search_space.judge(planned, source)
        for number, values in enumerate(planned.trials):
            click.echo(f"{number:4d}  {search_space.describe(values)}")
        return
    _same(planned, folder)
    if not status:
        _run(planned, source, folder, need_corpus(corpus), extra, cache, address or planned.file.search.address)
    result = search_results.collect(planned, folder, str(file)) if status else _write(planned, folder, str(file))
    if json_file != "-":
        click.echo(_table(result))
    if json_file:
        write_json(json_file, result)
    for trial in result["trials"]:
        if "error" in trial:
            click.echo(f"trial {trial['trial']} failed: {trial['error'].splitlines()[0]}", err=True)
    if status:
        return
    if not result["finished"]:
        ended = f"{result['ended']} of {len(planned.trials)}"
        click.echo(f"stopped after {ended} trials; the same command goes on", err=True)
        sys.exit(130)
    sys.exit(1 if any("error" in trial for trial in result["trials"]) else 0)


def _find(file: Path) -> Path:
    """Return the file, or the package's of this name."""
    from .experiment import RECIPES

    ours = RECIPES / f"{file.name.removesuffix('.toml')}.toml"
    return ours if not file.is_file() and len(file.parts) == 1 and ours.is_file() else file


def _same(planned: Any, folder: Path) -> None:
    """Refuse a folder with the results of another search."""
    try:
        found = json.loads((folder / "search.json").read_text())["digest"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder / 'search.json'}: is no search of edge-bench ({error})") from None
    if found != planned.digest:
        raise ConfigError(f"{folder}: holds another search (its recipe, space or budget differ); choose another --out")


def _run(
    planned: Any, source: Path, folder: Path, corpus: Path, extra: tuple[Path, ...], cache: Path | None, address: str
) -> None:
    from . import experiment, job_runner, recipe, search_results, search_space

    try:
        from . import search_run
    except ImportError as error:
        reason = "" if getattr(error, "name", "") == "ray" else f" ({error.__cause__ or error})"
        raise ConfigError(f"edge-bench search needs Ray Tune: pip install 'edge-bench[search]'{reason}") from None
    import_tensorflow()
    search_space.judge(planned, source)
    folders = tuple(path.absolute() for path in (*map(Path, planned.file.search.extra), *extra))
    with job_runner.lock(folder, "search"):
        if search_results.write(planned, folder, str(source))["finished"] and not any(
            (folder / "trials").glob("*/error.txt")
        ):
            return
        seen: set[str] = set()
        for number in range(len(planned.trials)):  # once here, not in every trial
            values = planned.experiment(number)
            needs = json.dumps({k: v for k, v in values.items() if k != "fit"}, sort_keys=True)
            if needs not in seen:
                seen.add(needs)
                wanted = recipe.check(values, str(source))
                experiment.prepare(wanted, corpus, extra=folders, cache=cache, progress=Bar())
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))  # Ray ends in order on SIGINT
        plan = search_run.Plan(planned, folder, corpus.absolute(), folders, cache.absolute() if cache else None)
        search_run.run(plan, address=address, say=lambda text: click.echo(text, err=True))


def _write(planned: Any, folder: Path, source: str) -> dict[str, Any]:
    from . import search_plot, search_results

    result = search_results.write(planned, folder, source)
    search_plot.draw(result, planned.axes, folder / "search.png")
    return result


def _table(result: dict[str, Any]) -> str:
    from edge_bench.benchmarks.table import table

    from .search_space import shown

    names = list(result["trials"][0]["values"])
    rows = [
        [str(t["trial"]), "-" if t["best"] is None else f"{t['best']:.4f}", str(t["best_epoch"] or "-"),
         str(t["epochs"]), f"{t['seconds'] / 60:.1f}", *(shown(t["values"][name]) for name in names), t["state"]]
        for t in result["trials"]
    ]  # fmt: skip
    short = [name.rpartition(".")[2] for name in names]
    return table(["trial", result["metric"], "best epoch", "epochs", "minutes", *short, "state"], rows)
