"""Emulated boards: what needs no emulator. See test_emulate.py for the boards themselves."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_bench.boards import kept, profile, wheels
from edge_bench.boards.emulation import board, host, launch, machines, packages, processes
from edge_bench.boards.emulation import boot as booting
from edge_bench.boards.emulation.cli import emulate
from edge_bench.boards.emulation.cpio import Archive
from edge_bench.boards.targets import emulated
from edge_runtime.errors import ConfigError, EdgeBenchError

BOARD = board.Board("pi4", "127.0.0.1", 4022, "pi", "id_ed25519", "ssh-ed25519 AAAA", "chroot", "cortex-a72")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a stopped board's description."""
    (tmp_path / "board.json").write_text(json.dumps(board.describe(tmp_path, BOARD)))
    return tmp_path


@pytest.mark.parametrize("name", machines.MACHINES)
def test_a_board_is_known_by_its_own_files(name: str, tmp_path: Path) -> None:
    wanted = profile.load(name)
    for path, text in machines.files(wanted).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert profile.detect(tmp_path) == wanted
    cpuinfo = (tmp_path / "proc/cpuinfo").read_text()
    assert cpuinfo.count("processor\t:") == wanted.processor.cores
    # LiteRT needs the part number of every core; numbers are Arm's
    parts = {"Cortex-A53": "0xd03", "Cortex-A72": "0xd08", "Cortex-A76": "0xd0b"}
    assert cpuinfo.count(f"CPU part\t: {parts[wanted.processor.core]}\n") == wanted.processor.cores
    memory = int((tmp_path / "proc/meminfo").read_text().split()[1]) * 1024
    assert 0.9 * wanted.memory.ram < memory < wanted.memory.ram


def test_only_boards_with_a_known_processor_can_be_emulated() -> None:
    with pytest.raises(ConfigError, match="nano33-ble cannot be emulated: give one of"):
        machines.machine("nano33-ble")


def test_missing_programs_are_named_with_the_line_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(host.PACKAGES, "no-such-qemu", "qemu-user-static")
    with pytest.raises(ConfigError, match=r"an emulator needs no-such-qemu: .*apt-get install .* qemu-user-static$"):
        host.require(("sh", "no-such-qemu"), "an emulator")
    assert host.missing(("sh", "no-such-qemu")) == ["no-such-qemu"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "require", lambda programs, what: None)
    monkeypatch.setattr(host, "mode", lambda: host.CHROOT)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and holds no emulated board"):
        board.make("pi4", tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_failed_attempt_leaves_nothing_and_the_next_one_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(profile: object, root: Path, **more: object) -> None:
        root.mkdir(parents=True)
        (root / "half").touch()
        raise EdgeBenchError("no network")

    monkeypatch.setattr(host, "require", lambda programs, what: None)
    monkeypatch.setattr(host, "mode", lambda: host.CHROOT)
    monkeypatch.setattr(board.userland, "build", broken)
    for there in (tmp_path / "new", tmp_path / "empty"):
        if there.name == "empty":
            there.mkdir()
        for _ in range(2):
            with pytest.raises(EdgeBenchError, match="no network"):
                board.make("pi4", there)
            assert there.exists() == (there.name == "empty")
            assert not there.exists() or not list(there.iterdir())


def test_a_port_in_use_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "require", lambda programs, what: None)
    monkeypatch.setattr(host, "mode", lambda: host.CHROOT)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {number} of 127.0.0.1: Address already in use"):
            board.make("pi4", tmp_path / "new", port=number)
    assert not (tmp_path / "new").exists()


def test_another_board_in_the_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="holds an emulated pi4, not pi5"):
        board.make("pi5", folder)


