"""More recordings for training, out of free packages of Debian: games, programs for children, telephone prompts.

A corpus that is small and comes from few places teaches the places. `train/data/debian.toml` names packages and what
to take of each; short sounds of a folder are joined, long ones cut. YAMNet listens to each piece, and one that it does
not hear the class in is left out: a game's folder of sounds also holds jingles. An optional step, as
`edge_bench.train.midi` is: it writes a folder of WAV files that `edge_bench.train.corpus.load` takes beside a corpus.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from edge_runtime import ConfigError, CorpusError, EdgeBenchError
from edge_runtime.wav import write_wav

from .corpus import DEFAULT_CLASSES
from .data.deb import extract
from .data.fetch import download
from .data.registry import Archive
from .experiment import read_toml
from .extra import making, write_table

Float32 = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
Judge = Callable[[Float32], Float32]
TABLE = Path(__file__).parent / "data" / "debian.toml"
MIRROR = "https://deb.debian.org/debian"
RATE = 16000
SUFFIXES = (".ogg", ".oga", ".wav", ".mp3", ".flac", ".opus")
SURE = 0.2  # probability of the class, on average over a piece, below which it is left out
MUSIC_PASSES = 3  # a long piece of music may give so many stretches
JOIN = 0.6  # share of the wanted length below which speech waits for another of its folder; noise: of NOISE_S
NOISE_S = 2.0


@dataclass(frozen=True)
class Take:
    """What a package gives to one class.

    Attributes
    ----------
    label : str
    paths : str
        Regular expression that is searched in the paths of its files.
    minutes : float
        No more than this.
    seconds : float
        Length of a piece, at most 1.2 times that.
    without : str
        Regular expression of paths to leave out, such as a sound that a held-out split has too; '' for none.
    """

    label: str
    paths: str
    minutes: float
    seconds: float
    without: str = ""


@dataclass(frozen=True)
class Package:
    """One package: its file below a mirror of Debian, bytes, sha256, licence, and what to take."""

    name: str
    file: str
    size: int
    sha256: str
    licence: str
    takes: tuple[Take, ...]


def read_table(path: Path = TABLE) -> tuple[Package, ...]:
    """Return the packages of a TOML file.

    Raises
    ------
    ConfigError
        If the file cannot be read or an entry is wrong.
    """
    try:
        packages = []
        for row in read_toml(path)["package"]:
            takes = []
            for take in row["take"]:
                for expression in (take["paths"], take.get("without", "")):
                    re.compile(expression)
                if take["class"] not in DEFAULT_CLASSES:
                    raise ValueError(f"class {take['class']!r} is not one of {', '.join(DEFAULT_CLASSES)}")
                takes.append(Take(take["class"], take["paths"], float(take["minutes"]), float(take["seconds"]),
                                  take.get("without", "")))  # fmt: skip
            packages.append(
                Package(row["name"], row["file"], int(row["size"]), row["sha256"], row["licence"], tuple(takes))
            )
    except (KeyError, TypeError, ValueError, re.error) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise ConfigError(f"{path}: not a table of packages: {what}; see {TABLE}") from None
    return tuple(packages)


def yamnet_judge() -> Judge:
    """Return a function from samples to YAMNet's probabilities of our classes, shape (classes,).

    Raises
    ------
    ConfigError
        If its weights are not there.
    """
    from . import teachers

    logits = teachers.find("yamnet", DEFAULT_CLASSES).open()

    def judge(samples: Float32) -> Float32:
        p = np.exp(teachers.log_softmax(logits(samples)))
        return np.asarray(p.mean(axis=0), np.float32)

    return judge


def read_piece(path: Path, seconds: float, rng: np.random.Generator) -> Float32 | None:
    """Return a file, or a stretch of a long one, at 16 kHz without silence at its ends; None if it cannot be used."""
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(path) as file:
            frames, wanted = file.frames, int(seconds * file.samplerate)
            if frames > 1.2 * wanted:
                first = int(0.05 * frames)  # music often begins softly
                file.seek(int(rng.integers(first, max(first + 1, frames - wanted))))
            x = file.read(wanted if frames > 1.2 * wanted else -1, dtype="float32", always_2d=True).mean(axis=1)
            rate = file.samplerate
    except (RuntimeError, OSError):
        return None
    if not len(x):
        return None
    x = np.asarray(soxr.resample(x, rate, RATE), np.float32)
    loud = np.flatnonzero(np.abs(x) > 1e-3)
    return x[loud[0] : loud[-1] + 1] if len(loud) > RATE // 20 else None


def pieces(take: Take, files: dict[str, Path | None], seed: int) -> Iterator[tuple[str, Float32]]:
    """Yield pieces of sound in a random order, each with the path of the file that it ends with.

    Parameters
    ----------
    files : dict
        Where the package's files lie, by their paths in it.
    """
    rng = np.random.default_rng(seed)
    names = sorted(files, key=lambda name: name.split("/"))
    rng.shuffle(names)
    wanted = JOIN * RATE * (take.seconds if take.label == "speech" else NOISE_S)
    begun: dict[str, Float32] = {}
    for name in names * (MUSIC_PASSES if take.label == "music" else 1):
        path = files[name]
        x = read_piece(path, take.seconds, rng) if path else None
        if x is None:
            continue
        folder = str(PurePosixPath(name).parent)
        if take.label != "music" and len(x) < wanted:
            before = begun.pop(folder, None)
            gap = np.zeros(int(rng.uniform(0.05, 0.3) * RATE), np.float32)
            x = x if before is None else np.concatenate([before, gap, x])
            if len(x) < wanted:
                begun[folder] = x
                continue
        x = x[: int(1.2 * take.seconds * RATE)]
        peak = np.abs(x).max()
        yield name, x / peak * np.float32(0.7) if peak > 0.99 else x


def gather(
    packages: Sequence[Package], directory: Path, out: Path, judge: Judge, *, mirror: str = MIRROR, keep: bool = False,
    progress: Progress | None = None, say: Callable[[str], None] = print,
) -> int:  # fmt: skip
    """Fetch packages into `directory` and write what is taken of them to `out` with a ``SOURCES.csv``; return how many.

    The folder appears when all is there. ``copyright/NAME.txt`` beside the recordings is the package's own, with its
    authors.

    Parameters
    ----------
    judge : callable
        Probabilities of the classes in a piece, see `yamnet_judge`.
    keep : bool
        Keep the packages for another time.

    Raises
    ------
    CorpusError
        If `out` holds something already, a package is damaged, or nothing came of one.
    EdgeBenchError
        If a package cannot be fetched, or the disk is full.
    """
    rows: list[list[str]] = []
    try:
        with making(out) as aside:
            directory.mkdir(parents=True, exist_ok=True)
            (aside / "copyright").mkdir()
            for package in packages:
                url = f"{mirror.rstrip('/')}/{package.file}"
                archive = Archive(url, package.size, f"sha256:{package.sha256}", "Debian's index of packages")
                file, _ = download((archive,), directory, progress, say)
                found = list(_of_package(package, file, aside, judge))
                if not found:
                    raise CorpusError(f"{file}: nothing of it could be used; are the paths in the table right?")
                say(f"{package.name}: {len(found)} pieces, {sum(float(row[4]) for row in found) / 60:.1f} minutes")
                rows += found
                if not keep:
                    file.unlink()
            write_table(aside, rows)
    except OSError as error:
        raise EdgeBenchError(f"{out}: cannot be written: {error.strerror or error}") from None
    return len(rows)


def _of_package(package: Package, file: Path, aside: Path, judge: Judge) -> Iterator[list[str]]:
    """Write a package's pieces and yield their rows of the table."""
    note = f"usr/share/doc/{package.name}/copyright"

    def wanted(name: str) -> bool:
        of_sound = PurePosixPath(name).suffix in SUFFIXES and any(re.search(t.paths, f"/{name}") for t in package.takes)
        return of_sound or name == note

    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        files = extract(file, Path(folder), wanted)
        if text := files.pop(note, None):
            shutil.copy(text, aside / "copyright" / f"{package.name}.txt")
        for take in package.takes:
            of_take = {name: path for name, path in files.items() if re.search(take.paths, f"/{name}")}
            seed, seconds, number = zlib.crc32((package.name + take.label).encode()), 0.0, 0
            (aside / take.label).mkdir(exist_ok=True)
            for name, x in pieces(take, of_take, seed):
                if seconds >= 60 * take.minutes:
                    break
                if take.without and re.search(take.without, f"/{name}"):
                    continue
                if judge(x)[DEFAULT_CLASSES.index(take.label)] < SURE:
                    continue
                length = len(x) / RATE
                place = f"{take.label}/{package.name}-{number:03d}.wav"
                write_wav(aside / place, x, RATE)
                group = f"debian/{package.name}/{take.label}/{PurePosixPath(name).stem}"
                yield [place, take.label, "train", group, f"{length:.2f}", package.licence, f"debian:{package.name}"]
                seconds, number = seconds + length, number + 1
