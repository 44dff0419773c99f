"""``edge-bench segment``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError, EdgeBenchError


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|DIR|GLOB...")
@click.option("--model", default="swishnet-slim-int8", show_default=True, help="A bundle or a shipped name.")
@click.option("--smoothing", metavar="FILE", help="Settings that tune-smoothing wrote, instead of the bundle's own.")
@click.option("--unknown", type=click.FloatRange(0, 1), help="Confidence below which a segment is unknown.")
@click.option("--backend", default="auto", show_default=True, help="auto, litert, tflite-runtime, tf.lite or numpy.")
@click.option("--format", "formats", multiple=True, help="jsonl (default), csv, audacity, rttm, textgrid, lab or "
              "webvtt, for --out; may be repeated.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for a file by recording and "
              "format; an interrupted run goes on there.")  # fmt: skip
@click.option("--json", "json_file", metavar="FILE", help="Write JSON lines of all segments; - for standard output.")
@click.option("--frames", "frames_file", metavar="FILE.npz", help="The posteriors of one recording, every 10 ms.")
@click.option("--plot", metavar="FILE.png", help="One recording as a picture: samples, spectrum, posteriors, segments.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; by default one for each core.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--address", help="Ray cluster, such as auto or ray://head:10001; without it one starts here.")
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
def segment(
    inputs: tuple[str, ...], model: str, smoothing: str | None, unknown: float | None, backend: str,
    formats: tuple[str, ...], out: Path | None, json_file: str | None, frames_file: str | None, plot: str | None,
    workers: int | None, engine: str, address: str | None, quiet: bool,
) -> None:  # fmt: skip
    """Say who sounds when in recordings: speech, music, noise or silence, from when to when.

    A folder is searched with all that is below it; a pattern in quotes may have **. A file that cannot be used is
    reported in one line, the others are still segmented, and the exit code is 2. Times are seconds.

    \b
    Example:
      edge-bench segment interview.wav
      edge-bench segment archive/ '/radio/**/*.flac' --out segments --format csv --format textgrid
      edge-bench segment show.wav --plot show.png --frames show.npz
      edge-bench segment /shared/archive --out /shared/segments --engine ray --address auto
    """
    from ..decisions import read_segmentation
    from .inputs import find
    from .outputs import opened
    from .run import Archive
    from .summary import Summary
    from .work import Done, Failed, Job

    if formats and out is None:
        raise ConfigError("--format says how files in --out DIR are written; give --out, or --json FILE for all in one")
    if address and engine != "ray":
        raise ConfigError("--address is for --engine ray; add that")
    job = Job.of(model, backend=backend)
    settings = job.settings if smoothing is None else read_segmentation(smoothing, job.bundle)
    job = job.changed(settings, unknown_below=unknown)
    sources, refused = find(inputs)
    summary = Summary(bundle=job.bundle.name)
    for r in refused:
        summary.fail(r.message)
        click.echo(f"edge-bench: {r.message}", err=True)
    if (frames_file or plot) and len(sources) != 1:
        raise ConfigError(f"--frames and --plot show one recording; {len(sources)} were given")
    if plot or frames_file:
        from .one import show

        if sources and not _try(show, job, sources[0].path, frames_file, plot):
            sys.exit(2)
    with opened(out, job, formats or ("jsonl",)) as outputs:
        known = {s: done for s in sources if outputs and (done := outputs.earlier(s))}
        todo = [s for s in sources if s not in known]
        for done in known.values():
            summary.earlier(done)
        lines = _Lines(json_file, quiet_table=json_file == "-" or (out is not None and len(sources) > 1))
        progress = _Progress(todo, hidden=quiet)
        worker = _engine(engine, address, workers, todo) if todo else None
        try:
            found = Archive(job, worker, progress=progress.add).run(todo) if worker else iter(())
            results: dict[str, Any] = {s.path: done for s, done in known.items()}
            began = time.perf_counter()
            for outcome in found:
                results[outcome.source.path] = outcome.result
                if outputs:
                    outputs.write(outcome)
                if isinstance(outcome.result, Failed):
                    summary.fail(outcome.result.message)
                    progress.clear()
                    click.echo(f"edge-bench: {outcome.result.message}", err=True)
                else:
                    summary.add(outcome.result)
                lines.show(sources, results)
            summary.took(time.perf_counter() - began)
        finally:
            progress.clear()
            if worker:
                worker.close()
        lines.show(sources, results)
        lines.write(sources, results)
        if outputs:
            outputs.summarise(summary.to_dict())
    if not quiet and any(isinstance(r, Done) for r in results.values()):
        click.echo(summary.text(), err=True)
    if summary.failed or not sources:
        sys.exit(2)


def _try(function: Any, *arguments: Any) -> bool:
    try:
        function(*arguments)
    except EdgeBenchError as error:
        click.echo(f"edge-bench: {error}", err=True)
        return False
    return True


def _engine(name: str, address: str | None, workers: int | None, todo: Sequence[Any]) -> Any:
    from .engines import Pool, Serial

    if name == "ray":
        from .ray_engine import RayEngine

        return RayEngine(address)
    count = workers or len(os.sched_getaffinity(0))
    # a process costs more than a few minutes of sound
    small = sum(_size(s.path) for s in todo) < 64 << 20 and workers is None
    return Serial() if count == 1 or small else Pool(count)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


class _Lines:
    """Segments as text for people, or as JSON lines, in the order of the recordings."""

    def __init__(self, json_file: str | None, *, quiet_table: bool) -> None:
        self._json, self._quiet = json_file, quiet_table
        self._shown = 0

    def show(self, sources: Sequence[Any], results: dict[str, Any]) -> None:
        """Print the recordings whose turn has come."""
        from .work import Done

        while self._shown < len(sources) and sources[self._shown].path in results:
            path = sources[self._shown].path
            result = results[path]
            self._shown += 1
            if isinstance(result, Done) and not self._quiet:
                for s in result.segments:
                    click.echo(f"{path}  {s.start_s:9.2f} {s.end_s:9.2f}  {s.label:8s} {s.confidence:.2f}")

    def write(self, sources: Sequence[Any], results: dict[str, Any]) -> None:
        """Write the JSON lines."""
        if self._json:
            from ..cli import write_text

            write_text(self._json, "".join(self._render(sources, results)))

    def _render(self, sources: Sequence[Any], results: dict[str, Any]) -> Iterator[str]:
        from ..exporters import Recording, json_lines
        from .work import Done

        for source in sources:
            result = results.get(source.path)
            if isinstance(result, Done):
                yield json_lines.render(Recording(source.path, result.segments))


class _Progress:
    """A bar of the sound that is done, with speed and the time that is left, on a terminal only."""

    _MOST = 2000  # recordings whose headers are read for their length

    def __init__(self, todo: Sequence[Any], *, hidden: bool) -> None:
        self._hidden = hidden or not sys.stderr.isatty()
        self._total = 0.0 if self._hidden or len(todo) > self._MOST else sum(_seconds(s.path) for s in todo)
        self._done, self._began, self._drawn = 0.0, time.perf_counter(), 0.0

    def add(self, seconds: float) -> None:
        """Count what is done."""
        self._done += seconds
        now = time.perf_counter()
        if not self._hidden and now - self._drawn > 0.2:
            self._drawn = now
            speed = self._done / max(now - self._began, 1e-6)
            text = f"{self._done / 3600:.2f} h of sound, {speed:,.0f} x real time"
            if self._total:
                share = min(self._done / self._total, 1.0)
                full = round(30 * share)
                left = round(max(self._total - self._done, 0.0) / speed)
                text = (
                    f"[{'#' * full}{'.' * (30 - full)}] {100 * share:3.0f} %  {text}, {left // 60}:{left % 60:02d} left"
                )
            click.echo(f"\r  {text:<96s}", nl=False, err=True)

    def clear(self) -> None:
        """Make room for another line."""
        if not self._hidden and self._drawn:
            click.echo("\r" + " " * 98 + "\r", nl=False, err=True)


def _seconds(path: str) -> float:
    from .. import audio

    try:
        return audio.info(path).seconds
    except EdgeBenchError:
        return 0.0  # whoever reads it says what is wrong
