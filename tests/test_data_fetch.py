"""Fetching and checking collections from a server on loopback: resuming, checksums, unpacking, faults."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import data_trees
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_bench.train import corpus
from edge_bench.train.data import fetch as fetching
from edge_bench.train.data.cli import data
from edge_bench.train.data.download import DownloadError, Resuming
from edge_bench.train.data.fetch import RECORD, fetch
from edge_bench.train.data.registry import DATASETS, Archive, Dataset, find
from edge_bench.train.data.unpack import unpack
from edge_bench.train.data.verify import verify
from edge_runtime import ConfigError, CorpusError, EdgeBenchError

pytest.importorskip("pooch")


@pytest.fixture(scope="module")
def musan_tar(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A musan.tar.gz of small files."""
    root = tmp_path_factory.mktemp("source")
    return data_trees.tar_of(data_trees.musan(root / "tree"), root / "musan.tar.gz", "musan")


@pytest.fixture(scope="module")
def mirex_zip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The zip of the MIREX examples, with small files and no folder around them."""
    return data_trees.zip_of(data_trees.mirex(tmp_path_factory.mktemp("source")))


@pytest.fixture
def served(musan_tar: bytes) -> Iterator[data_trees.Served]:
    """A server with musan.tar.gz."""
    with data_trees.serve({"musan.tar.gz": musan_tar}) as server:
        yield server


def small(served: data_trees.Served, content: bytes, **changes: Any) -> Dataset:
    """MUSAN's entry with the address, size and checksum of the small tree."""
    archive = Archive(f"{served.url}/musan.tar.gz", len(content), "md5:" + hashlib.md5(content).hexdigest(), "us")
    return replace(find("musan"), **{"archives": (archive,), "files": 40, "unpacked": 10**7, **changes})


def command(*arguments: str, code: int = 0) -> str:
    """Run edge-bench data in this process; one line of an EdgeBenchError is the output, with code 2."""
    try:
        done = CliRunner().invoke(data, [*arguments], catch_exceptions=False)
    except EdgeBenchError as error:
        assert code == 2
        return str(error)
    assert done.exit_code == code, done.output
    return done.output


