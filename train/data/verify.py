"""Check a collection on disk: checksums against its record, layout, number of files, every recording decoded."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_runtime import AudioError, CorpusError, EdgeBenchError, audio

from ..recording import AUDIO_SUFFIXES
from . import annotated, layouts
from .download import Progress
from .fetch import RECORD, file_sha256, layout_problem, read_record
from .registry import Dataset


@dataclass(frozen=True)
class Finding:
    """A file and what is wrong with it."""

    file: str
    problem: str


@dataclass(frozen=True)
class Verified:
    """Outcome of `verify`.

    Attributes
    ----------
    dataset, folder : str
    files, expected : int
        Recordings that a reader finds, and those of the complete collection.
    bytes : int
        Of the recordings.
    checksums : {'match', 'differ', 'not recorded'}
    problems : tuple of Finding
        Whatever makes it unfit.
    known : tuple of Finding
        Unreadable files that are known to be so and are left out by the reader.
    """

    dataset: str
    folder: str
    files: int
    expected: int
    bytes: int
    checksums: str
    problems: tuple[Finding, ...]
    known: tuple[Finding, ...]

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {**asdict(self), "fine": self.fine}


def verify(dataset: Dataset, directory: Path, *, progress: Progress | None = None) -> Verified:
    """Check ``directory/NAME``.

    Raises
    ------
    CorpusError
        If it is not there.
    """
    folder = directory / dataset.name
    if not folder.is_dir():
        raise CorpusError(f"{folder}: not there; edge-bench data fetch {dataset.name} --dir {directory}")
    record = read_record(folder)
    expected: dict[str, Any] = record["files"] if record else {}
    present = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    problems = [Finding(n, "missing") for n in expected if n not in set(present)]
    if record:
        problems += [Finding(n, "not part of the collection") for n in present if n not in (*expected, RECORD)]

    def check(name: str) -> str | None:
        path = folder / name
        try:
            if name in expected and (path.stat().st_size, file_sha256(path)) != tuple(expected[name]):
                return "differs from what was fetched"
            if _is_audio(name):
                audio.load(path, sample_rate=audio.info(path).sample_rate)
        except EdgeBenchError as error:
            return str(error).removeprefix(f"{path}: ")
        except OSError as error:
            return error.strerror or str(error)
        return None

    wanted = [n for n in present if n in expected or _is_audio(n)]
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        for i, (name, problem) in enumerate(zip(wanted, workers.map(check, wanted), strict=True), start=1):
            if problem:
                problems.append(Finding(name, problem))
            if progress:
                progress("checking", i, len(wanted))
    known = tuple(p for p in problems if Path(p.file).name in dataset.damaged and not p.problem.startswith("differs"))
    problems = [p for p in problems if p not in known]
    sounds: list[Path] = []
    if problem := layout_problem(dataset, folder):
        problems.append(Finding(".", problem))
    else:
        try:
            sounds = _recordings(dataset, folder)
        except EdgeBenchError as error:
            problems.append(Finding(".", str(error)))
    left_out = len({Path(p.file).stem for p in known})
    if sounds and len(sounds) + left_out != dataset.files:
        problems.append(Finding(".", f"{len(sounds):,} recordings, the complete collection has {dataset.files:,}"))
    differ = any(p.problem.startswith("differs") or p.problem == "missing" for p in problems)
    return Verified(
        dataset.name, str(folder), len(sounds), dataset.files, sum(p.stat().st_size for p in sounds),
        "not recorded" if record is None else "differ" if differ else "match", tuple(problems), known,
    )  # fmt: skip


def _is_audio(name: str) -> bool:
    path = Path(name)
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("._")


def _recordings(dataset: Dataset, folder: Path) -> list[Path]:
    """Return the recordings that training or segmentation would read."""
    if dataset.layout != "annotated":
        return [r.path for r in layouts.read(folder, ("speech", "music", "noise")) or ()]
    found = []
    for recording in annotated.load(folder):
        end = max((end for _, end, _ in recording.intervals), default=0.0)
        try:
            seconds = audio.info(recording.path).seconds
        except AudioError:  # said already, when it was decoded
            seconds = end
        if end > seconds + 1:
            raise CorpusError(
                f"{recording.name}: its last segment ends at {end:.1f} s, the recording at {seconds:.1f} s"
            )
        found.append(recording.path)
    return found
