"""Recordings out of Debian packages: small packages made here, served on loopback, damaged, fuzzed."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import data_trees
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import RATE, SOUNDS
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_bench.train import corpus, debian
from edge_bench.train.data.cli import data
from edge_bench.train.data.deb import extract
from edge_bench.train.debian import Package, Take, gather, pieces, read_table
from edge_runtime import ConfigError, CorpusError, EdgeBenchError
from edge_runtime.wav import write_wav

pytest.importorskip("pooch")
LABELS = ("speech", "music", "noise")


def wav(label: str, seconds: float, seed: int = 0) -> bytes:
    file = io.BytesIO()
    import soundfile

    soundfile.write(file, SOUNDS[label](seconds, seed), RATE, format="WAV")
    return file.getvalue()


def ar(**members: bytes) -> bytes:
    """Return an ar archive; `_` in a name is a dot."""
    out = b"!<arch>\n"
    for name, content in members.items():
        head = f"{name.replace('_', '.'):<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        out += head.encode() + content + b"\n" * (len(content) % 2)
    return out


def tar(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return out.getvalue()


@pytest.fixture(scope="module")
def package() -> bytes:
    """Spoken syllables, a song in a zip archive, a long noise and one that is a jingle, links, a copyright file."""
    files = {f"usr/share/game/voice/en/{i}.wav": wav("speech", 0.7, i) for i in range(9)}
    files["usr/share/game/sounds/wind.wav"] = wav("noise", 5.0)
    files["usr/share/game/sounds/jingle.wav"] = wav("music", 3.0, 5)
    files["usr/share/game/sounds/broken.wav"] = b"RIFF, and no more"
    files["usr/share/doc/game-data/copyright"] = b"by Ann, CC0\n"
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("music/song.wav", wav("music", 6.0))
        archive.writestr("readme.txt", "no sound")
    files["usr/share/game/all.zip"] = zipped.getvalue()
    links = {
        "usr/share/game/voice/en/again.wav": "0.wav", "usr/share/game/voice/en/out.wav": "/etc/passwd",
        "usr/share/game/voice/en/up.wav": "../../../../../../etc/passwd",
    }  # fmt: skip
    return ar(debian_binary=b"2.0\n", control_tar_xz=b"odd", data_tar_xz=tar(files, links))


def table(content: bytes, **changes: object) -> Package:
    takes = (
        Take("speech", "/voice/", 1, 2), Take("music", r"all\.zip/music/", 0.1, 2), Take("noise", "/sounds/", 1, 4)
    )  # fmt: skip
    digest = hashlib.sha256(content).hexdigest()
    plain = Package("game-data", "pool/game-data_1_all.deb", len(content), digest, "CC0", takes)
    return replace(plain, **changes)  # type: ignore[arg-type]


def judge(x: np.ndarray) -> np.ndarray:
    """Hear every class in everything, but no noise in the jingle, which lasts 3 s."""
    return np.array([1.0, 1.0, 0.0 if abs(len(x) - 3 * RATE) < 160 else 1.0], np.float32)


@pytest.fixture
def served(package: bytes) -> Iterator[data_trees.Served]:
    with data_trees.serve({"pool/game-data_1_all.deb": package}) as server:
        yield server


def test_a_package_becomes_a_folder_to_train_on(package: bytes, served: data_trees.Served, tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "out"
    count = gather([table(package)], tmp_path / "debs", out, judge, mirror=served.url, say=said.append)
    found = corpus.load(out, complete=False)
    assert count == len(found.recordings) and {r.split for r in found.recordings} == {"train"}
    assert {r.label for r in found.recordings} == set(LABELS)
    for r in found.recordings:
        assert r.licence == "CC0" and r.source == "debian:game-data" and r.group.startswith("debian/game-data/")
        assert 0.3 < r.seconds <= 4.8
    speech = [r.seconds for r in found.recordings if r.label == "speech"]
    assert min(speech) >= 0.6 * 2, "short ones are joined"
    assert sum(r.label == "music" for r in found.recordings) == 3, "a long piece gives three stretches"
    assert [r.seconds for r in found.recordings if r.label == "noise"] == [pytest.approx(4, abs=0.1)], "no jingle"
    assert (out / "copyright/game-data.txt").read_text() == "by Ann, CC0\n"
    assert said == [f"game-data: {count} pieces, {sum(r.seconds for r in found.recordings) / 60:.1f} minutes"]
    assert not list((tmp_path / "debs").iterdir()) and {p.name for p in tmp_path.iterdir()} == {"debs", "out"}


def test_the_same_again_from_a_package_that_is_there(package: bytes, tmp_path: Path) -> None:
    (tmp_path / "debs").mkdir()
    (tmp_path / "debs/game-data_1_all.deb").write_bytes(package)
    for name in ("one", "two"):
        gather([table(package)], tmp_path / "debs", tmp_path / name, judge, mirror="http://localhost:1", keep=True)
    ones = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert len(ones) > 5
    for path in ones:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_short_sounds_of_a_folder_are_joined_and_never_those_of_two(tmp_path: Path) -> None:
    files: dict[str, Path | None] = {"c/link.wav": None}
    for folder, level in (("a", 0.1), ("b", 0.5)):
        for i in range(5):
            write_wav(tmp_path / f"{folder}{i}.wav", np.full(RATE // 2, level), RATE)
            files[f"{folder}/{i}.wav"] = tmp_path / f"{folder}{i}.wav"
    found = list(pieces(Take("speech", "", 1, 2), files, seed=1))
    assert {name[0] for name, _ in found} == {"a", "b"}
    for name, x in found:
        assert 1.2 * RATE <= len(x) <= 2.4 * RATE
        assert np.unique(np.round(10 * x[x != 0])).tolist() == [1 if name.startswith("a") else 5]


def test_what_is_left_out_changes_nothing_else(package: bytes, tmp_path: Path) -> None:
    (tmp_path / "game-data_1_all.deb").write_bytes(package)
    found = {}
    for without in ("", r"/wind\.wav$"):
        takes = (Take("speech", "/voice/", 1, 2), Take("noise", "/sounds/", 1, 4, without))
        gather([table(package, takes=takes)], tmp_path, tmp_path / f"out{without[:1] and 1}", judge, keep=True)
    for number in ("", "1"):
        folder = tmp_path / f"out{number}"
        found[number] = {p.read_bytes() for p in folder.rglob("*.wav")}
    assert found["1"] < found[""] and len(found[""]) == len(found["1"]) + 1


def test_links_stay_inside(package: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "p.deb").write_bytes(package)
    files = extract(tmp_path / "p.deb", tmp_path / "x", lambda name: "/voice/" in name)
    assert files["usr/share/game/voice/en/again.wav"] == files["usr/share/game/voice/en/0.wav"]
    assert files["usr/share/game/voice/en/out.wav"] is None and files["usr/share/game/voice/en/up.wav"] is None
    assert len(files) == 12 and all(p.parent == tmp_path / "x" for p in files.values() if p)


def test_what_cannot_be_used_is_said_in_one_line(package: bytes, served: data_trees.Served, tmp_path: Path) -> None:
    def refused(entry: Package, match: str, out: str = "out") -> None:
        with pytest.raises(EdgeBenchError, match=match):
            gather([entry], tmp_path / "debs", tmp_path / out, judge, mirror=served.url, say=lambda _: None)
        assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()

    refused(table(package, sha256="0" * 64), "another checksum")
    refused(table(package, file="pool/none.deb"), "none.deb")
    refused(table(package, takes=(Take("noise", "/nothing/", 1, 1),)), "nothing of it could be used")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    refused(table(package), "exists already", "full")
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeBenchError, match="cannot be written"):
        gather([table(package)], tmp_path / "file", tmp_path / "out", judge, mirror=served.url)
    with pytest.raises(CorpusError, match="more than 1,000 bytes"):
        (tmp_path / "x").mkdir()
        (tmp_path / "p.deb").write_bytes(package)
        extract(tmp_path / "p.deb", tmp_path / "x", lambda name: True, limit=1000)


@settings(max_examples=150, deadline=None)
@given(at=st.floats(0, 1), garbage=st.binary(max_size=40), cut=st.booleans())
def test_damaged_packages_are_refused_or_read(
    package: bytes, tmp_path_factory: pytest.TempPathFactory, at: float, garbage: bytes, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    place = int(at * len(package))
    (folder / "p.deb").write_bytes(package[:place] + garbage + (b"" if cut else package[place + len(garbage) :]))
    (folder / "x").mkdir()
    try:
        files = extract(folder / "p.deb", folder / "x", lambda name: name.endswith(".wav"))
    except CorpusError as error:
        assert "p.deb" in str(error) and "\n" not in str(error)
    else:
        assert all(path is None or path.is_file() for path in files.values())


def test_the_shipped_table() -> None:
    packages = read_table()
    assert len({p.name for p in packages}) == len(packages) == 51
    for p in packages:
        assert p.file.startswith("pool/main/") and len(p.sha256) == 64 and p.size > 10**6 and p.licence and p.takes
    per_class = {label: sum(t.minutes for p in packages for t in p.takes if t.label == label) for label in LABELS}
    assert min(per_class.values()) > 25


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x = 1", "'package' is missing"),
        ('[[package]]\nname = "a"', "'take' is missing"),
        ('[[package]]\n[[package.take]]\nclass = "tone"\npaths = "a"\nminutes = 1\nseconds = 1', "'tone' is not one"),
        ('[[package]]\n[[package.take]]\nclass = "noise"\npaths = "("\nminutes = 1\nseconds = 1', "unterminated"),
        ("[[", "cannot be read as TOML"),
    ],
)
def test_a_wrong_table_is_said_in_one_line(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(ConfigError, match=match):
        read_table(tmp_path / "t.toml")


def test_the_command(
    package: bytes, served: data_trees.Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "yamnet_judge", lambda: judge)
    (tmp_path / "t.toml").write_text(
        f'[[package]]\nname = "game-data"\nfile = "pool/game-data_1_all.deb"\nsize = {len(package)}\nlicence = "CC0"\n'
        f'sha256 = "{hashlib.sha256(package).hexdigest()}"\n'
        '[[package.take]]\nclass = "speech"\npaths = "/voice/"\nminutes = 1\nseconds = 2\n'
    )
    where = ["--dir", str(tmp_path), "--out", str(tmp_path / "out"), "--mirror", served.url]
    done = CliRunner().invoke(data, ["gather", str(tmp_path / "t.toml"), *where], catch_exceptions=False)
    assert done.exit_code == 0 and f"recordings: {tmp_path / 'out'}" in done.output
    assert (tmp_path / "out/SOURCES.csv").is_file()
