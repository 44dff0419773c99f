"""Enrolling and flashing a board that is a folder of this machine; its faults are in test_flash_faults.py."""

from __future__ import annotations

import dataclasses
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_bench.benchmarks.cli import group
from edge_bench.boards import enrol, flashing
from edge_bench.boards.agent import enrolment, manifest, service, signatures, steps
from edge_bench.boards.agent.errors import Refused
from edge_bench.boards.agent.store import Store
from edge_bench.boards.profile import load
from edge_bench.boards.transport import Local
from edge_runtime.board_check import front_end_sha256
from edge_runtime.bundle import read
from edge_runtime.errors import BoardError, ConfigError, EdgeBenchError

PROFILE = load("x86-64")
OLD, NEW = read("swishnet-slim-int8"), read("swishnet-wide-int8")


def make_key(path: Path) -> Path:
    """Make an SSH key without a passphrase."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three keys."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: make_key(folder / name) for name in ("ours", "other", "third")}


@pytest.fixture(scope="module")
def flashed(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, Path]) -> Path:
    """A board that runs slim as version 1; to be copied."""
    folder = tmp_path_factory.mktemp("flashed")
    transport = Local(folder)
    enrol.enrol(transport, PROFILE, [keys["ours"]], python=sys.executable)
    answer = flashing.flash(transport, OLD, PROFILE, keys["ours"])
    assert (answer["slot"], answer["version"], answer["state"], answer["changed"]) == ("a", 1, "confirmed", True)
    return folder


@pytest.fixture
def board(flashed: Path, tmp_path: Path) -> Iterator[Local]:
    """A copy of that board."""
    shutil.copytree(flashed, tmp_path / "board", symlinks=True)
    yield Local(tmp_path / "board")


def root_of(board: Local) -> Path:
    """Return the agent's folder."""
    return board._folder / flashing.ROOT


def store_of(board: Local) -> Store:
    """Return what the agent works on."""
    return Store(str(root_of(board)))


