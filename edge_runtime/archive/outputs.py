"""The folder that an archive's segments go to, and its manifest, by which an interrupted run goes on.

Every recording's files are written aside and renamed, then its line is added to ``manifest.jsonl`` and flushed to disk.
So a file that is there is whole; a run that is killed in between writes the same files again; a recording whose line is
there is not done again. Only one run at a time may use a folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .. import exporters
from ..errors import ConfigError
from ..files import write_aside
from ..segments import Segment
from .inputs import Source
from .run import Outcome
from .work import Done, Failed, Job

SCHEMA = "edge-bench/segment-manifest/1"
MANIFEST = "manifest.jsonl"


class Outputs:
    """An output folder.

    Parameters
    ----------
    folder : Path
    job : Job
    formats : sequence of str
        Names of `edge_runtime.exporters.FORMATS`.

    Attributes
    ----------
    done : dict
        Real path of a recording to what an earlier run gave it, where the recording is still the same file.

    Raises
    ------
    ConfigError
        If the folder cannot be written to, is in use, or was begun with another model, other settings or formats.
    """

    def __init__(self, folder: Path, job: Job, formats: Sequence[str]) -> None:
        self.folder, self.formats = folder, tuple(dict.fromkeys(formats))
        self._key = _key(job, self.formats)
        for name in self.formats:
            exporters.format_of(name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = (folder / MANIFEST).open("a+b")
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written to ({error.strerror or error})") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ConfigError(f"{folder}: another run is writing there; wait for it, or choose another --out") from None
        try:
            self.done = self._read()
        except ConfigError:
            self._file.close()
            raise

    def _read(self) -> dict[str, dict[str, Any]]:
        """Return the manifest's entries; a last line that a crash cut off is dropped."""
        self._file.seek(0)
        whole = self._file.read()
        kept = whole[: whole.rfind(b"\n") + 1]
        try:
            lines = [json.loads(line) for line in kept.splitlines()]
            if not lines:
                self._file.truncate(0)
                self._append({"schema": SCHEMA, "key": self._key})
                return {}
            head = lines[0]
            if head["schema"] != SCHEMA:
                raise ConfigError(f"{self.folder / MANIFEST}: schema is {head['schema']!r}, expected {SCHEMA!r}")
            if head["key"] != self._key:
                raise ConfigError(
                    f"{self.folder}: was begun with another model, other settings or formats; choose another --out"
                )
            self._file.truncate(len(kept))
            return {line["path"]: line for line in lines[1:] if "segments" in line}
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{self.folder / MANIFEST}: is damaged; remove it to begin anew") from None

    def earlier(self, source: Source) -> Done | None:
        """Return what an earlier run gave a recording, if the file and its outputs are still there and the same."""
        line = self.done.get(os.path.realpath(source.path))
        if line is None or line["name"] != source.name or [line["bytes"], line["mtime_ns"]] != _identity(source.path):
            return None
        if not all(self.path(source, name).is_file() for name in self.formats):
            return None
        found = tuple(Segment(*s) for s in line["segments"])
        return Done(line["seconds"], found)

    def path(self, source: Source, name: str) -> Path:
        """Return where a recording's segments in the format `name` go."""
        return self.folder / f"{source.name}{exporters.format_of(name).suffix}"

    def write(self, outcome: Outcome) -> None:
        """Write a recording's files and its line in the manifest."""
        source, result = outcome.source, outcome.result
        size, modified = _identity(source.path)
        line: dict[str, Any] = {
            "path": os.path.realpath(source.path), "name": source.name, "bytes": size, "mtime_ns": modified,
        }  # fmt: skip
        if isinstance(result, Failed):
            self._append({**line, "error": result.message})
            return
        recording = exporters.Recording(source.path, result.segments)
        for name in self.formats:
            exporters.write(self.path(source, name), recording, name)
        rows = [[s.start_s, s.end_s, s.label, s.confidence] for s in result.segments]
        self._append({**line, "seconds": result.seconds, "segments": rows})

    def summarise(self, summary: dict[str, Any]) -> None:
        """Write ``summary.json``."""
        with write_aside(self.folder / "summary.json") as aside:
            aside.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")

    def _append(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ConfigError(f"{self.folder / MANIFEST}: cannot be written ({error.strerror or error})") from None

    def close(self) -> None:
        """Let another run use the folder."""
        self._file.close()


@contextmanager
def opened(folder: Path | None, job: Job, formats: Sequence[str]) -> Iterator[Outputs | None]:
    """Give `Outputs` for a folder, or None without one."""
    if folder is None:
        yield None
        return
    outputs = Outputs(folder, job, formats)
    try:
        yield outputs
    finally:
        outputs.close()


def _key(job: Job, formats: Sequence[str]) -> str:
    """Return what must be the same for a run to go on: model, settings, formats."""
    values = [hashlib.sha256(job.model).hexdigest(), job.settings.to_dict(), job.backend, sorted(formats)]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _identity(path: str) -> list[int]:
    try:
        status = os.stat(path)
    except OSError:
        return [-1, -1]
    return [status.st_size, status.st_mtime_ns]
