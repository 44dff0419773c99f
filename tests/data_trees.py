"""Small trees in the layouts of public collections, and a server that serves files with and without faults."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from string import ascii_lowercase

import soundfile
from helpers import RATE, SOUNDS

from edge_bench.train.recording import split_of
from edge_runtime.wav import write_wav

ESC_HEADER = "filename,fold,target,category,esc10,src_file,take\n"


def sound(path: Path, label: str, seed: int = 0, seconds: float = 0.3) -> Path:
    """Write a recording, by the suffix of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = SOUNDS[label](seconds, seed)
    if path.suffix == ".wav":
        write_wav(path, samples, RATE)
    else:
        soundfile.write(path, samples, RATE, format=path.suffix[1:].upper())
    return path


def musan(root: Path, seconds: float = 0.3) -> Path:
    """16 files of music by 4 artists in two sources, 12 of speech, 12 of noise, with ANNOTATIONS and LICENSE."""
    for i in range(16):
        source = "fma" if i % 2 else "jamendo"
        sound(root / f"music/{source}/music-{source}-{i:04}.wav", "music", i, seconds)
    for source in ("fma", "jamendo"):
        numbers = [i for i in range(16) if (i % 2 == 1) == (source == "fma")]
        (root / f"music/{source}/ANNOTATIONS").write_text(
            "".join(f"music-{source}-{i:04} rock,pop N Artist_{i // 2 % 4}\n" for i in numbers if i != 15)
        )
        (root / f"music/{source}/LICENSE").write_text(
            "Attribution 3.0 (http://creativecommons.org/licenses/by/3.0/)\n"
            + f"{'=' * 40}\n".join(["", *(f"music-{source}-{i:04}\nA song\n" for i in numbers[:-1]), ""])
            + f"music-{source}-{numbers[-1]:04}\nlicence: Attribution-NonCommercial-ShareAlike 4.0\n"
        )
    for i in range(12):
        sound(root / f"speech/librivox/speech-librivox-{i:04}.wav", "speech", i, seconds)
        sound(root / f"noise/free-sound/noise-free-sound-{i:04}.wav", "noise", i, seconds)
    (root / "speech/librivox/ANNOTATIONS").write_text("speech-librivox-0000 f english\n")
    (root / "speech/librivox/LICENSE").write_text("All recordings are in the public domain.\n")
    (root / "README").write_text("MUSAN\n")
    return root


def music_speech(root: Path, seconds: float = 0.3) -> Path:
    """GTZAN music/speech: 8 files a class for training, 2 for validation, 2 for test, and two parts of one dialogue."""
    for label in ("music", "speech"):
        room = {"train": 8, "validation": 2, "test": 2}
        for i, (a, b) in enumerate(product(ascii_lowercase, ascii_lowercase)):
            split = split_of(f"gtzan-music-speech/{label}/{a}{b}")
            if room[split]:
                room[split] -= 1
                sound(root / f"{label}_wav/{a}{b}.wav", label, i, seconds)
    for part in ("dialogue1", "dialogue2"):
        sound(root / f"speech_wav/{part}.wav", "speech", 40, seconds)
    return root


def genres(root: Path, suffix: str = ".wav", files: int = 3) -> Path:
    """GTZAN genres: jazz and rock, with the damaged jazz.00054 and a companion file of macOS."""
    for genre in ("jazz", "rock"):
        for i in range(files):
            sound(root / f"{genre}/{genre}.{i:05}{suffix}", "music", i)
    (root / f"jazz/jazz.00054{suffix}").write_bytes(b"\x90\xf7damaged" * 20)
    (root / f"rock/._rock.00000{suffix}").write_bytes(b"\0\5\x16\7")
    return root


def esc50(root: Path) -> Path:
    """Three clips in each of five folds: dog (0), rain (10), clapping (22); one source has two clips."""
    rows, credits = [], ["# ESC-50", "## Licensing/attribution details for individual clips:", ""]
    for fold in range(1, 6):
        for target, category in ((0, "dog"), (10, "rain"), (22, "clapping")):
            source = 1000 * fold + target
            for take in "AB" if target == 0 else "A":
                name = f"{fold}-{source}-{take}-{target}.wav"
                sound(root / "audio" / name, "noise", source)
                rows.append(f"{name},{fold},{target},{category},{target == 0},{source},{take}\n")
                credits.append(
                    f"- [{fold}-{source}-{take}.ogg]: clip derived from a: b.wav "
                    f"(http://www.freesound.org/people/p{target}/sounds/{source}/) by person {target} [CC-BY]"
                )
    (root / "meta").mkdir()
    (root / "meta/esc50.csv").write_text(ESC_HEADER + "".join(rows))
    (root / "LICENSE").write_text("\n".join(credits))
    return root


def mirex(root: Path, files: int = 7) -> Path:
    """Long recordings with segments, separated by commas as in the examples or tabs as the task says."""
    for i in range(files):
        sound(root / f"radio{i}.wav", "music", i, 2.0)
        mark = "\t" if i % 2 else ","
        lines = [("0.0", "1.25", "s"), ("0.75", "1.0", "m")]
        (root / f"radio{i}.csv").write_text("".join(mark.join(line) + "\n" for line in lines))
    (root / "radio0_v2.csv").write_text("0.5,1.5,m\n")
    return root


def tar_of(root: Path, archive: Path, top: str) -> bytes:
    """Write root as TOP/ into a .tar.gz and return its bytes."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(root, arcname=top)
    return archive.read_bytes()


def zip_of(root: Path, top: str = "") -> bytes:
    """Return a zip of root."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            archive.write(path, f"{top}{path.relative_to(root).as_posix()}")
    return file.getvalue()


@dataclass
class Served:
    """What a server answers, and what it was asked: change it between requests.

    Attributes
    ----------
    cut : list of int
        Bytes after which to close the connection, one entry for each of the next requests.
    status : list of int
        Answers before the real one.
    """

    files: dict[str, bytes]
    ranges: bool = True
    tag: str = '"1"'
    cut: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Served]:
    """Serve files by their names on loopback."""
    served = Served(files)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            served.asked.append((self.path, wanted))
            if served.status:
                self.send_error(served.status.pop(0))
                return
            content = served.files.get(self.path.lstrip("/"))
            if content is None:
                self.send_error(404)
                return
            start = 0
            if wanted and served.ranges and self.headers.get("If-Range", served.tag) == served.tag:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", served.tag)
            self.end_headers()
            end = start + served.cut.pop(0) if served.cut else len(content)
            self.wfile.write(content[start:end])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