def run(*arguments: str) -> tuple[int, str]:
    """Return exit code and output of a command; errors of ours keep their type."""
    result = CliRunner().invoke(group, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_the_commands(board: Local, keys: dict[str, Path]) -> None:
    folder, key = str(board._folder), str(keys["ours"])
    common = ("--board", "x86-64", "--local", folder, "--key", key, "--json", "-")
    code, said = run("flash", "swishnet-wide-int8", *common)
    value = json.loads(said)
    assert code == 0 and value["schema"] == "edge-bench/flash/1" and value["changed"] is True
    assert (value["slot"], value["version"], value["sha256"], value["state"]) == ("b", 2, NEW.sha256, "confirmed")
    again = json.loads(run("flash", "swishnet-wide-int8", *common)[1])
    assert again == {**value, "changed": False}
    back = json.loads(run("rollback", "--local", folder, "--json", "-")[1])
    assert (back["slot"], back["version"], back["floor"]["version"]) == ("a", 1, 2)
    status = json.loads(run("board", "status", "--local", folder, "--json", "-")[1])
    assert status["sha256"] == OLD.sha256 and status["state"] == "confirmed"
    code, said = run("rollback", "--local", folder)
    assert code == 2
    # below the floor: only when that is signed, and the floor stays
    assert run("flash", "swishnet-slim-float32", *common, "--version", "1")[0] == 2
    with pytest.raises(ConfigError, match="needs the --version"):
        run("flash", "swishnet-slim-int8", *common, "--allow-downgrade")


def test_many_boards(board: Local, tmp_path: Path, keys: dict[str, Path]) -> None:
    # the second is a host where nobody listens
    arguments = ("--local", str(board._folder), "--host", "127.0.0.1:9", "--json", "-")
    code, said = run("board", "status", *arguments)
    value = json.loads(said)
    assert code == 2 and value["schema"] == "edge-bench/board-status-many/1"
    states = {entry["host"]: entry["state"] for entry in value["boards"]}
    assert states == {"127.0.0.1:9": "failed", str(board._folder): "confirmed"}


def test_a_strangers_signature(board: Local, keys: dict[str, Path]) -> None:
    before = store_of(board).status()
    with pytest.raises(BoardError, match="not by a key that this board was enrolled with"):
        flashing.flash(board, NEW, PROFILE, keys["other"])
    assert store_of(board).status() == before and not list((root_of(board) / "slots/b").iterdir())


def test_another_kind_of_board(board: Local, keys: dict[str, Path]) -> None:
    with pytest.raises(BoardError, match="is enrolled as x86-64, not pi4"):
        flashing.flash(board, NEW, load("pi4"), keys["ours"])
    with pytest.raises(BoardError, match="runs no Python"):
        enrol.enrol(board, load("pico"), [keys["ours"]], python=sys.executable)
    small = dataclasses.replace(PROFILE, budget=dataclasses.replace(PROFILE.budget, ram=1000))
    with pytest.raises(BoardError, match="bytes of ram, the budget of x86-64 is 1000"):
        flashing.flash(board, NEW, small, keys["ours"])


@pytest.mark.slow
def test_other_keys_need_the_old_one(board: Local, keys: dict[str, Path]) -> None:
    with pytest.raises(BoardError, match=r"is enrolled with another key.*--old-key"):
        enrol.enrol(board, PROFILE, [keys["other"]], python=sys.executable)
    with pytest.raises(BoardError, match="not by a key"):
        enrol.enrol(board, PROFILE, [keys["other"]], old_key=keys["third"], python=sys.executable)
    before = store_of(board).status()
    after = enrol.enrol(board, PROFILE, [keys["other"]], old_key=keys["ours"], python=sys.executable)
    assert after["board"] == before["board"] and after["signers"] != before["signers"]
    with pytest.raises(BoardError, match="not by a key"):
        flashing.flash(board, NEW, PROFILE, keys["ours"])
    # what the old key brought stays valid in its slot
    store_of(board).verify("a")
    # the request cannot be used again
    with pytest.raises(BoardError, match="another moment"):
        enrol.change_signers(board, {**after, "counter": 1}, "x", keys["other"])


def test_enrolling_again_keeps_the_board(board: Local, keys: dict[str, Path]) -> None:
    before = store_of(board).status()
    assert enrol.enrol(board, PROFILE, [keys["ours"]], python=sys.executable) == {**before, "changed": True}
    with pytest.raises(BoardError, match="has no edge_runtime"):
        enrol.enrol(board, PROFILE, [keys["ours"]], python="/bin/false")


def test_two_flashers(board: Local, keys: dict[str, Path]) -> None:
    with (root_of(board) / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BoardError, match="another flash or rollback is at work"):
            flashing.flash(board, NEW, PROFILE, keys["ours"])


def test_no_agent(tmp_path: Path, keys: dict[str, Path]) -> None:
    with pytest.raises(BoardError, match="edge-bench board enrol"):
        flashing.flash(Local(tmp_path), NEW, PROFILE, keys["ours"])


def execute(board: Local, *arguments: str, stdin: bytes = b"") -> Any:
    """Run ``agent exec``."""
    return board.run([f"{flashing.ROOT}/agent", "exec", *arguments], stdin=stdin, timeout_s=120)


def test_exec_listens_with_the_active_bundle(board: Local) -> None:
    done = execute(board, "listen", "-", "--lines", stdin=bytes(64000))
    assert done.code == 0 and b"swishnet-slim-int8: a label" in done.stderr, done


def test_exec_refuses_what_was_altered(board: Local) -> None:
    bundle = root_of(board) / "slots/a/bundle.tflite"
    data = bytearray(bundle.read_bytes())
    data[30000] ^= 1
    bundle.write_bytes(data)
    done = execute(board, "listen", "-", stdin=bytes(64000))
    assert done.code == 2 and b"no slot is active" in done.stderr
    assert "altered or damaged storage" in (root_of(board) / "log").read_text()
    assert b"exec takes one of listen" in execute(board, "train").stdout


def stand_in(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program on the path, before all others."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_old_and_missing_ssh_keygen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signatures.check_program()
    # what OpenSSH 7.9 says
    stand_in(tmp_path / "old", "ssh-keygen", "echo 'unknown option -- Y' >&2; exit 1", monkeypatch)
    with pytest.raises(Refused, match=r"knows no -Y verify.*OpenSSH 8\.1"):
        signatures.check_program()
    with pytest.raises(Refused, match=r"OpenSSH 8\.1"):
        signatures.verify("/dev/null", "x", b"", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=r"is missing here.*OpenSSH 8\.1"):
        signatures.check_program()


def test_signing_errors(tmp_path: Path, keys: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="no such key"):
        flashing.sign(b"x", tmp_path / "none", "n")
    (tmp_path / "bad").write_text("no key")
    with pytest.raises(ConfigError, match="cannot sign"):
        flashing.sign(b"x", tmp_path / "bad", "n")
    with pytest.raises(ConfigError, match="no such key"):
        enrol.public_key(tmp_path / "none")
    with pytest.raises(ConfigError, match="no public key"):
        enrol.public_key(tmp_path / "bad")
    assert enrol.public_key(keys["ours"]) == enrol.public_key(keys["ours"].with_name("ours.pub"))
    alone = tmp_path / "alone"
    shutil.copy(keys["ours"], alone)
    assert enrol.public_key(alone) == enrol.public_key(keys["ours"])


MANIFEST = manifest.Manifest(
    board="pi4-1", name="x", sha256="0" * 64, size=5, version=3, runtime="0.1.0", front_end="1" * 64, ram=6,
    allow_downgrade=False, counter=2,
)  # fmt: skip


def test_a_manifest_is_read_as_it_was_written() -> None:
    data = MANIFEST.encode()
    assert manifest.Manifest.parse(data) == MANIFEST
    value = json.loads(data)
    wrong = [
        b"", b"[]", b"{", data + b" ", data.replace(b":3", b":3.0"), data.replace(b"false", b"0"),
        data.replace(b":5", b":0"),
        json.dumps({**value, "more": 1}, sort_keys=True, separators=(",", ":")).encode(),
        json.dumps({k: v for k, v in value.items() if k != "ram"}, sort_keys=True, separators=(",", ":")).encode(),
        b'{"size":1,' + data[1:],
    ]  # fmt: skip
    for damaged in wrong:
        with pytest.raises(Refused):
            manifest.Manifest.parse(damaged)


@pytest.mark.parametrize("data", [b"", b"12", b"12 x\n", b"12\n", b"0 5\n", b"99999999 5\n", b"5 5\nabc", b"x" * 100])
def test_headers_that_make_no_sense(data: bytes) -> None:
    with pytest.raises(Refused, match="the transfer was cut"):
        steps.read_header(io.BytesIO(data))


@pytest.mark.parametrize(
    ("version", "changes", "said"),
    [
        (4, {}, ""),
        (3, {"counter": 7}, ""),
        (3, {}, "signed for an earlier moment"),
        (3, {"counter": 7, "sha256": "1" * 64}, "another content"),
        (2, {"counter": 7}, "below the floor 3"),
        (2, {"allow_downgrade": True}, "signed for an earlier moment"),
        (2, {"allow_downgrade": True, "counter": 7}, ""),
    ],
)
def test_which_versions_may_follow(board: Local, version: int, changes: dict[str, Any], said: str) -> None:
    store = store_of(board)
    store.state |= {"floor": {"version": 3, "sha256": "0" * 64}, "counter": 7}
    made = dataclasses.replace(MANIFEST, version=version, **changes)
    if not said:
        steps.follows(store, made)
        return
    with pytest.raises(Refused, match=said):
        steps.follows(store, made)


def test_the_agent_is_one_file_of_the_standard_library() -> None:
    data = enrol.agent_file()
    assert data == enrol.agent_file()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {"__main__.py", "agent/steps.py", "agent/disk.py"} <= set(archive.namelist())
        text = "".join(archive.read(name).decode() for name in archive.namelist())
    assert "edge_runtime import" not in text and "import numpy" not in text


def test_an_enrolment_that_is_damaged(tmp_path: Path) -> None:
    for data in (b"", b"{}", b"[]", b'{"config": {"board": 1}, "allowed_signers": ""}'):
        with pytest.raises(Refused, match="damaged"):
            enrolment.enrol(str(tmp_path / "root"), data)
    assert not (tmp_path / "root").exists()
    with pytest.raises(Refused, match="no board is enrolled here"):
        Store(str(tmp_path))


COMMANDS = [["listen", "--lines"], ["segment", "/srv/in put", "--out", "/srv/50% $out"]]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("user", ["root", None])
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path, command: list[str], user: str | None) -> None:
    root = tmp_path / "a root"
    root.mkdir()
    (root / "agent").write_text("#!/bin/sh\n")
    (root / "agent").chmod(0o755)
    unit = tmp_path / "edge-bench.service"
    unit.write_text(service.unit_text(str(root), command, again_s=60, user=user))
    assert "Restart=always\nRestartSec=60" in unit.read_text() and ("User=" in unit.read_text()) == bool(user)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        ["systemd-analyze", "verify", *(["--user"] if user is None else []), str(unit)], capture_output=True, text=True,
        check=False, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    about = [line for line in done.stderr.splitlines() if "edge-bench" in line]
    assert about == [], done.stderr


@pytest.mark.slow
def test_the_service_restarts_with_the_switch(
    board: Local, tmp_path: Path, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # systemd itself does not run in a container: what is asked of it is recorded
    said = tmp_path / "said"
    script = f'echo "$*" >> "{said}"; echo ActiveState=active; echo Result=success'
    stand_in(tmp_path / "bin", "systemctl", script, monkeypatch)
    unit = {"command": ["listen", "--lines"], "again_s": 0, "folder": str(tmp_path / "units")}
    enrol.enrol(board, PROFILE, [keys["ours"]], python=sys.executable, service=unit)
    text = (tmp_path / "units/edge-bench.service").read_text()
    assert f"ExecStart={root_of(board)}/agent exec listen --lines" in text
    assert flashing.flash(board, NEW, PROFILE, keys["ours"])["unit"] == "edge-bench.service"
    lines = [line.removeprefix("--user ") for line in said.read_text().splitlines()]
    assert lines[:3] == ["daemon-reload", "enable edge-bench.service", "restart edge-bench.service"]
    # one that does not come up is a reason to go back
    stand_in(tmp_path / "bin", "systemctl", "echo ActiveState=failed; echo Result=exit-code", monkeypatch)
    with pytest.raises(flashing.RolledBackError, match=r"does not stay up.*rolled back to slot b"):
        flashing.flash(board, OLD, PROFILE, keys["ours"])
    assert store_of(board).status()["sha256"] == NEW.sha256


def test_a_services_command(board: Local, keys: dict[str, Path]) -> None:
    with pytest.raises(BoardError, match="a service runs one of listen"):
        enrol.enrol(board, PROFILE, [keys["ours"]], python=sys.executable, service={"command": ["train"]})
    with pytest.raises(Refused, match="line break"):
        service.unit_text("/x", ["listen", "a\nb"], again_s=0, user=None)


def test_front_end_hash_tells_front_ends_apart() -> None:
    assert len({front_end_sha256(OLD), front_end_sha256(read("swishnet-slim-float32"))}) == 1
    changed = dataclasses.replace(OLD, info={**OLD.info, "front_end": {**OLD.info["front_end"], "mel_bands": 33}})
    assert front_end_sha256(changed) != front_end_sha256(OLD)


def test_pin_asks_for_a_host() -> None:
    with pytest.raises(EdgeBenchError):
        run("board", "pin", "--host", "127.0.0.1:9", "--fingerprint", "SHA256:x")