def test_stopping_says_what_is_wrong(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    done = CliRunner().invoke(emulate, ["pi4", "--dir", str(tmp_path_factory.mktemp("none")), "--stop"])
    assert isinstance(done.exception, ConfigError) and "no emulated board (No such file" in str(done.exception)
    done = CliRunner().invoke(emulate, ["pi5", "--dir", str(folder), "--stop"])
    assert isinstance(done.exception, ConfigError) and "holds an emulated pi4" in str(done.exception)
    done = CliRunner().invoke(emulate, ["pi4", "--dir", str(folder), "--stop", "--json", "-"])
    answer = json.loads(done.output)
    assert answer["schema"] == "edge-bench/emulate/1" and not answer["running"]
    assert {"host", "port", "host_key", "profile"} <= set(answer)


def test_commands_find_the_board_by_its_description(folder: Path) -> None:
    assert emulated(folder).name == str(folder)
    assert (folder / "known_hosts").read_text() == "[127.0.0.1]:4022 ssh-ed25519 AAAA\n"


def test_a_damaged_description_is_one_line(folder: Path) -> None:
    (folder / "board.json").write_text('{"profile": "pi4"}')
    with pytest.raises(ConfigError, match=r"no emulated board \(KeyError\('host'\)\); make one"):
        board.read(folder)


def test_a_board_runs_while_the_same_process_does_and_stop_ends_its_children(folder: Path) -> None:
    program = "import subprocess, sys; subprocess.Popen(['sleep', '100'], start_new_session=True).wait()"
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    running = replace(BOARD, pid=process.pid, born=processes.born(process.pid))
    (folder / "board.json").write_text(json.dumps(asdict(running)))
    assert running.running
    assert not replace(running, born=(running.born or 0) + 1).running  # another process has got the number
    while not (children := processes.descendants(process.pid)):
        time.sleep(0.01)
    stopped = board.stop(folder)
    assert stopped == BOARD == board.read(folder)
    process.wait()
    gone = time.monotonic() + 10
    while processes.born(children[0]) is not None and time.monotonic() < gone:
        time.sleep(0.01)
    assert processes.born(children[0]) is None
    assert board.stop(folder) == BOARD  # and once more


def test_the_cache_is_filled_whole_or_not_at_all(tmp_path: Path) -> None:
    def half(folder: Path) -> None:
        (folder / "a.deb").touch()
        raise EdgeBenchError("the network went away")

    def whole(folder: Path) -> None:
        assert not list(folder.iterdir())
        (folder / "a.deb").touch()

    def never(folder: Path) -> None:
        raise AssertionError("is there already")

    with pytest.raises(EdgeBenchError, match="went away"):
        kept.kept(tmp_path / "cache/debs", half)
    for fill in (whole, never):
        assert kept.kept(tmp_path / "cache/debs", fill) == [tmp_path / "cache/debs/a.deb"]


@pytest.mark.slow
def test_without_a_network_the_mirror_is_named(tmp_path: Path) -> None:
    if host.missing(("apt-get",)) or not packages.KEYRING.is_file():
        pytest.skip("needs Debian's apt-get and keyring")
    with pytest.raises(EdgeBenchError, match=r"arm64 packages cannot be fetched: .*is the network up"):
        packages.debs(("libc6",), cache=tmp_path, mirror="http://127.0.0.1:9/debian")
    assert not list(tmp_path.glob("debs-*"))


def test_a_command_keeps_its_arguments_and_gets_the_processor() -> None:
    pi5 = profile.load("pi5")
    for mode in (host.CHROOT, host.PROOT):
        argv = launch.command(Path("/b"), pi5, ["/bin/sh", "-c", "echo 'a b'"], mode=mode, environment={"X": "1"})
        assert argv[-3:] == ["/bin/sh", "-c", "echo 'a b'"]
        assert {"QEMU_CPU=cortex-a76", "X=1", "OPENBLAS_NUM_THREADS=1"} <= set(argv)


@pytest.mark.parametrize(
    ("python", "architecture", "wrong"),
    [((3, 9), "aarch64", "3.9 is too old"), ((3, 11), "armv7l", "no wheels of numpy for armv7l")],
)
def test_boards_without_wheels_are_told_what_to_do(python: tuple[int, int], architecture: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        wheels.for_board(python, architecture)


def test_the_runtime_is_pinned_as_in_the_constraints_of_ci() -> None:
    constraints = Path(__file__).parent.parent / "constraints-board.txt"
    pinned = {line for line in constraints.read_text().splitlines() if "==" in line and not line.startswith("#")}
    assert pinned <= set(wheels.requirements())
    assert wheels.for_board((3, 12), "aarch64") == wheels.requirements()
    assert wheels.for_board((3, 10), "aarch64") == [line.partition("==")[0] for line in wheels.requirements()]


def test_our_wheel_is_made_of_an_installation_without_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    information = site / "edge_bench-0.1.0.dist-info"
    information.mkdir(parents=True)
    (site / "edge_runtime").mkdir()
    (site / "edge_runtime/__init__.py").write_text("x = 1\n")
    (information / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: edge-bench\nVersion: 0.1.0\n")
    (information / "RECORD").write_text(
        "edge_runtime/__init__.py,sha256=abc,6\nedge_runtime/__pycache__/__init__.pyc,,\n../../bin/edge-bench,,\n"
        "edge_bench-0.1.0.dist-info/WHEEL,,\nedge_bench-0.1.0.dist-info/METADATA,,\nedge_bench-0.1.0.dist-info/RECORD,,\n"
    )
    found = wheels.metadata.PathDistribution(information)
    monkeypatch.setattr(wheels, "_source", lambda: None)
    monkeypatch.setattr(wheels.metadata, "distribution", lambda name: found)
    wheel = wheels.own(tmp_path)
    assert wheel.name == "edge_bench-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert sorted(archive.namelist()) == [
            "edge_bench-0.1.0.dist-info/METADATA", "edge_bench-0.1.0.dist-info/RECORD",
            "edge_bench-0.1.0.dist-info/WHEEL", "edge_runtime/__init__.py",
        ]  # fmt: skip
        assert b"edge_runtime/__init__.py,sha256=abc,6\n" in archive.read("edge_bench-0.1.0.dist-info/RECORD")


def test_our_wheel_changes_with_its_source() -> None:
    source = wheels._source()
    assert source is not None
    names = {str(f.relative_to(source)) for f in wheels._sources(source)}
    assert {"setup.cfg", "boards/runtime.txt", "boards/emulation/tcg_count.c", "edge_runtime/classify.py"} <= names
    assert not any("__pycache__" in name for name in names)
    assert wheels.fingerprint() == wheels.fingerprint() and len(wheels.fingerprint()) == 64
    assert os.sep not in kept.named("own", wheels.fingerprint())


def unpacked(data: bytes) -> dict[str, tuple[int, int, bytes]]:
    """Return mode, time and content of every entry of a cpio archive, by the format's description."""
    found, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701" and at % 4 == 0
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, time, size, length = fields[1], fields[5], fields[6], fields[11]
        name = data[at + 110 : at + 110 + length - 1].decode()
        begin = (at + 110 + length + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        assert name not in found
        found[name] = (mode, time, data[begin : begin + size])
        at = (begin + size + 3) // 4 * 4


def test_an_initramfs_keeps_what_python_needs(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("x = 1\n")
    os.utime(file, (1_700_000_000, 1_700_000_000))
    file.chmod(0o755)
    (tmp_path / "link").symlink_to("a.py")
    out = io.BytesIO()
    with Archive(out) as archive:
        archive.add("usr/lib/a.py", file)
        archive.add("usr/lib/link", tmp_path / "link")
        archive.text("init", "#!/bin/sh\n", mode=0o755)
    found = unpacked(out.getvalue())
    assert list(found) == ["usr", "usr/lib", "usr/lib/a.py", "usr/lib/link", "init"]
    assert found["usr/lib/a.py"] == (0o100755, 1_700_000_000, b"x = 1\n")
    assert found["usr/lib/link"] == (0o120777, 0, b"a.py")
    assert found["usr/lib"][0] == 0o040755 and found["init"][2] == b"#!/bin/sh\n"


def test_what_a_booted_board_says_is_read() -> None:
    answer = booting.Booted(0, "6.1.0-50-cloud-arm64\nMemTotal:         480000 kB\nRaspberry Pi Zero 2 W Rev 1.0\0")
    assert booting.described(answer) == {
        "kernel": "6.1.0-50-cloud-arm64", "memory": 480000 * 1024, "model": "Raspberry Pi Zero 2 W Rev 1.0",
    }  # fmt: skip
    with pytest.raises(EdgeBenchError, match="the booted board said 'sh: not found'"):
        booting.described(booting.Booted(127, "sh: not found"))
