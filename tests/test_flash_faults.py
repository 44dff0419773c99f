"""Over 300 ways in which a flash goes wrong, on a board behind a real sshd: an intact bundle is active after each, and
the next flash works. `python tests/test_flash_faults.py --json FILE` runs all of over 500 and writes how many.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import board_dropped
import board_groups
import pytest
import sshd
from board_bench import Bench, CheckServer

from edge_bench.boards.address import Address
from edge_bench.boards.profile import load
from edge_bench.boards.transport import Local, Ssh

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sshd.SSHD is None, reason="sshd is not installed (apt install openssh-server)"),
]


class Board:
    """This machine as a board behind sshd, and what its faults need."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        server, checks = sshd.Server(folder / "sshd"), CheckServer(folder)
        stack.callback(server.stop)
        stack.callback(checks.stop)
        self.folder = folder
        self.address = Address(f"{server.user}@127.0.0.1", server.port, server.options)
        transport = self.connect()
        stack.callback(transport.close)
        there = str(folder / "board")
        self.bench = Bench(transport, load("x86-64"), folder, there, sys.executable, server=checks.socket)

    def connect(self) -> Ssh:
        """Return another connection."""
        return Ssh(self.address)

    def full_disk(self) -> int:
        """See `board_dropped.full_disk`; 0 where nothing can be mounted."""
        place = self.folder / "small"
        place.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=448k", "tmpfs", str(place)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return 0
        try:
            return board_dropped.full_disk(self.bench, place, Local(self.folder))
        finally:
            subprocess.run(["umount", str(place)], check=True)


GROUPS: dict[str, Callable[[Board], int]] = {
    **{name: lambda board, group=group: group(board.bench) for name, group in board_groups.GROUPS.items()},
    "connection dropped": lambda board: board_dropped.dropped_connections(board.bench, board.connect),
    "killed from outside": lambda board: board_dropped.killed_from_outside(board.bench),
    "two at once": lambda board: board_dropped.two_at_once(board.bench),
    "disk full (tmpfs)": lambda board: board.full_disk(),
    "power cut while flashing": lambda board: board_dropped.power_cuts(board.bench),
    "power cut over a confirmed slot": lambda board: board_dropped.power_cuts(board.bench, "two"),
    "power cut at the first flash": lambda board: board_dropped.power_cuts(board.bench, "empty"),
    "power cut while rolling back": lambda board: board_dropped.power_cuts(board.bench, "two", "rollback"),
}
LEAST = {  # so that a group that lost its cases is noticed
    "killed while flashing": 45, "killed while flashing over a confirmed slot": 45, "killed at the first flash": 45,
    "killed while rolling back": 12, "disk fails while flashing": 35, "disk fails at the first flash": 35,
    "disk fails while rolling back": 6, "transfer cut": 30, "bit flipped on the way": 30, "wrong manifest": 24,
    "unfit bundle": 4, "tampered storage": 30, "connection dropped": 6, "killed from outside": 7,
    "power cut while flashing": 20, "power cut over a confirmed slot": 20, "power cut at the first flash": 20,
}  # fmt: skip

# the same faults from another state of the slots: by the command above only
AGAIN = {
    "killed while flashing over a confirmed slot", "killed at the first flash", "disk fails at the first flash",
    "power cut over a confirmed slot", "power cut at the first flash",
}  # fmt: skip


@contextmanager
def prepared(folder: Path) -> Iterator[Board]:
    """A board in a folder, taken down afterwards."""
    with ExitStack() as stack:
        yield Board(folder, stack)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A board for all groups."""
    with prepared(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.mark.parametrize("name", [name for name in GROUPS if name not in AGAIN])
def test_group(board: Board, name: str) -> None:
    count = GROUPS[name](board)
    if name == "disk full (tmpfs)" and count == 0:
        pytest.skip("needs the right to mount a tmpfs")
    assert count >= LEAST.get(name, 1)


def test_the_representative_cases(board: Board) -> None:
    assert board_groups.representative(board.bench) == 12


def main() -> None:
    """Run every group and write how many cases each had, and what they took."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--json", metavar="FILE", required=True)
    parser.add_argument("--only", metavar="TEXT", default="", help="groups whose name has this text")
    arguments = parser.parse_args()
    rows, begun = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder, prepared(Path(folder)) as made:
        for name, group in GROUPS.items():
            if arguments.only in name:
                start = time.monotonic()
                rows.append({"group": name, "cases": group(made), "seconds": round(time.monotonic() - start, 1)})
                print(f"{rows[-1]['cases']:4d} cases  {rows[-1]['seconds']:6.1f} s  {name}", flush=True)
    total = {"cases": sum(int(str(row["cases"])) for row in rows), "seconds": round(time.monotonic() - begun, 1)}
    print(f"{total['cases']:4d} cases  {total['seconds']:6.1f} s  in all")
    Path(arguments.json).write_text(
        json.dumps({"schema": "edge-bench/flash-faults/1", **total, "groups": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
