"""Fetch a collection: download, check, unpack aside, check the layout, rename.

Below the data folder lie ``NAME/`` when the collection is there, ``NAME.part`` files while it is being downloaded, and
``NAME.sha256`` where the checksum is our own. ``NAME/.edge-bench.json`` (the record) holds bytes and sha256 of every
file, so `verify` can tell later whether anything changed. An archive that was downloaded by other means is used when
it lies in the data folder under its own name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_runtime import CorpusError, EdgeBenchError
from edge_runtime.files import write_text

from . import annotated, layouts
from .download import DownloadError, Progress, Resuming
from .registry import Archive, Dataset
from .unpack import unpack

RECORD = ".edge-bench.json"
SCHEMA = "edge-bench/data-record/1"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Fetched:
    """What `fetch` found or made: the folder, and whether it was there already."""

    folder: Path
    already: bool


def fetch(
    dataset: Dataset,
    directory: Path,
    *,
    mirror: str | None = None,
    keep: bool = False,
    progress: Progress | None = None,
    say: Say = print,
) -> Fetched:
    """Fetch a collection into ``directory/NAME``.

    Parameters
    ----------
    mirror : str, optional
        Base URL of copies: ``MIRROR/FILE`` is taken instead of the first archive's URL; its checksum stays.
    keep : bool
        Keep the archive after unpacking.

    Raises
    ------
    EdgeBenchError
        If no place has it, a checksum differs, the disk is too small or full, or the archive is not what it should be.
        The folder then does not appear; what was downloaded stays for the next run.
    """
    target = directory / dataset.name
    if target.exists():
        if problem := layout_problem(dataset, target):
            raise CorpusError(f"{target}: is there, but {problem}; move it away and fetch again")
        return Fetched(target, True)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(f"{directory}: cannot be made: {error.strerror or error}") from None
    archives = dataset.archives
    if mirror:
        archives = (replace(archives[0], url=f"{mirror.rstrip('/')}/{archives[0].file}"),)
    _check_space(dataset, directory)
    file, archive = download(archives, directory, progress, say)
    own = archive.checksum is None
    if own:
        _own_checksum(dataset, file, directory, say)
    try:
        _install(dataset, archive, file, target, progress)
    except OSError as error:
        raise EdgeBenchError(f"{target}: cannot be unpacked: {error.strerror or error}; {file.name} is kept") from None
    if not keep:
        file.unlink()
    return Fetched(target, False)


def _check_space(dataset: Dataset, directory: Path) -> None:
    first = dataset.archives[0]
    have = sum(p.stat().st_size for p in directory.glob(f"{first.file}*") if p.is_file())
    need = max(0, first.size - have) + dataset.unpacked
    free = shutil.disk_usage(directory).free
    if free < need:
        raise EdgeBenchError(
            f"{directory}: {dataset.name} needs {need / 1e9:.1f} GB (archive and unpacked files), "
            f"{free / 1e9:.1f} GB are free; give another folder with --dir"
        )


def download(
    archives: tuple[Archive, ...], directory: Path, progress: Progress | None, say: Say
) -> tuple[Path, Archive]:
    """Return the first archive that can be had, whole and with the right checksum, and which one it was.

    Raises
    ------
    EdgeBenchError
        If no place has it, or pooch is missing.
    """
    try:
        import pooch
    except ModuleNotFoundError:
        raise EdgeBenchError("fetching needs pooch: pip install 'edge-bench[data]'") from None

    pooch.get_logger().setLevel("ERROR")
    failures = []
    for archive in archives:
        # one unfinished file for each content, so that copies of the same file go on with each other's
        mark = hashlib.sha256((archive.checksum or archive.url).encode()).hexdigest()[:8]
        downloader = Resuming(directory / f"{archive.file}.{mark}.part", progress)
        try:
            path = pooch.retrieve(
                archive.url, known_hash=archive.checksum, fname=archive.file, path=directory, downloader=downloader
            )
            return Path(path), archive
        except DownloadError as error:
            failures.append(str(error))
        except ValueError:  # pooch: the hash differs
            failures.append(
                f"{archive.url}: what came has another checksum than {archive.checksum} (says "
                f"{archive.checksum_from}) and was deleted: it changed there, or was damaged on the way"
            )
        if len(failures) < len(archives):
            say(f"{failures[-1]}; trying the next place")
    raise EdgeBenchError(failures[-1] if len(archives) == 1 else "no place has it: " + "; ".join(failures))


def _own_checksum(dataset: Dataset, file: Path, directory: Path, say: Say) -> None:
    """Record the sha256 of an archive that nobody publishes one for, or compare it with the record."""
    note = directory / f"{dataset.name}.sha256"
    digest = file_sha256(file)
    if note.is_file():
        known = note.read_text().split()[:1]
        if known != [digest]:
            raise CorpusError(
                f"{file}: sha256 {digest[:16]}... differs from that of the first download in {note}; "
                "delete the file to fetch it again, or the note to accept it"
            )
        return
    write_text(note, f"{digest}  {file.name}\n")  # as sha256sum writes it
    say(f"Nobody publishes a checksum of {file.name}; sha256 {digest[:16]}... is recorded in {note} for the next time.")


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _install(dataset: Dataset, archive: Archive, file: Path, target: Path, progress: Progress | None) -> None:
    aside = Path(tempfile.mkdtemp(prefix=f".{dataset.name}.", dir=target.parent))
    try:
        files = unpack(file, aside, limit=4 * dataset.unpacked, progress=progress)
        top = layouts.places(aside)[-1]
        if problem := layout_problem(dataset, top):
            raise CorpusError(f"{file}: {problem}; delete it and fetch it again")
        prefix = top.relative_to(aside).as_posix() + "/" if top != aside else ""
        record = {
            "schema": SCHEMA,
            "dataset": dataset.name,
            "url": archive.url,
            "archive": {"file": file.name, "bytes": file.stat().st_size, "sha256": file_sha256(file)},
            "fetched": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "licence": dataset.licence,
            "files": {name.removeprefix(prefix): list(entry) for name, entry in sorted(files.items())},
        }
        write_text(top / RECORD, json.dumps(record))
        os.sync()  # thousands of small files: once for all of them
        top.chmod(0o755)  # mkdtemp made it private
        top.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def layout_problem(dataset: Dataset, folder: Path) -> str | None:
    """Return what keeps a folder from being this collection, or None."""
    if not folder.is_dir():
        return "it is no folder"
    if dataset.layout == "annotated":
        fine = any(annotated.matches(place) for place in layouts.places(folder))
    else:
        found = layouts.recognise(folder)
        fine = found is not None and found[0].name == dataset.layout
    return None if fine else f"it does not have the layout of {dataset.name}"


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record that `fetch` left in a folder, or None.

    Raises
    ------
    CorpusError
        If it is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] != SCHEMA or not isinstance(record["files"], dict):
            raise ValueError("another schema")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); fetch the collection again") from None
    return record
