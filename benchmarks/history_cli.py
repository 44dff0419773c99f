"""``edge-bench history``."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from edge_runtime import ConfigError
from edge_runtime.cli import write_json


def _store(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--store", metavar="FILE|URL", help="An SQLite file, or the URL of a database (extra [store]: SQLAlchemy). By "
        "default EDGE_BENCH_HISTORY, or a file in your data folder.",
    )(function)  # fmt: skip


def _json(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")(function)


@click.group()
def history() -> None:
    """Keep results, and see where a level changed.

    Results of run, gate, evaluate and of `pytest --benchmark-json` lie in an SQLite file of yours, or in a database
    that a fleet shares. A series is one figure of one model in one environment; other environments are other series.

    \b
    Example:
      edge-bench run --json run.json
      edge-bench history add run.json --commit $(git rev-parse HEAD)
      edge-bench history show --metric '2s/*'
    """


@history.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--commit", help="Of the source that was measured; by default GITHUB_SHA or CI_COMMIT_SHA.")
@click.option("--label", help="A few words of yours, such as a branch or a board's name.")
@click.option("--time", help="ISO 8601, for files that do not say when they were made; by default their own age.")
@_store
@_json
def add(
    files: tuple[Path, ...], commit: str | None, label: str | None, time: str | None, store: str | None,
    json_file: str | None,
) -> None:  # fmt: skip
    """Keep the results in FILES; what is there already is not kept twice.

    \b
    Example:
      edge-bench history add run.json results/*.json
      edge-bench history add run.json --store postgresql://ci@db/benchmarks
    """
    from . import documents
    from .series import KEPT, entry
    from .store import Store

    entries = []
    for file in files:
        kind, value = documents.read(file, *KEPT)
        made = time or datetime.fromtimestamp(file.stat().st_mtime, timezone.utc).isoformat()
        entries.append(entry(kind, value, time=made))
    commit = commit or os.environ.get("GITHUB_SHA") or os.environ.get("CI_COMMIT_SHA")
    with Store(store, create=True) as there:
        new = there.add(entries, commit=commit, label=label)
        place = there.place
    if json_file != "-":
        click.echo(f"{new} of {len(entries)} results are new in {place}")
    if json_file:
        digests = [e.digest for e in entries]
        write_json(json_file, {"schema": "edge-bench/history-add/1", "store": place, "new": new, "digests": digests})


@history.command("list")
@click.option("--name", help="Of a model.")
@click.option("--kind", help="run, gate, evaluate or pytest-benchmark.")
@click.option("-n", "newest", default=50, show_default=True, type=click.IntRange(1), help="The newest so many.")
@_store
@_json
def list_(name: str | None, kind: str | None, newest: int, store: str | None, json_file: str | None) -> None:
    """List the results that are kept, oldest first.

    \b
    Example:
      edge-bench history list --name swishnet-slim-int8
    """
    from .store import Store
    from .table import table

    with Store(store) as there:
        rows, place = there.results(name=name, kind=kind), there.place
    shown = rows[-newest:]
    if json_file != "-":
        header = ["time", "kind", "name", "environment", "commit", "label", "digest"]
        lines = [
            [r["time"][:16].replace("T", " "), r["kind"], r["name"], r["environment"], (r["commit_id"] or "")[:10],
             r["label"] or "", r["digest"][:10]]
            for r in shown
        ]  # fmt: skip
        click.echo(table(header, lines) if lines else "nothing is kept that fits")
        for key, words in sorted({(r["environment"], r["words"]) for r in shown}):
            click.echo(f"{key}: {words}")
        if len(rows) > len(shown):
            click.echo(f"{len(rows) - len(shown)} older ones not shown (-n)")
    if json_file:
        write_json(json_file, {"schema": "edge-bench/history-list/1", "store": place, "results": rows})


@history.command()
@click.option("--name", help="Of a model.")
@click.option("--metric", default="*", show_default=True, help="A pattern such as 2s/model, 2s/* or memory/*.")
@click.option("--environment", default="", help="Beginning of an environment's key; see `history list`.")
@click.option("--alpha", default=0.01, show_default=True, type=click.FloatRange(0.001, 0.2),
              help="Probability of a change that is none, for each look.")  # fmt: skip
@click.option("--smallest", default=2.0, show_default=True, type=click.FloatRange(0, 100),
              help="Changes by less than so many percent are not told.")  # fmt: skip
@_store
@_json
def show(
    name: str | None, metric: str, environment: str, alpha: float, smallest: float, store: str | None,
    json_file: str | None,
) -> None:  # fmt: skip
    """Show the series and where their level changed.

    A change is found by a permutation test on ranks: lone outliers do not matter, and about five results are needed on
    each side. The table shows medians of the last segment; give the JSON to `edge-bench report` for pictures.

    \b
    Example:
      edge-bench history show --name swishnet-slim-int8 --metric '2s/*'
      edge-bench history show --json history.json
    """
    from .history import SCHEMA, change_words, figure, series_of, sparkline
    from .store import Store
    from .table import table

    with Store(store) as there:
        points, place = there.points(name=name), there.place
    found = series_of(points, metric=metric, environment=environment, alpha=alpha, smallest=smallest / 100)
    if json_file != "-":
        rows = [
            [f"{s['name']} {s['metric']}", s["environment"]["key"], str(len(s["points"])),
             figure(s["points"][0]["value"], s["unit"]), figure(s["points"][-1]["value"], s["unit"]),
             str(len(s["changes"])), sparkline([p["value"] for p in s["points"]])]
            for s in found
        ]  # fmt: skip
        header = ["series", "environment", "n", "first", "last", "changes", "newest"]
        click.echo(table(header, rows) if rows else "nothing is kept that fits")
        lines = [change_words(s, c) for s in found for c in s["changes"]]
        click.echo("\n".join(["", *lines]) if lines else "\nno level changed")
    if json_file:
        write_json(json_file, {"schema": SCHEMA, "store": place, "series": found})


@history.command()
@click.option("--keep", type=click.IntRange(0), help="Keep the newest so many of a model, kind and environment.")
@click.option("--before", help="Remove what was made before this time (ISO 8601).")
@click.option("--name", help="Only results of this model.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@_store
@_json
def prune(
    keep: int | None, before: str | None, name: str | None, dry_run: bool, store: str | None, json_file: str | None
) -> None:
    """Remove old results; with both --keep and --before only those that both would remove.

    \b
    Example:
      edge-bench history prune --keep 500 --dry-run
      edge-bench history prune --before 2026-01-01
    """
    from .series import utc
    from .store import Store, to_prune

    if keep is None and before is None:
        raise ConfigError("give --keep N or --before TIME: without, nothing would be left")
    with Store(store) as there:
        going = to_prune(there.results(name=name), keep=keep, before=before and utc(before))
        removed = 0 if dry_run else there.remove(r["digest"] for r in going)
        place = there.place
    if json_file != "-":
        said = f"{len(going)} results would go from" if dry_run else f"{removed} results removed from"
        click.echo(f"{said} {place}")
    if json_file:
        write_json(json_file, {"schema": "edge-bench/history-prune/1", "store": place, "removed": removed,
                               "digests": [r["digest"] for r in going]})  # fmt: skip
