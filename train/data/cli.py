"""``edge-bench data list``, ``fetch`` and ``verify``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edge_bench.benchmarks.table import size, table
from edge_runtime import ConfigError, EdgeBenchError
from edge_runtime.cli import write_json

from .registry import DATASETS, find


def _directory_option(function: Any) -> Any:
    return click.option(
        "--dir", "directory", envvar="EDGE_BENCH_DATA", type=click.Path(path_type=Path),
        help="Folder of the collections; or EDGE_BENCH_DATA.",
    )(function)  # fmt: skip


def _need(directory: Path | None) -> Path:
    if directory is None:
        raise ConfigError("no data folder given: use --dir DIR or set EDGE_BENCH_DATA")
    return directory


class _Bar:
    """One progress bar a stage on standard error; bytes may start anywhere, as a resumed download does."""

    def __init__(self) -> None:
        self._name, self._bar = "", None  # type: tuple[str, Any]

    def __call__(self, name: str, done: int, total: int) -> None:
        if name != self._name:
            self.close()
            self._name = name
            bar: Any = click.progressbar(length=total, label=name, file=click.get_text_stream("stderr"))  # type: ignore[operator]
            self._bar = bar.__enter__()
        self._bar.length = max(total, 1)
        if done < self._bar.pos:  # begun anew
            self._bar.pos = 0
        self._bar.update(done - self._bar.pos)
        if done >= total:
            self.close()

    def close(self) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
        self._name, self._bar = "", None


@click.group()
def data() -> None:
    """Public collections: MUSAN, GTZAN, ESC-50, MIREX examples.

    A fetched folder is a corpus as it stands. Each collection has a licence of its own; fetch prints it.

    \b
    Example:
      edge-bench data fetch gtzan-music-speech --dir ~/data
      edge-bench data verify gtzan-music-speech --dir ~/data
      edge-bench evaluate swishnet-slim-int8 --corpus ~/data/gtzan-music-speech
    """


@data.command("list")
@_directory_option
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def list_datasets(directory: Path | None, json_file: str | None) -> None:
    """List the collections: size, licence, where they are, whether they are there.

    \b
    Example:
      edge-bench data list --dir ~/data
    """
    entries: list[dict[str, Any]] = []
    for d in DATASETS:
        folder = directory / d.name if directory else None
        entries.append(
            {
                "name": d.name, "title": d.title, "bytes": d.archives[0].size, "unpacked_bytes": d.unpacked,
                "files": d.files, "licence": d.licence, "homepage": d.homepage, "citation": d.citation,
                "urls": [a.url for a in d.archives], "checksums": [a.checksum for a in d.archives],
                "folder": str(folder) if folder else None,
                "present": folder.is_dir() if folder else None,
            }
        )  # fmt: skip
    if json_file != "-":
        width = max(len(e["licence"]) for e in entries)  # words read better from the left
        rows = [
            [e["name"], size(e["bytes"]), f"{e['files']:,}", {True: "yes", False: "no", None: "-"}[e["present"]],
             e["licence"].ljust(width)]
            for e in entries
        ]  # fmt: skip
        click.echo(table(["collection", "download", "files", "present", "licence".ljust(width)], rows))
        click.echo(f"\nfolder: {directory}" if directory else "\nNo folder given: --dir DIR or EDGE_BENCH_DATA.")
    if json_file:
        write_json(json_file, {"schema": "edge-bench/data-list/1", "datasets": entries})


@data.command()
@click.argument("name")
@_directory_option
@click.option("--mirror", envvar="EDGE_BENCH_DATA_MIRROR", help="Base URL of copies; or EDGE_BENCH_DATA_MIRROR.")
@click.option("--keep-archive", is_flag=True, help="Do not delete the archive after unpacking.")
def fetch(name: str, directory: Path | None, mirror: str | None, keep_archive: bool) -> None:
    """Download, check and unpack a collection. Run it again to go on after an interruption.

    An archive that you downloaded yourself is used when it lies in the folder.

    \b
    Example:
      edge-bench data fetch musan --dir ~/data
      edge-bench train swishnet-slim --corpus ~/data/musan
    """
    from .fetch import fetch as run

    dataset = find(name)
    folder = _need(directory)
    click.echo(f"{dataset.title}\nlicence: {dataset.licence}\nsource:  {dataset.homepage}\ncite:    {dataset.citation}")
    bar = _Bar()

    def say(text: str) -> None:
        bar.close()
        click.echo(text, err=True)

    try:
        done = run(dataset, folder, mirror=mirror, keep=keep_archive, progress=bar, say=say)
    finally:
        bar.close()
    click.echo(f"{done.folder}: {'is there already' if done.already else 'fetched'}; check it with "
               f"edge-bench data verify {name} --dir {folder}")  # fmt: skip


@data.command()
@click.argument("table", required=False, type=click.Path(path_type=Path))
@_directory_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the WAV files.")
@click.option("--mirror", envvar="EDGE_BENCH_DEBIAN", help="A mirror of Debian; or EDGE_BENCH_DEBIAN.")
@click.option("--keep-archive", is_flag=True, help="Do not delete the packages afterwards.")
def gather(table: Path | None, directory: Path | None, out: Path, mirror: str | None, keep_archive: bool) -> None:
    """Take recordings out of free packages of Debian (5.5 GB) into a folder that train takes as --extra.

    Speech in many languages, music and noises from 51 packages; TABLE is a TOML file with others. YAMNet, whose weights
    lie in the folder EDGE_BENCH_WEIGHTS, checks the labels. Packages that lie in --dir already are used.

    \b
    Example:
      edge-bench data gather --dir ~/data --out ~/debian-wav
      edge-bench train swishnet-wide --corpus ~/corpus --extra ~/debian-wav
    """
    from ..debian import MIRROR, TABLE, gather, read_table, yamnet_judge

    packages, bar = read_table(table or TABLE), _Bar()

    def say(text: str) -> None:
        bar.close()
        click.echo(text, err=True)

    folder = _need(directory)
    try:
        count = gather(packages, folder, out, yamnet_judge(), mirror=mirror or MIRROR, keep=keep_archive,
                       progress=bar, say=say)  # fmt: skip
    finally:
        bar.close()
    click.echo(f"{count:,} recordings: {out}")


@data.command()
@click.argument("extra", nargs=-1, type=click.Path(path_type=Path))
@click.option("--corpus", envvar="EDGE_BENCH_CORPUS", type=click.Path(path_type=Path), help="Or EDGE_BENCH_CORPUS.")
@click.option("--above", default=0.9, show_default=True, help="Cosine from which two seconds are alike.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def overlap(extra: tuple[Path, ...], corpus: Path | None, above: float, json_file: str | None) -> None:
    """Find recordings for training, also in EXTRA folders, that sound like some of the validation or test split.

    Exit code 1 if there are any: a network would be judged on what it has learnt by heart. An hour of training
    recordings against an hour of others takes about a minute.

    \b
    Example:
      edge-bench data overlap ~/debian-wav --corpus ~/corpus
    """
    from ..cli import need_corpus
    from ..corpus import load
    from ..overlap import overlap

    recordings = load(need_corpus(corpus), extra=extra, complete=False).recordings
    bar = _Bar()
    try:
        found = overlap(
            [r for r in recordings if r.split == "train"], [r for r in recordings if r.split != "train"], above=above,
            progress=bar,
        )  # fmt: skip
    finally:
        bar.close()
    if json_file != "-":
        rows = [[f"{m.similarity:.3f}", m.split, m.held_out, f"{m.at_s:.1f}", m.training] for m in found]
        if rows:
            click.echo(table(["cosine", "split", "held out", "at s", "for training"], rows))
        click.echo(f"{len(found)} pairs above {above:g}" if found else f"nothing alike above {above:g}")
    if json_file:
        write_json(json_file, {"schema": "edge-bench/data-overlap/1", "above": above,
                               "matches": [m.to_dict() for m in found]})  # fmt: skip
    if found:
        sys.exit(1)


@data.command()
@click.argument("name")
@_directory_option
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - for standard output.")
def verify(name: str, directory: Path | None, json_file: str | None) -> None:
    """Check a collection: checksums, layout, number of files, every recording decoded. Exit code 1 if it is unfit.

    \b
    Example:
      edge-bench data verify musan --dir ~/data --json musan.json
    """
    from .verify import verify as run

    bar = _Bar()
    try:
        result = run(find(name), _need(directory), progress=bar)
    except EdgeBenchError:
        bar.close()
        raise
    if json_file != "-":
        for finding in result.known:
            click.echo(f"  known to be damaged: {finding.file}")
        for finding in result.problems[:20]:
            click.echo(f"  {finding.file}: {finding.problem}")
        if len(result.problems) > 20:
            click.echo(f"  and {len(result.problems) - 20:,} more (--json FILE has them all)")
        state = "fine" if result.fine else f"problems: {len(result.problems):,}"
        click.echo(f"{result.folder}: {result.files:,} audio files, {size(result.bytes)}; checksums "
                   f"{result.checksums}; {state}")  # fmt: skip
    if json_file:
        write_json(json_file, {"schema": "edge-bench/data-verify/1", **result.to_dict()})
    if not result.fine:
        sys.exit(1)
