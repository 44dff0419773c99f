"""``edge-bench reproduce``."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from edge_runtime import ConfigError
from edge_runtime.cli import write_json

from .cli import Bar, corpus_option, exit_on_signals, import_tensorflow, need_corpus


@click.command()
@click.argument("name")
@corpus_option
@click.option("--out", default="results", show_default=True, type=click.Path(path_type=Path), help="For the results.")
@click.option("--runs", type=click.Path(path_type=Path), help="Folder of the trainings; runs/NAME by default.")
@click.option("--cache", type=click.Path(path_type=Path), help="Feature cache; or EDGE_BENCH_CACHE.")
@click.option("--nice", default=10, show_default=True, type=click.IntRange(0, 19), help="How far to step back.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="How many trainings at once.")
@click.option("--render", is_flag=True, help="Train nothing; make the table of what is there.")
@click.option("--json", "json_file", metavar="FILE", help="Write the table here, too; - for standard output.")
def reproduce(
    name: str, corpus: Path | None, out: Path, runs: Path | None, cache: Path | None, nice: int, jobs: int,
    render: bool, json_file: str | None,
) -> None:  # fmt: skip
    """Run again what a table of results rests on, and write NAME.json, NAME.md and NAME.png.

    NAME is a table of the package (distillation, ablation ...) or a TOML file. Trainings that are done are not
    repeated; kill it when you like and start it again. A table of half the runs says so in its column n.

    \b
    Example:
      edge-bench reproduce ablation --corpus ~/corpus
      edge-bench reproduce distillation --render
    """
    from edge_runtime.files import write_text

    from . import job_queue, job_results, job_runner, tables

    head, queue = tables.load(name)
    root = need_corpus(corpus)
    stem = Path(name).stem
    folder = runs or Path("runs") / stem
    lines = out / f"{stem}.jsonl"
    failed = 0
    import_tensorflow()
    if not render:
        job_queue.judge(queue)
        exit_on_signals()
        failed = job_runner.run(
            queue, folder, lines, corpus=corpus, cache=cache, nice=nice, jobs=jobs,
            say=lambda s: click.echo(s, err=True),
        )
    found = job_results.of_jobs(queue, job_results.read(lines), lines)
    made: dict[str, Any]
    if head.kind == "systems":
        from edge_bench.benchmarks.interleave import interleave

        from . import system_table

        names = {job.entry.name for job in queue.jobs}
        entries = [(label, str(folder / path) if path in names else path) for label, path in head.systems]
        rows = system_table.rows(
            entries, root, head.split, clip_s=head.clips, interleave=interleave, log=out / "test-log.jsonl",
            cache=cache, progress=Bar(), say=lambda s: click.echo(s, err=True),
        )  # fmt: skip
        if not rows:
            raise ConfigError(f"{folder}: holds none of the table's systems; leave --render out to train them")
        made = {"rows": rows, "differences": []}
    elif head.kind == "segmentation":
        last = queue.jobs[-1].label
        if last not in found:
            raise ConfigError(f"{last}: has no result yet, so there is no table; leave --render out")
        made = {"rows": [], "differences": [], "result": dict(found[last])}
    elif head.kind == "evaluations":
        made = tables.of_evaluations(head, queue, found)
    elif head.kind == "paired":
        made = tables.of_pairs(head, queue, folder, found, corpus=root, cache=cache, progress=Bar())
    else:
        made = tables.of_seeds(head, queue, found)
    table = {
        "schema": "edge-bench/table/1",
        "name": stem,
        "title": head.title,
        "kind": head.kind,
        "split": head.split,
        "command": f"edge-bench reproduce {name}",
        "corpus": sorted({r["corpus"] for r in (*found.values(), *made["rows"]) if r.get("corpus")}),
        "frameworks": sorted({r["framework"] for r in found.values() if r.get("framework")}),
        "software": _software(),
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **made,
    }
    text = tables.markdown(table)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / f"{stem}.json", json.dumps(table, indent=1) + "\n")
    write_text(out / f"{stem}.md", text)
    picture = out / f"{stem}.png"
    if head.kind == "systems":
        system_table.draw(table["rows"], picture)
    elif head.kind == "segmentation":
        shutil.copyfile(folder / f"{stem}.png", picture)
    else:
        tables.draw(table, picture)
    if json_file:
        write_json(json_file, table)
    if json_file != "-":
        click.echo(text, nl=False)
    sys.exit(1 if failed else 0)


def _software() -> str:
    import platform
    from importlib import metadata

    names = ("tensorflow-cpu", "tensorflow", "keras", "numpy")
    found = []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return f"Python {platform.python_version()}, {', '.join(found)}, {platform.machine()}"
