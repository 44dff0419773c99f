"""What goes wrong outside of the agent: the connection, the process, a second flasher, a disk that is really full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from board_bench import Bench

from edge_bench.boards.flashing import ask
from edge_bench.boards.transport import Ssh, Transport
from edge_runtime.errors import BoardError, UnreachableError


def _prepare(bench: Bench, template: str = "flashed") -> None:
    script = 'rm -rf "$1/root" && cp -a "$1/templates/$2" "$1/root"'
    bench.do(["sh", "-c", script, "sh", bench.there, template])


def _ended(bench: Bench) -> None:
    """Wait until no agent is at work any more."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            ask(bench.transport, bench.root, ["recover"])
            return
        except BoardError as error:
            assert "at work" in str(error), error
            time.sleep(0.05)
    raise AssertionError("an agent is at work still")


def _sound(bench: Bench) -> None:
    """Look what is active, recover, and flash, all with the installed agent alone."""
    found = bench.do(["sha256sum", f"{bench.root}/active/bundle.tflite"]).decode().split()[0]
    assert found in (bench.old.sha256, bench.new.sha256), found
    _ended(bench)
    bench.send_file(bench.root, "next")
    status = ask(bench.transport, bench.root, ["status"])
    assert (status["version"], status["state"], status["sha256"]) == (9, "confirmed", bench.new.sha256), status


def dropped_connections(bench: Bench, connect: Any) -> int:
    """The SSH connection goes: within the transfer, and while the agent is at work (which then goes on alone)."""
    data = bench.headers["new"] + Path(bench.new.path).read_bytes()
    places = [0, 100, len(data) // 3, len(data) // 2, len(data) - 1, len(data)]
    for place in places:
        _prepare(bench)
        transport: Ssh = connect()
        argv = [f"{bench.root}/agent", "flash"]
        session = subprocess.Popen(
            transport.command(argv), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )  # fmt: skip
        assert session.stdin is not None and session.stderr is not None
        session.stdin.write(data[:place])
        session.stdin.flush()
        if place == len(data):
            session.stderr.readline()  # it has begun
        os.kill(transport._master.pid, signal.SIGKILL)
        session.stdin.close()
        session.wait(60)
        session.stderr.close()
        try:
            transport.run(["true"])
            raise AssertionError("the connection stands still")
        except UnreachableError:
            pass
        transport.close()
        _ended(bench)
        if place < len(data):
            status = ask(bench.transport, bench.root, ["status"])
            assert status["sha256"] == bench.old.sha256, (place, status)
        _sound(bench)
    return len(places)


def killed_from_outside(bench: Bench) -> int:
    """The real agent, its real check processes and all, gets SIGKILL at moments spread over its run."""
    _prepare(bench)
    begun = time.monotonic()
    bench.send_file(bench.root, "new")
    whole = time.monotonic() - begun
    shares = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95)
    for share in shares:
        _prepare(bench)
        script = '"$1/agent" flash < "$2" & agent=$!; sleep "$3"; kill -9 $agent; wait $agent; exit 0'
        parcel = f"{bench.there}/parcels/new"
        bench.do(["sh", "-c", script, "sh", bench.root, parcel, f"{share * whole:.3f}"])
        _sound(bench)
    return len(shares)


def two_at_once(bench: Bench) -> int:
    """A second flasher, a rollback and a recover are refused while one is at work."""
    for command in ("flash", "rollback", "recover"):
        _prepare(bench, "two")
        script = 'flock "$1/lock" sh -c \'"$1/agent" "$3" < "$2"\' sh "$@"; exit 0'
        said = bench.do(["sh", "-c", script, "sh", bench.root, f"{bench.there}/parcels/third", command])
        assert "at work" in json.loads(said)["error"], said
        _sound(bench)
    return 3


def full_disk(bench: Bench, mounted: Path, transport: Transport) -> int:
    """A small file system on which room runs out at different places; `mounted` is empty."""
    count = 0
    for free in (0, 4, 16, 48, 64, 76, 80, 84, 100, 140):
        root = mounted / "root"
        script = 'rm -rf "$2"/* && cp -a "$1" "$2/root"'
        bench.do(["sh", "-c", script, "sh", f"{bench.there}/templates/flashed", str(mounted)])
        room = os.statvfs(mounted)
        filler = room.f_bavail * room.f_frsize - free * 1024
        (mounted / "filler").write_bytes(bytes(max(0, filler)))
        said = transport.run(["sh", "-c", '"$1/agent" flash < "$2"', "sh", str(root), f"{bench.there}/parcels/new"])
        answer = json.loads(said.stdout)
        assert (said.code == 2 and "disk" in answer["error"]) or said.code == 0, (free, answer)
        assert free < 80 or said.code == 0 or "needed" in answer["error"], (free, answer)
        found = bench.do(["sha256sum", f"{root}/active/bundle.tflite"]).decode().split()[0]
        assert found == (bench.new.sha256 if said.code == 0 else bench.old.sha256), (free, answer)
        (mounted / "filler").unlink()
        bench.send_file(str(root), "next")
        status = ask(transport, str(root), ["status"])
        assert (status["version"], status["sha256"]) == (9, bench.new.sha256), (free, status)
        count += 1
    return count


def power_cuts(bench: Bench, template: str = "flashed", command: str = "flash") -> int:
    """The power goes before and after every operation of an agent; see power_cuts.py for what is left then."""
    from power_cuts import cuts, lay_out

    record = Path(bench.there) / f"record {template} {command}"
    plan = {"record": str(record)}
    case = {"id": "record", "template": template, "command": [command], "wants": "fine", "plan": plan}
    bench.judge([case])
    cases = []
    for number, (when, left) in enumerate(cuts(Path(bench.there) / "templates" / template, record)):
        name = f"cut {template} {command} {number}"
        lay_out(left, Path(bench.there) / "templates" / name)
        cases.append({"id": f"{name}: {when}", "template": name, "begun": template, "command": None, "parcel": None})
    bench.judge(cases)
    return len(cases)
