"""Music from MIDI files, played by many instruments: more timbres for a corpus that has little music.

Each file is rendered a few times with other instruments, tempo and pitch by FluidSynth and a General MIDI soundfont
(Debian: ``fluidsynth fluid-soundfont-gm``). An optional step: it writes a folder of WAV files that
`edge_bench.train.corpus.load` takes beside a corpus, once.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime import CorpusError, audio
from edge_runtime.wav import write_wav

from .extra import making, write_table
from .workers import cores

SOUNDFONTS = ("/usr/share/sounds/sf2/FluidR3_GM.sf2", "/usr/share/sounds/sf2/default-GM.sf2")
DRUMS = 9  # the MIDI channel of percussion keeps its kit


@dataclass(frozen=True)
class Rendering:
    """One file to render: which, and how."""

    path: Path
    group: str
    licence: str
    source: str
    variant: int


def soundfont() -> Path:
    """Return an installed General MIDI soundfont: ``EDGE_BENCH_SOUNDFONT`` or Debian's.

    Raises
    ------
    CorpusError
        If there is none, or no FluidSynth.
    """
    if shutil.which("fluidsynth") is None:
        raise CorpusError("fluidsynth is not installed: apt-get install fluidsynth fluid-soundfont-gm")
    for name in (os.environ.get("EDGE_BENCH_SOUNDFONT", ""), *SOUNDFONTS):
        if name and Path(name).is_file():
            return Path(name)
    raise CorpusError("no soundfont found: apt-get install fluid-soundfont-gm, or set EDGE_BENCH_SOUNDFONT")


def list_files(root: Path, *, variants: int) -> Iterator[Rendering]:
    """Yield what there is to render below ``root/midi``, named by its ``SOURCES.csv``."""
    table = root / "midi" / "SOURCES.csv"
    try:
        rows = list(csv.DictReader(table.open(newline="", encoding="utf-8")))
    except OSError as error:
        raise CorpusError(f"{table}: cannot be read: {error.strerror}") from None
    for row in rows:
        for variant in range(variants):
            yield Rendering(
                root / row["file"], row["group"], row.get("licence", ""), row.get("source_repo", ""), variant
            )


def rearrange(data: bytes, rng: np.random.Generator, *, keep: bool, seconds: float) -> bytes:
    """Return a random stretch of the MIDI file with other instruments, another tempo and another key.

    Parameters
    ----------
    keep : bool
        Keep the composer's instruments; tempo and key still change.
    seconds : float
        Length of the stretch in the file's own tempo; all of a shorter song.
    """
    import io

    import mido

    song = mido.MidiFile(file=io.BytesIO(data), clip=True)
    room = max(0.0, song.length - seconds)
    song = _stretch(song, room * rng.random(), seconds)
    # strings, keys, winds and plucked instruments; not the sound effects from 120 on
    programs = {channel: int(rng.integers(0, 104)) for channel in range(16)}
    semitones, tempo = int(rng.integers(-5, 6)), float(rng.uniform(0.8, 1.3))
    for track in song.tracks:
        for message in track:
            if message.type == "program_change" and message.channel != DRUMS and not keep:
                message.program = programs[message.channel]
            if message.type in ("note_on", "note_off") and message.channel != DRUMS:
                message.note = int(np.clip(message.note + semitones, 0, 127))
            if message.type == "set_tempo":
                message.tempo = int(np.clip(message.tempo / tempo, 1, 0xFFFFFF))
    if not keep:
        start = [
            mido.Message("program_change", channel=c, program=p, time=0) for c, p in programs.items() if c != DRUMS
        ]
        song.tracks[0][:0] = start
    out = io.BytesIO()
    song.save(file=out)
    return out.getvalue()


def _stretch(song: Any, start: float, seconds: float) -> Any:
    """Return ``[start, start + seconds)`` of a song; settings made before it (instruments, tempo ...) stay in force.

    Playing a whole song for 20 s of it takes ten times as long.
    """
    import mido

    tempo, now, late = 500_000, 0.0, 0  # the tempo of a file that sets none; seconds; ticks since the last kept message
    held: dict[tuple[int, int], Any] = {}  # notes that sound when the stretch begins
    track = mido.MidiTrack()
    for message in mido.merge_tracks(song.tracks):
        passed = mido.tick2second(message.time, song.ticks_per_beat, tempo)
        late += message.time if now >= start else round(message.time * max(0, now + passed - start) / (passed or 1))
        now += passed
        if now >= start + seconds or message.type == "end_of_track":
            break
        if message.type == "set_tempo":
            tempo = message.tempo
        elif message.is_meta:
            continue
        if now < start and message.type in ("note_on", "note_off"):
            held.pop((message.channel, message.note), None)
            if message.type == "note_on" and message.velocity:
                held[message.channel, message.note] = message.copy(time=0)
            continue
        if now >= start:
            track.extend(held.values())
            held.clear()
        track.append(message.copy(time=late))
        late = 0
    # FluidSynth plays on until all is silent, and a note that is never released is not: all sound off
    silence = [mido.Message("control_change", channel=c, control=120, time=late * (c == 0)) for c in range(16)]
    track.extend(silence)
    cut = mido.MidiFile(ticks_per_beat=song.ticks_per_beat)
    cut.tracks.append(track)
    return cut


def render(item: Rendering, font: Path, *, seconds: float, seed: int) -> NDArray[np.float32] | None:
    """Return up to `seconds` of the file from a random place, 16 kHz; None when it cannot be played."""
    rng = np.random.default_rng([seed, zlib.crc32(item.group.encode()), item.variant])
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        song, wav = Path(folder) / "song.mid", Path(folder) / "song.wav"
        try:
            song.write_bytes(rearrange(item.path.read_bytes(), rng, keep=item.variant == 0, seconds=1.3 * seconds + 2))
            subprocess.run(
                ["fluidsynth", "-ni", "-q", "-g", "0.6", "-R", str(int(rng.random() < 0.5)), "-C", "0", "-r", "16000",
                 "-F", str(wav), str(font), str(song)],
                check=True, capture_output=True, timeout=30,
            )  # fmt: skip
            samples = audio.load(wav)
        except (OSError, ValueError, EOFError, KeyError, IndexError, subprocess.SubprocessError):
            return None
    loud = np.flatnonzero(np.abs(samples) > 1e-3)
    if len(loud) < 16000:
        return None
    samples = samples[loud[0] : loud[-1]]
    length = min(len(samples), round(seconds * 16000))
    start = int(rng.integers(len(samples) - length + 1))
    return samples[start : start + length]


def render_folder(
    root: Path, out: Path, *, variants: int = 3, seconds: float = 20.0, seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> int:  # fmt: skip
    """Render all MIDI files of a corpus into ``out/music`` with a ``SOURCES.csv``; return how many came out.

    The folder appears when all is rendered.

    Raises
    ------
    CorpusError
        If FluidSynth, the soundfont or the MIDI files are missing, or `out` holds something already.
    """
    font = soundfont()
    items = list(list_files(root, variants=variants))
    rows = []
    with making(out) as aside, ThreadPoolExecutor(cores()) as workers:
        (aside / "music").mkdir()
        rendered = workers.map(lambda item: render(item, font, seconds=seconds, seed=seed), items)
        for number, (item, samples) in enumerate(zip(items, rendered, strict=True), start=1):
            if progress:
                progress("rendering MIDI", number, len(items))
            if samples is None:
                continue
            name = f"music/{item.path.stem}-{item.variant}.wav"
            write_wav(aside / name, samples, 16000)
            rows.append([name, "music", "train", f"midi/{item.group}", f"{len(samples) / 16000:.2f}", item.licence,
                         f"midi:{item.source}"])  # fmt: skip
        write_table(aside, rows)
    return len(rows)
