"""``edge-bench queue``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edge_runtime.cli import write_json

from .cli import corpus_option, exit_on_signals, import_tensorflow, need_corpus


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@corpus_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the jobs; runs/NAME by default.")
@click.option("--results", type=click.Path(path_type=Path), help="Lines of JSON; results.jsonl in the folder.")
@click.option("--cache", type=click.Path(path_type=Path), help="Feature cache; or EDGE_BENCH_CACHE.")
@click.option("--nice", default=10, show_default=True, type=click.IntRange(0, 19), help="How far to step back.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="How many at once.")
@click.option("--status", is_flag=True, help="Only show the table so far.")
@click.option("--json", "json_file", metavar="FILE", help="Write the table; - for standard output.")
def queue(
    file: Path, corpus: Path | None, out: Path | None, results: Path | None, cache: Path | None, nice: int,
    jobs: int, status: bool, json_file: str | None,
) -> None:  # fmt: skip
    """Run the experiments and commands of FILE at low priority, one after the other or --jobs at once.

    Kill it when you like; the same command goes on, and what is finished is not repeated. Each result is a line in
    --results. Exit code 1 when a job failed: the others run all the same, and it is tried again the next time.

    \b
    Example:
      edge-bench queue seeds.toml --corpus ~/corpus --results results/seeds.jsonl
      edge-bench queue seeds.toml --results results/seeds.jsonl --status

    \b
    A FILE:
      seeds = [0, 1, 2]
      [[job]]
      name = "slim"
      recipe = "swishnet-slim"
      overrides = { "fit.epochs" = 20 }
    """
    from . import job_queue, job_results, job_runner

    planned = job_queue.load(file)
    folder = out or Path("runs") / file.stem
    lines = results or folder / "results.jsonl"
    failed = 0
    if not status:
        if any(job.values for job in planned.jobs):
            need_corpus(corpus)
            import_tensorflow()  # quietly, before the experiments are judged by the code that will train them
            job_queue.judge(planned)
        exit_on_signals()
        try:
            failed = job_runner.run(
                planned, folder, lines, corpus=corpus, cache=cache, nice=nice, jobs=jobs,
                say=lambda s: click.echo(s, err=True),
            )
        except KeyboardInterrupt:
            click.echo(f"stopped; edge-bench queue {file} goes on where it was", err=True)
            sys.exit(130)
    found = job_results.of_jobs(planned, job_results.read(lines), lines)
    rows = job_results.summary(planned, found, job_runner.states(planned, folder))
    if json_file != "-":
        click.echo(_table(rows, planned.head.metric))
        revisions = {revision for row in rows for revision in row["corpus"]}
        if len(revisions) > 1:
            click.echo(f"warning: results come from {len(revisions)} revisions of the corpus", err=True)
    if json_file:
        write_json(
            json_file,
            {"schema": "edge-bench/queue/1", "queue": str(file), "metric": planned.head.metric, "jobs": rows,
             "results": list(found.values())},
        )  # fmt: skip
    sys.exit(1 if failed else 0)


def _table(rows: list[dict[str, Any]], metric: str) -> str:
    from edge_bench.benchmarks.table import table

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    cells = [
        [r["name"], f"{r['n']}/{r['of']}", number(r["mean"], ".4f"), number(r["sd"], ".4f"),
         number(min(r["values"], default=None), ".4f"), number(max(r["values"], default=None), ".4f"),
         number(r["parameters"], ","), f"{r['seconds'] / 60:.1f}", r["state"]]
        for r in rows
    ]  # fmt: skip
    return table(["job", "n", metric, "sd", "lowest", "highest", "parameters", "minutes", "state"], cells)
