"""Test streams for segmentation: 20 to 120 s of silence, noise, speech and music with known boundaries.

As in section 1 of the SwishNet paper: stretches of silence, noise, speech and music follow one another with mean
lengths of 0.5, 5, 10 and 12 s. Where the paper is silent, *ours*:

* a stretch's length follows a gamma distribution of shape 4 (standard deviation: half the mean), at least 0.2 s of
  silence and 1 s of anything else; two neighbours differ, each of the other kinds being equally likely;
* silence is what recordings of the same split hold where `preprocess.loud` finds nothing, at its own level but not
  above -52 dBFS; digital zeros are not used;
* a stretch that one recording cannot fill goes on with others of its class, joined by 20 ms of cross-fade; within a
  file no recording comes twice unless all have been used;
* levels are normal around -26 dBFS (4 dB), between stretches; half of the transitions are abrupt, the others are
  cross-faded with equal power over 0.05 to 1 s, and the boundary is the middle of the fade.

A file is planned before it is made, from its own random numbers, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime import CorpusError, EdgeBenchError
from edge_runtime import audio as audio_io
from edge_runtime.segments import SILENCE

from .corpus import Corpus
from .preprocess import frame_power, loud
from .workers import worker_pool

RATE = 16000
MEAN_S = {SILENCE: 0.5, "noise": 5.0, "speech": 10.0, "music": 12.0}
SHORTEST_S = {SILENCE: 0.2}
OTHER_MEAN_S, OTHER_SHORTEST_S = 10.0, 1.0  # of a class that the paper does not have
TOTAL_S = (20.0, 120.0)
LEVEL_DBFS, LEVEL_SPREAD_DB = -26.0, 4.0
LOUDEST_SILENCE_DBFS = -52.0
QUIETEST_TONE_DBFS = -90.0  # below lies what a file format rounds to zero
MOST_GAIN_DB = 20.0
ABRUPT = 0.5
FADE_S = (0.05, 1.0)
JOINT_S = 0.02
SHORTEST_PIECE_S = 0.25

Float32 = NDArray[np.float32]
Int16 = NDArray[np.int16]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Source:
    """What a recording has to give for one label: int16 samples at 16 kHz."""

    name: str
    samples: Int16


@dataclass(frozen=True)
class Piece:
    """A part of a source, in samples."""

    source: int
    first: int
    length: int


@dataclass(frozen=True)
class Stretch:
    """One label of a planned stream.

    Attributes
    ----------
    label : str
    pieces : tuple of Piece
    level_dbfs : float
        Of each piece; silence is left at its own level where that is lower.
    fade : int
        Samples that it shares with the stretch before it.
    """

    label: str
    pieces: tuple[Piece, ...]
    level_dbfs: float
    fade: int


def level(samples: Float32) -> float:
    """Return the level of samples (n,) in dBFS, the mean square of a full-scale square wave being 0."""
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-12)) if len(samples) else -120.0


def quiet_parts(samples: Float32) -> list[Float32]:
    """Return the parts of a recording that `preprocess.loud` leaves out, digital zeros apart, each 0.1 s or more."""
    edges = np.flatnonzero(np.diff(np.concatenate(([True], loud(samples), [True])).astype(np.int8)))
    parts = [samples[start:stop] for start, stop in edges.reshape(-1, 2) if stop - start >= RATE // 10]
    return [p for p in parts if level(p) > QUIETEST_TONE_DBFS and np.count_nonzero(p) > len(p) // 2]


def quietest_part(samples: Float32) -> Float32:
    """Return the 0.3 s of a recording with the least power, brought down to -60 dBFS where they are louder."""
    length = RATE // 100
    power = frame_power(samples, length=length)
    if len(power) < 30:
        return samples[:0]
    total = np.convolve(power, np.ones(30), "valid")
    total[total < 30 * 10 ** (QUIETEST_TONE_DBFS / 10)] = np.inf  # zeros
    first = int(total.argmin()) * length
    part = samples[first : first + 30 * length]
    return np.asarray(part * min(1.0, 10 ** ((-60 - level(part)) / 20)), np.float32)


def _read(path: str) -> tuple[Int16, list[Int16], Int16]:
    try:
        samples = audio_io.load(path, sample_rate=RATE)
    except EdgeBenchError as error:
        raise CorpusError(str(error)) from None

    def whole(x: Float32) -> Int16:
        return np.clip(np.round(x * 32768), -32768, 32767).astype(np.int16)

    return whole(samples[loud(samples)]), [whole(p) for p in quiet_parts(samples)], whole(quietest_part(samples))


def read_sources(
    corpus: Corpus, split: str, *, workers: int | None = None, progress: Progress | None = None
) -> dict[str, tuple[Source, ...]]:
    """Return what each label, silence included, can be made of.

    Raises
    ------
    CorpusError
        If a file cannot be read or a label has nothing.
    """
    recordings = corpus.split(split)
    found: dict[str, list[Source]] = {name: [] for name in (SILENCE, *corpus.classes)}
    tones = []
    with worker_pool(workers) as pool:
        parts = pool.map(_read, [str(r.path) for r in recordings], chunksize=8)
        for i, (r, (sound, quiet, tone)) in enumerate(zip(recordings, parts, strict=True)):
            if progress:
                progress(f"reading {split}", i + 1, len(recordings))
            if len(sound) >= SHORTEST_PIECE_S * RATE:
                found[r.label].append(Source(r.name, sound))
            found[SILENCE] += [Source(r.name, q) for q in quiet]
            tones += [Source(r.name, tone)] if len(tone) else []
    # recordings without pauses: what is quietest in them, made quieter, is the nearest thing to a silence
    found[SILENCE] = found[SILENCE] or tones
    for label, sources in found.items():
        if not sources:
            raise CorpusError(f"{corpus.root}: nothing in split {split!r} can serve as {label}")
    return {label: tuple(sources) for label, sources in found.items()}


def plan(sources: dict[str, tuple[Source, ...]], seed: int, number: int) -> tuple[Stretch, ...]:
    """Return the stretches of stream `number`; the same arguments give the same stream."""
    rng = np.random.default_rng([seed, number])
    total = round(rng.uniform(*TOTAL_S) * RATE)
    labels = list(sources)
    used: dict[str, list[int]] = {label: [] for label in labels}
    stretches: list[Stretch] = []
    done, label = 0, ""
    while done < total:
        label = str(rng.choice([other for other in labels if other != label]))
        shortest = SHORTEST_S.get(label, OTHER_SHORTEST_S)
        seconds = max(rng.gamma(4.0, MEAN_S.get(label, OTHER_MEAN_S) / 4), shortest)
        wanted = min(round(seconds * RATE), total - done)
        if stretches and wanted < shortest * RATE:
            break
        pieces = _fill(rng, sources[label], wanted, used[label])
        fade = 0 if rng.random() < ABRUPT else round(rng.uniform(*FADE_S) * RATE)
        if stretches:
            fade = min(fade, _length(stretches[-1]) // 4, sum(p.length for p in pieces) // 4)
        level_dbfs = LOUDEST_SILENCE_DBFS if label == SILENCE else rng.normal(LEVEL_DBFS, LEVEL_SPREAD_DB)
        stretches.append(Stretch(label, pieces, float(level_dbfs), fade if stretches else 0))
        done += _length(stretches[-1]) - stretches[-1].fade
    return tuple(stretches)


def _length(stretch: Stretch) -> int:
    return sum(p.length for p in stretch.pieces) - round(JOINT_S * RATE) * (len(stretch.pieces) - 1)


def _fill(rng: np.random.Generator, sources: Sequence[Source], wanted: int, used: list[int]) -> tuple[Piece, ...]:
    """Choose parts of sources that last `wanted` samples together; their numbers are added to `used`."""
    pieces: list[Piece] = []
    joint = round(JOINT_S * RATE)
    while wanted >= (SHORTEST_PIECE_S * RATE if pieces else 1):
        fresh = [i for i in range(len(sources)) if i not in used]
        if not fresh:  # all came once: those that came least may come again
            counts = np.bincount(used, minlength=len(sources))
            fresh = np.flatnonzero(counts == counts.min()).tolist()
        # long ones first for a long stretch, or it would be a string of clicks
        enough = [i for i in fresh if len(sources[i].samples) >= min(wanted, 3 * RATE)] or fresh
        source = int(rng.choice(enough))
        used.append(source)
        length = min(wanted + (joint if pieces else 0), len(sources[source].samples))
        first = int(rng.integers(len(sources[source].samples) - length + 1))
        if pieces and length <= 2 * joint:
            continue
        pieces.append(Piece(source, first, length))
        wanted -= length - (joint if len(pieces) > 1 else 0)
    return tuple(pieces)


def render(
    stretches: Iterable[Stretch], sources: dict[str, tuple[Source, ...]]
) -> tuple[Float32, list[tuple[float, float, str]]]:
    """Return a planned stream's samples, shape (n,), and its labels as (start_s, end_s, label)."""
    out = np.zeros(0, np.float32)
    boundaries, labels = [], []
    for stretch in stretches:
        x = np.zeros(0, np.float32)
        for piece in stretch.pieces:
            part = sources[stretch.label][piece.source].samples[piece.first : piece.first + piece.length]
            joint = round(JOINT_S * RATE) if len(x) else 0
            x = _join(x, _at_level(part.astype(np.float32) / np.float32(32768), stretch), joint)
        boundaries.append(len(out) - stretch.fade + stretch.fade // 2)
        labels.append(stretch.label)
        out = _join(out, x, stretch.fade)
    ends = [*boundaries[1:], len(out)]
    return out, [(a / RATE, b / RATE, label) for a, b, label in zip(boundaries, ends, labels, strict=True)]


def _at_level(x: Float32, stretch: Stretch) -> Float32:
    gain = stretch.level_dbfs - level(x)
    gain = min(gain, 0.0 if stretch.label == SILENCE else MOST_GAIN_DB)
    peak = float(np.abs(x).max(initial=1e-9))
    return x * np.float32(min(10 ** (gain / 20), 0.95 / peak))


def _join(before: Float32, after: Float32, fade: int) -> Float32:
    """Return both, overlapping by `fade` samples with equal power."""
    if not fade:
        return np.concatenate([before, after])
    angle = (np.arange(fade) + 0.5) / fade * (np.pi / 2)
    mixed = before[-fade:] * np.cos(angle) + after[:fade] * np.sin(angle)
    return np.concatenate([before[:-fade], mixed.astype(np.float32), after[fade:]])