def left_over(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


# --- the registry -----------------------------------------------------------------------------


def test_registry() -> None:
    assert [d.name for d in DATASETS] == ["musan", "gtzan-music-speech", "gtzan-genres", "esc-50", "mirex-2015"]
    for d in DATASETS:
        assert d.licence and d.citation and d.homepage.startswith("http") and d.archives
        for a in d.archives:
            assert a.url.startswith("http") and a.size > 10**8
            if a.checksum:
                kind, _, digits = a.checksum.partition(":")
                assert len(digits) == {"md5": 32, "sha256": 64}[kind] and a.checksum_from
    with pytest.raises(ConfigError, match="nope: no such dataset; known are musan, gtzan"):
        find("nope")


def test_list(tmp_path: Path) -> None:
    (tmp_path / "esc-50").mkdir()
    text = command("list", "--dir", str(tmp_path), "--json", str(tmp_path / "list.json"))
    assert "11.1 GB" in text and "CC BY-NC 3.0" in text
    listed = json.loads((tmp_path / "list.json").read_text())
    assert listed["schema"] == "edge-bench/data-list/1"
    assert {d["name"]: d["present"] for d in listed["datasets"]}["esc-50"] is True
    assert json.loads(command("list", "--json", "-"))["datasets"][0]["present"] is None


# --- fetching ---------------------------------------------------------------------------------


def test_fetch_verify_train(served: data_trees.Served, musan_tar: bytes, tmp_path: Path) -> None:
    dataset, seen = small(served, musan_tar), []
    done = fetch(dataset, tmp_path, progress=lambda *step: seen.append(step))
    assert done.folder == tmp_path / "musan" and not done.already
    assert left_over(tmp_path) == ["musan"], "no archive, no unfinished file"
    assert len(corpus.load(done.folder).recordings) == 40
    record = json.loads((done.folder / RECORD).read_text())
    assert record["archive"]["sha256"] == hashlib.sha256(musan_tar).hexdigest() and len(record["files"]) == 47
    assert stat.S_IMODE(done.folder.stat().st_mode) == 0o755
    assert ("musan.tar.gz", len(musan_tar), len(musan_tar)) in seen and any(s[0] == "unpacking" for s in seen)
    result = verify(dataset, tmp_path)
    assert result.fine and (result.files, result.checksums) == (40, "match")
    assert fetch(dataset, tmp_path).already and len(served.asked) == 1


def test_a_cut_connection_is_taken_up(served: data_trees.Served, musan_tar: bytes, tmp_path: Path) -> None:
    served.cut = [1000, 50_000]
    out = tmp_path / "out"
    Resuming(tmp_path / "part", wait_s=0, block=500)(f"{served.url}/musan.tar.gz", out, None)
    assert out.read_bytes() == musan_tar and not (tmp_path / "part").exists()
    assert [r for _, r in served.asked] == [None, "bytes=1000-", "bytes=51000-"]


def test_an_interrupted_fetch_goes_on(served: data_trees.Served, musan_tar: bytes, tmp_path: Path) -> None:
    dataset = small(served, musan_tar)

    def stop(name: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    served.cut = [20_000]
    with pytest.raises(KeyboardInterrupt):
        fetch(dataset, tmp_path, progress=stop)
    assert not (tmp_path / "musan").exists()
    assert [p.stat().st_size for p in tmp_path.glob("musan.tar.gz.*.part")] == [2**14]
    fetch(dataset, tmp_path)
    assert served.asked[-1][1] == f"bytes={2**14}-" and left_over(tmp_path) == ["musan"]


@pytest.mark.parametrize("fault", ["changed at the server", "no ranges", "too long"])
def test_an_unfinished_file_that_does_not_fit(
    served: data_trees.Served, musan_tar: bytes, tmp_path: Path, fault: str
) -> None:
    part, out = tmp_path / "part", tmp_path / "out"
    part.write_bytes(b"x" * (len(musan_tar) + 5 if fault == "too long" else 4000))
    if fault == "changed at the server":
        part.with_name("part.etag").write_text('"0"')
    served.ranges = fault != "no ranges"
    Resuming(part, wait_s=0)(f"{served.url}/musan.tar.gz", out, None)
    assert out.read_bytes() == musan_tar and left_over(tmp_path) == ["out"]


def test_a_whole_unfinished_file_is_not_fetched_again(
    served: data_trees.Served, musan_tar: bytes, tmp_path: Path
) -> None:
    (tmp_path / "part").write_bytes(musan_tar)
    Resuming(tmp_path / "part")(f"{served.url}/musan.tar.gz", tmp_path / "out", None)
    assert (tmp_path / "out").read_bytes() == musan_tar


@settings(max_examples=15, deadline=None)
@given(st.binary(min_size=1, max_size=3000), st.lists(st.integers(1, 900), max_size=6))
def test_any_cuts_give_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("cuts")
    with data_trees.serve({"f": content}) as server:
        server.cut = list(cuts)
        Resuming(folder / "part", wait_s=0, block=1)(f"{server.url}/f", folder / "out", None)
    assert (folder / "out").read_bytes() == content


def test_a_server_in_trouble(served: data_trees.Served, musan_tar: bytes, tmp_path: Path) -> None:
    served.status = [503, 429]
    Resuming(tmp_path / "part", wait_s=0)(f"{served.url}/musan.tar.gz", tmp_path / "out", None)
    assert (tmp_path / "out").read_bytes() == musan_tar
    served.status = [503] * 4
    with pytest.raises(DownloadError, match="the server answers 503"):
        Resuming(tmp_path / "part", wait_s=0)(f"{served.url}/musan.tar.gz", tmp_path / "out", None)


def test_404_and_the_next_place(served: data_trees.Served, musan_tar: bytes, tmp_path: Path) -> None:
    good = small(served, musan_tar).archives[0]
    gone, said = replace(good, url=f"{served.url}/gone/musan.tar.gz"), []
    with pytest.raises(EdgeBenchError, match=r"gone/musan.tar.gz: the server answers 404 Not Found"):
        fetch(small(served, musan_tar, archives=(gone,)), tmp_path)
    assert not (tmp_path / "musan").exists()
    fetch(small(served, musan_tar, archives=(gone, good)), tmp_path, say=said.append)
    assert len(said) == 1 and said[0].endswith("trying the next place")


def test_nobody_answers(served: data_trees.Served, musan_tar: bytes, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the server refuses connections"):
        Resuming(tmp_path / "part", wait_s=0)("http://127.0.0.1:9/x", tmp_path / "out", None)


def test_a_wrong_checksum(served: data_trees.Served, musan_tar: bytes, tmp_path: Path) -> None:
    wrong = replace(small(served, musan_tar).archives[0], checksum="md5:" + "0" * 32)
    with pytest.raises(EdgeBenchError, match=r"another checksum than md5:0000.* and was deleted"):
        fetch(small(served, musan_tar, archives=(wrong,)), tmp_path)
    assert left_over(tmp_path) == []


def test_a_full_disk(
    served: data_trees.Served, musan_tar: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "part"
    part.symlink_to("/dev/full")
    with pytest.raises(EdgeBenchError, match="No space left on device; free some space and run it again"):
        Resuming(part)(f"{served.url}/musan.tar.gz", tmp_path / "out", None)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage(1, 1, 10**6))
    with pytest.raises(EdgeBenchError, match=r"musan needs 0.0 GB .* 0.0 GB are free; give another folder"):
        fetch(small(served, musan_tar), tmp_path)


def test_a_disk_that_fills_while_unpacking(
    served: data_trees.Served, musan_tar: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "unpack", full)
    with pytest.raises(EdgeBenchError, match=r"cannot be unpacked: No space left on device; musan.tar.gz is kept"):
        fetch(small(served, musan_tar), tmp_path)
    assert left_over(tmp_path) == ["musan.tar.gz"]
    monkeypatch.undo()
    fetch(small(served, musan_tar), tmp_path)
    assert len(served.asked) == 1, "the archive was there"


def test_two_runs_at_once(served: data_trees.Served, tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / "part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(EdgeBenchError, match="another run is downloading it"):
            Resuming(tmp_path / "part")(f"{served.url}/musan.tar.gz", tmp_path / "out", None)


def test_a_folder_of_something_else(served: data_trees.Served, musan_tar: bytes, tmp_path: Path) -> None:
    (tmp_path / "musan").mkdir()
    with pytest.raises(CorpusError, match="is there, but it does not have the layout of musan; move it away"):
        fetch(small(served, musan_tar), tmp_path)


def test_another_collection_in_the_archive(mirex_zip: bytes, tmp_path: Path) -> None:
    with data_trees.serve({"musan.tar.gz": mirex_zip}) as server:
        with pytest.raises(CorpusError, match="does not have the layout of musan"):
            fetch(small(server, mirex_zip), tmp_path)
    assert not (tmp_path / "musan").exists() and not list(tmp_path.glob(".*"))


# --- as a user types it -----------------------------------------------------------------------


def test_a_collection_without_published_checksum(mirex_zip: bytes, tmp_path: Path) -> None:
    where = ["--dir", str(tmp_path / "data")]
    name = find("mirex-2015").archives[0].file
    with data_trees.serve({name: mirex_zip}) as server:
        mirror = ["--mirror", server.url + "/"]
        text = command("fetch", "mirex-2015", *where, *mirror, "--keep-archive")
        assert "licence: not stated" in text and "Nobody publishes a checksum" in text and "fetched" in text
        note = tmp_path / "data" / "mirex-2015.sha256"
        assert note.read_text() == f"{hashlib.sha256(mirex_zip).hexdigest()}  {name}\n"
        assert "is there already" in command("fetch", "mirex-2015", *where, *mirror)
        assert "7 audio files" in command("verify", "mirex-2015", *where)

        server.files[name] = mirex_zip + b"changed"
        for path in (tmp_path / "data" / name, tmp_path / "data" / "mirex-2015"):
            path.rename(tmp_path / f"old-{path.name}")
        error = command("fetch", "mirex-2015", *where, *mirror, code=2)
        assert "differs from that of the first download" in error and "or the note to accept it" in error
        assert not (tmp_path / "data" / "mirex-2015").exists()


def test_a_mirror_does_not_loosen_the_checksum(musan_tar: bytes, served: data_trees.Served, tmp_path: Path) -> None:
    large = replace(find("musan"), unpacked=10**7)
    large = replace(large, archives=(replace(large.archives[0], size=10**6),))
    with pytest.raises(EdgeBenchError, match="another checksum than md5:0c472d4fc0c5141eca47ad1ffeb2a7df"):
        fetch(large, tmp_path, mirror=served.url)


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_BENCH_DATA", raising=False)
    assert "use --dir DIR or set EDGE_BENCH_DATA" in command("verify", "musan", code=2)
    monkeypatch.setenv("EDGE_BENCH_DATA", str(tmp_path))
    assert f"{tmp_path}/musan: not there; edge-bench data fetch musan" in command("verify", "musan", code=2)
    assert "no such dataset" in command("fetch", "nope", code=2)
    (tmp_path / "file").write_text("")
    assert "cannot be made" in command("fetch", "musan", "--dir", str(tmp_path / "file" / "x"), code=2)


# --- verifying --------------------------------------------------------------------------------


def test_verify_finds_what_is_wrong(served: data_trees.Served, musan_tar: bytes, tmp_path: Path) -> None:
    dataset = small(served, musan_tar)
    root = fetch(dataset, tmp_path).folder
    (root / "speech/librivox/speech-librivox-0000.wav").unlink()
    (root / "noise/free-sound/LICENSE").write_text("mine")
    (root / "music/fma/music-fma-0001.wav").write_bytes(b"RIFF")
    found = {f.file: f.problem for f in verify(dataset, tmp_path).problems}
    assert found == {
        "speech/librivox/speech-librivox-0000.wav": "missing",
        "noise/free-sound/LICENSE": "not part of the collection",
        "music/fma/music-fma-0001.wav": "differs from what was fetched",
        ".": "39 recordings, the complete collection has 40",
    }
    assert verify(dataset, tmp_path).checksums == "differ"
    (root / RECORD).write_text("{}")
    with pytest.raises(CorpusError, match=r"edge-bench.json: cannot be read"):
        verify(dataset, tmp_path)


def test_verify_of_what_was_unpacked_by_hand(tmp_path: Path) -> None:
    data_trees.genres(tmp_path / "gtzan-genres")
    dataset = replace(find("gtzan-genres"), files=7)
    result = verify(dataset, tmp_path)
    assert result.fine and result.checksums == "not recorded"
    assert [f.file for f in result.known] == ["jazz/jazz.00054.wav"]
    (tmp_path / "gtzan-genres/rock/rock.00002.wav").write_bytes(b"RIFF\0\0\0\0")
    text = command("verify", "gtzan-genres", "--dir", str(tmp_path), "--json", str(tmp_path / "v.json"), code=1)
    assert "rock/rock.00002.wav: " in text and "known to be damaged: jazz/jazz.00054.wav" in text
    value = json.loads((tmp_path / "v.json").read_text())
    assert value["schema"] == "edge-bench/data-verify/1" and not value["fine"]


def test_segments_beyond_the_end(tmp_path: Path) -> None:
    data_trees.mirex(tmp_path / "mirex-2015")
    (tmp_path / "mirex-2015/radio1.csv").write_text("0\t99\tm\n")
    result = verify(find("mirex-2015"), tmp_path)
    assert "radio1.wav: its last segment ends at 99.0 s, the recording at 2.0 s" in result.problems[0].problem


# --- unpacking --------------------------------------------------------------------------------


def tar_with(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "info",
    [
        entry("../out.txt"),
        entry("/tmp/out.txt"),
        entry("a/../../out.txt"),
        entry("link", tarfile.SYMTYPE, "../../etc"),
        entry("link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("link", tarfile.LNKTYPE, "../x"),
        entry("device", tarfile.CHRTYPE),
        entry("pipe", tarfile.FIFOTYPE),
    ],
)
def test_a_hostile_tar(tmp_path: Path, info: tarfile.TarInfo) -> None:
    archive = tmp_path / "bad.tar.gz"
    archive.write_bytes(tar_with((info, b"")))
    with pytest.raises(CorpusError, match="not the expected archive"):
        unpack(archive, tmp_path / "target", limit=1000)
    assert left_over(tmp_path) == ["bad.tar.gz"]


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a\\..\\..\\out.txt", "C:\\out.txt"])
def test_a_hostile_zip(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(CorpusError, match="outside its folder"):
        unpack(tmp_path / "bad.zip", tmp_path / "target", limit=1000)
    assert left_over(tmp_path) == ["bad.zip"]


def test_links_inside_are_skipped_and_bombs_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tar_with((entry("d/a"), b"abc"), (entry("d/b", tarfile.SYMTYPE, "a"), b"")))
    assert unpack(tmp_path / "a.tar.gz", tmp_path / "t", limit=10) == {"d/a": (3, hashlib.sha256(b"abc").hexdigest())}
    assert os.listdir(tmp_path / "t/d") == ["a"]
    (tmp_path / "bomb.tar.gz").write_bytes(tar_with((entry("zeros"), bytes(10**6))))
    with pytest.raises(CorpusError, match="unpacks to more than 1,000 bytes"):
        unpack(tmp_path / "bomb.tar.gz", tmp_path / "u", limit=1000)
    (tmp_path / "twice.tar.gz").write_bytes(tar_with((entry("a"), b"1"), (entry("a"), b"2")))
    with pytest.raises(CorpusError, match="holds a twice"):
        unpack(tmp_path / "twice.tar.gz", tmp_path / "v", limit=1000)


def test_damaged_archives(musan_tar: bytes, mirex_zip: bytes, tmp_path: Path) -> None:
    damaged = bytearray(mirex_zip)
    damaged[200:2000] = bytes(1800)
    for i, content in enumerate((b"", b"no archive", musan_tar[:-5000], bytes(damaged), mirex_zip[:500])):
        (tmp_path / f"{i}").write_bytes(content)
        with pytest.raises(CorpusError, match="is damaged, or no tar or zip"):
            unpack(tmp_path / f"{i}", tmp_path / f"t{i}", limit=10**8)
